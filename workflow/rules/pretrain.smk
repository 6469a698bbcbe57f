# The attacker's surrogates, trained on clean data: one, or an ensemble, per seed.


rule pretrain:
    input:
        dataset=DATASET,
    output:
        weights=f"{SURROGATE}.safetensors",
        metrics=f"{SURROGATE}.metrics.json",
        card=f"{SURROGATE}.card.json",
    log:
        f"{LOG}/pretrain/{{surrogate}}/seed{{seed}}-{{member}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(
            program("pretrain"),
            pretrain_spec,
            pretrain_code,
            jobs=jobs_of(surrogates=study.surrogates),
        ),
        spec=told(pretrain_spec),
        code=told(pretrain_code),
        where=where,
        saving=saving,
        checkpoint=f"{CHECKPOINT}/pretrain/{{surrogate}}/seed{{seed}}-{{member}}.safetensors",
    shell:
        "python workflow/scripts/pretrain.py --spec {params.spec} --code {params.code}"
        " --dataset {input.dataset:q} {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " --weights {output.weights:q} --metrics {output.metrics:q} --card {output.card:q}"
        " > {log:q} 2>&1"


rule pretrained:
    input:
        [
            expand(
                rules.pretrain.output.weights,
                surrogate=surrogate.name,
                seed=seed,
                member=range(study.members(surrogate.name, seed)),
            )
            for surrogate in study.surrogates
            for seed in study.seeds
        ],
