# Victims: one per attack, defense and seed.


rule train:
    input:
        dataset=DATASET,
        poisons=rules.craft.output.poisons,
        pretrained=victim_pretrained,
        noise=train_noise,
    output:
        weights=f"{VICTIM}.safetensors",
        metrics=f"{VICTIM}.metrics.json",
        card=f"{VICTIM}.card.json",
    log:
        f"{LOG}/train/{{attack}}/{{defense}}/seed{{seed}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(train_spec, train_code),
        spec=told(train_spec),
        code=told(train_code),
        where=where,
        saving=saving,
        given=lambda wildcards, input: given("--pretrained", input.pretrained)
        + given("--noise", input.noise),
        checkpoint=f"{CHECKPOINT}/train/{{attack}}/{{defense}}/seed{{seed}}.safetensors",
    shell:
        "python workflow/scripts/train.py --spec {params.spec:q} --code {params.code:q}"
        " --dataset {input.dataset:q} {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " --poisons {input.poisons:q} {params.given:q}"
        " --weights {output.weights:q} --metrics {output.metrics:q} --card {output.card:q}"
        " > {log:q} 2>&1"


rule victims:
    input:
        expand(
            rules.train.output.weights,
            attack=ATTACKS,
            defense=[row.name for row in study.defenses],
            seed=SEEDS,
        ),
