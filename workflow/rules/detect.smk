# Detectors: they examine the finished victim of another row, once per attack and seed.


rule detect:
    input:
        dataset=DATASET,
        poisons=rules.craft.output.poisons,
        network=network_weights,
    output:
        found=f"{DETECTION}.safetensors",
        metrics=f"{DETECTION}.metrics.json",
        card=f"{DETECTION}.card.json",
    log:
        f"{LOG}/detect/{{attack}}/{{defense}}/seed{{seed}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(
            program("detect"),
            detect_spec,
            detect_code,
            jobs=jobs_of(study.attacks, rows(lambda row: row.detector is not None)),
        ),
        spec=told(detect_spec),
        where=where,
        settings=told(outcome_of),
    shell:
        "python workflow/scripts/detect.py --spec {params.spec} --dataset {input.dataset:q} {params.where:q}"
        " --poisons {input.poisons:q} --network {input.network:q} --found {output.found:q}"
        " --metrics {output.metrics:q} --card {output.card:q} --settings {params.settings}"
        " > {log:q} 2>&1"


DETECTED_CELLS = cells(lambda row: row.detector is not None)


rule detections:
    input:
        these(rules.detect.output.metrics, DETECTED_CELLS),
