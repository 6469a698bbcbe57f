# Filters: one keep-list per attack, row with filters, and seed.


rule filter:
    input:
        dataset=DATASET,
        poisons=trained_poisons,
        network=network_weights,
    output:
        keep=f"{KEEP}.safetensors",
        card=f"{KEEP}.card.json",
    log:
        f"{LOG}/filter/{{attack}}/{{defense}}/seed{{seed}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(
            program("filter"),
            filter_spec,
            filter_code,
            jobs=jobs_of(study.attacks, rows(lambda row: row.filters)),
        ),
        spec=told(filter_spec),
        where=where,
        given=given("poisons"),
    shell:
        "python workflow/scripts/filter.py --spec {params.spec} --dataset {input.dataset:q} {params.where:q}"
        " {params.given:q} --network {input.network:q} --keep {output.keep:q} --card {output.card:q}"
        " > {log:q} 2>&1"


FILTER_CELLS = cells(lambda row: row.filters)


rule filters:
    input:
        these(rules.filter.output.keep, FILTER_CELLS),
