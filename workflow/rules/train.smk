# Victims: one per attack, defense and seed.


def train_noise(wildcards):
    friendly = study.defense(wildcards.defense).friendly
    return expand(rules.noise.output.noise, **wildcards) if friendly is not None else []


def train_defenses(row):
    """Of friendly noise a victim needs to know only when it starts; how it was made is in the file."""
    return [
        plain(defense) if defense.method != "friendly-noise" else {"method": defense.method, "def_epoch": defense.def_epoch}
        for defense in row.apply
    ]


def train_spec(wildcards):
    row = study.defense(wildcards.defense)
    return spec(
        **training_spec(study.victim.model, study.victim.recipe, wildcards),
        poisoned=row.poisoned,
        defenses=train_defenses(row),
    )


def train_code(wildcards):
    row = study.defense(wildcards.defense)
    defenses = [module_name("defenses", defense.method) for defense in row.apply]
    return training_code("train", [study.victim.model], *defenses)


rule train:
    input:
        data=dataset_files(),
        poisons=rules.craft.output.poisons,
        noise=train_noise,
    output:
        weights=f"{VICTIM}.safetensors",
        metrics=f"{VICTIM}.metrics.json",
        card=f"{VICTIM}.card.json",
    log:
        f"{LOG}/train/{{attack}}/{{defense}}/seed{{seed}}.log",
    params:
        spec=train_spec,
        code=train_code,
        where=where,
        saving=saving,
        noise=lambda wildcards, input: ["--noise", *input.noise] if input.noise else [],
        checkpoint=f"{CHECKPOINT}/train/{{attack}}/{{defense}}/seed{{seed}}.safetensors",
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    shell:
        "python workflow/scripts/train.py --spec {params.spec:q} --code {params.code:q}"
        " {params.where:q} {params.saving:q} --checkpoint {params.checkpoint:q}"
        " --poisons {input.poisons:q} {params.noise:q}"
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
