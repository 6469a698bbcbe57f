# Friendly noise: one file per attack, defense that uses it, and seed.


rule noise:
    input:
        dataset=DATASET,
        poisons=trained_poisons,
        pretrained=victim_pretrained,
        keep=keep_list,
    output:
        noise=f"{NOISE}.safetensors",
        card=f"{NOISE}.card.json",
    log:
        f"{LOG}/noise/{{attack}}/{{defense}}/seed{{seed}}.log",
    conda:
        "../../envs/conda.yaml"
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    params:
        *tracked(
            program("noise"),
            noise_spec,
            noise_code,
            jobs=jobs_of(study.attacks, rows(lambda row: row.friendly is not None)),
        ),
        spec=told(noise_spec),
        code=told(noise_code),
        where=where,
        saving=saving,
        given=given("poisons", "pretrained", "keep"),
        checkpoint=f"{CHECKPOINT}/noise/{{attack}}/{{defense}}/seed{{seed}}.safetensors",
    shell:
        "python workflow/scripts/noise.py --spec {params.spec} --code {params.code}"
        " --dataset {input.dataset:q} {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " {params.given:q} --noise {output.noise:q} --card {output.card:q}"
        " > {log:q} 2>&1"


NOISE_CELLS = cells(lambda row: row.friendly is not None)


rule noises:
    input:
        these(rules.noise.output.noise, NOISE_CELLS),
