# Victims: one per attack, defense and seed.


rule train:
    input:
        dataset=DATASET,
        poisons=rules.craft.output.poisons,
        pretrained=victim_pretrained,
        keep=keep_list,
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
        *tracked(
            program("train"),
            train_spec,
            train_code,
            jobs=jobs_of(study.attacks, rows(lambda row: row.detector is None)),
        ),
        spec=told(train_spec),
        code=told(train_code),
        where=where,
        settings=told(outcome_of),
        saving=saving,
        given=given("pretrained", "keep", "noise"),
        checkpoint=f"{CHECKPOINT}/train/{{attack}}/{{defense}}/seed{{seed}}.safetensors",
    shell:
        "python workflow/scripts/train.py --spec {params.spec} --code {params.code}"
        " --dataset {input.dataset:q} {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " --poisons {input.poisons:q} {params.given:q}"
        " --weights {output.weights:q} --metrics {output.metrics:q} --card {output.card:q} --settings {params.settings}"
        " > {log:q} 2>&1"


TRAINED_CELLS = cells(lambda row: row.detector is None)


rule victims:
    input:
        these(rules.train.output.weights, TRAINED_CELLS),
