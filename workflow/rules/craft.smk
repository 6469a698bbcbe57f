# Poisons: one set per attack and seed.


def craft_surrogates(wildcards):
    attack = study.attack(wildcards.attack)
    return expand(
        rules.pretrain.output.weights,
        surrogate=attack.surrogate,
        seed=wildcards.seed,
        member=range(attack.ensemble),
    )


def craft_spec(wildcards):
    attack = study.attack(wildcards.attack)
    surrogate = study.surrogate(attack.surrogate)
    return spec(
        dataset=plain(study.dataset),
        model=plain(surrogate.model),
        augmentation=plain(surrogate.recipe.augmentation),
        # What the results are set beside does not change the poisons.
        attack=plain(attack, "published"),
        seed=int(wildcards.seed),
    )


def craft_code(wildcards):
    attack = study.attack(wildcards.attack)
    model = study.surrogate(attack.surrogate).model
    return training_code("craft", [model], module_name("attacks", attack.method))


rule craft:
    input:
        data=dataset_files(),
        surrogates=craft_surrogates,
    output:
        poisons=f"{POISONS}.safetensors",
        card=f"{POISONS}.card.json",
    log:
        f"{LOG}/craft/{{attack}}/seed{{seed}}.log",
    params:
        spec=craft_spec,
        code=craft_code,
        where=where,
    threads: study.threads
    resources:
        gpu=int(ON_GPU),
    shell:
        "python workflow/scripts/craft.py --spec {params.spec:q} {params.where:q}"
        " --surrogates {input.surrogates:q} --poisons {output.poisons:q} --card {output.card:q}"
        " > {log:q} 2>&1"


rule poisons:
    input:
        expand(rules.craft.output.poisons, attack=ATTACKS, seed=SEEDS),
