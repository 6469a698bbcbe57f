# Poisons: one set per attack and seed.


rule craft:
    input:
        dataset=DATASET,
        surrogates=craft_surrogates,
    output:
        poisons=f"{POISONS}.safetensors",
        card=f"{POISONS}.card.json",
    log:
        f"{LOG}/craft/{{attack}}/seed{{seed}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(craft_spec, craft_code),
        spec=told(craft_spec),
        where=where,
    shell:
        "python workflow/scripts/craft.py --spec {params.spec:q} --dataset {input.dataset:q} {params.where:q}"
        " --surrogates {input.surrogates:q} --poisons {output.poisons:q} --card {output.card:q}"
        " > {log:q} 2>&1"


rule poisons:
    input:
        expand(rules.craft.output.poisons, attack=ATTACKS, seed=SEEDS),
