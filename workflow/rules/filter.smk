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
        *tracked(program("filter"), filter_spec, filter_code, slots=40),
        spec=told(filter_spec),
        where=where,
        given=lambda wildcards, input: given("--poisons", input.poisons),
    shell:
        "python workflow/scripts/filter.py --spec {params.spec:q} --dataset {input.dataset:q} {params.where:q}"
        " {params.given:q} --network {input.network:q} --keep {output.keep:q} --card {output.card:q}"
        " > {log:q} 2>&1"


FILTER_CELLS = cells(lambda row: row.filters)


rule filters:
    input:
        these(rules.filter.output.keep, FILTER_CELLS),
