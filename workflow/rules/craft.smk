# Poisons: one set per attack and seed.


rule craft:
    input:
        dataset=DATASET,
        surrogates=craft_surrogates,
        noise=craft_noise,
        files=craft_files,
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
        *tracked(program("craft"), craft_spec, craft_code, jobs=jobs_of(study.attacks)),
        spec=told(craft_spec),
        code=told(craft_code),
        where=where,
        saving=saving,
        given=given("surrogates", "noise"),
        checkpoint=f"{CHECKPOINT}/craft/{{attack}}/seed{{seed}}.safetensors",
    shell:
        "python workflow/scripts/craft.py --spec {params.spec} --code {params.code}"
        " --dataset {input.dataset:q} {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " {params.given:q} --poisons {output.poisons:q} --card {output.card:q}"
        " > {log:q} 2>&1"


rule poisons:
    input:
        [
            path
            for attack in study.attacks
            for path in expand(
                rules.craft.output.poisons, attack=attack.name, seed=study.seeds_of(attack)
            )
        ],
