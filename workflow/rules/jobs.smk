# What each job is told and what it depends on: functions of the wildcards, one group per stage.


def plain(settings, *without):
    """Settings as plain values, the only kind that Snakemake tracks."""
    return settings.model_dump(mode="json", exclude=set(without))


def training_spec(model, recipe, wildcards):
    return dict(
        model=plain(model),
        recipe=plain(recipe, "base"),
        seed=int(wildcards.seed),
    )


def dataset_spec():
    return spec(dataset=plain(study.dataset))


def dataset_code():
    source = module_name("data", study.dataset.source)
    return SOFTWARE + code_digests("workflow/scripts/dataset.py", source)


def training_code(script, models, *others):
    """Digests of a script, of the architectures and other modules it loads by name, and of all they import."""
    modules = {module_name("models", model.name) for model in models}
    return SOFTWARE + code_digests(f"workflow/scripts/{script}.py", *sorted(modules), *others)


def tracked(*functions):
    """Positional params, one per string that the functions of the wildcards return.

    Snakemake compares params as a set of values: with one string per param, a changed setting is noticed alone and named in the
    reason. The number of params is fixed before the wildcards are known, so some stay None.
    """
    remembered = {}

    def strings(wildcards):
        key = tuple(sorted(wildcards.items()))
        if key not in remembered:
            remembered[key] = [string for function in functions for string in function(wildcards)]
            assert len(remembered[key]) <= TRACKED, "raise TRACKED in names.smk"
        return remembered[key]

    def slot(place):
        return lambda wildcards: (strings(wildcards) + [None] * TRACKED)[place]

    return [slot(place) for place in range(TRACKED)]


def fixed(strings):
    """As ``tracked``, for strings without wildcards. As functions, so that Snakemake leaves braces in them alone."""

    def slot(string):
        return lambda wildcards: string

    return [slot(string) for string in strings]


def told(function):
    """What ``tracked`` compares, as the command line needs it. Snakemake does not compare params that ask for threads."""
    return lambda wildcards, threads: function(wildcards)


def where(wildcards, threads):
    """How a job runs rather than what it computes. Snakemake does not compare params that ask for threads."""
    return ["--device", study.device, "--threads", str(threads)]


def saving(wildcards, threads):
    """As ``where``: how often a training saves its state."""
    return ["--checkpoint-seconds", str(study.checkpoint_seconds)]


def dataset_files():
    """The files the dataset is read from: when they change, so does everything."""
    from poisonlab.data.sources import files_of

    return files_of(study.dataset)


def pretrain_spec(wildcards):
    surrogate = study.surrogate(wildcards.surrogate)
    return spec(
        **training_spec(surrogate.model, surrogate.recipe, wildcards),
        member=int(wildcards.member),
    )


def pretrain_code(wildcards):
    return training_code("pretrain", [study.surrogate(wildcards.surrogate).model])


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


def noise_poisons(wildcards):
    poisoned = study.defense(wildcards.defense).poisoned
    return expand(rules.craft.output.poisons, **wildcards) if poisoned else []


def noise_spec(wildcards):
    row = study.defense(wildcards.defense)
    return spec(
        **training_spec(study.victim.model, study.victim.recipe, wildcards),
        defenses=plain(row)["apply"],
    )


def noise_code(wildcards):
    row = study.defense(wildcards.defense)
    donor = row.friendly.donor or study.victim.model
    defenses = [module_name("defenses", defense.method) for defense in row.apply]
    return training_code("noise", [donor], *defenses)


def train_noise(wildcards):
    friendly = study.defense(wildcards.defense).friendly
    return expand(rules.noise.output.noise, **wildcards) if friendly is not None else []


def train_defenses(row):
    """Of friendly noise a victim needs to know only when it starts; how it was made is in the file."""
    return [
        (
            plain(defense)
            if defense.method != "friendly-noise"
            else {"method": defense.method, "def_epoch": defense.def_epoch}
        )
        for defense in row.apply
    ]


def train_spec(wildcards):
    row = study.defense(wildcards.defense)
    return spec(
        **training_spec(study.victim.model, study.victim.recipe, wildcards),
        attack=wildcards.attack,
        defense=wildcards.defense,
        poisoned=row.poisoned,
        defenses=train_defenses(row),
    )


def train_code(wildcards):
    row = study.defense(wildcards.defense)
    defenses = [module_name("defenses", defense.method) for defense in row.apply]
    return training_code("train", [study.victim.model], *defenses)


def tables_spec():
    return spec(
        description=study.description,
        cells=[
            {
                **cell,
                "control": not study.defense(cell["defense"]).poisoned,
                "noise": NOISE_CELLS.index(cell) if cell in NOISE_CELLS else None,
            }
            for cell in CELLS
        ],
        published={
            attack.name: attack.published
            for attack in study.attacks
            if attack.published is not None
        },
    )


def shown_noise(wildcards):
    return expand(
        rules.noise.output.noise,
        attack=wildcards.attack,
        defense=FRIENDLY_ROWS[0].name,
        seed=SHOWN,
    )


def shown_poisons(wildcards):
    return expand(rules.craft.output.poisons, attack=wildcards.attack, seed=SHOWN)


def landscape_poison_spec(wildcards):
    attack = study.attack(wildcards.attack)
    return spec(
        model=plain(study.surrogate(attack.surrogate).model),
        landscape=plain(study.figures.landscape, "victims"),
        criterion=getattr(attack, "target_criterion", "cross-entropy"),
        seed=SHOWN,
    )


def landscape_poison_code(wildcards):
    attack = study.attack(wildcards.attack)
    return training_code("landscape_poison", [study.surrogate(attack.surrogate).model])
