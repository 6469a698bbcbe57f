# What each job is told and what it depends on: functions of the wildcards, one group per stage.


def plain(settings, *without):
    """Settings as plain values, the only kind that Snakemake tracks."""
    return settings.told(*without)


def training_spec(model, recipe, wildcards):
    return dict(
        model=plain(model),
        recipe=plain(recipe, "base"),
        seed=int(wildcards.seed),
    )


def dataset_spec():
    return spec(dataset=plain(study.dataset))


def dataset_code():
    return SOFTWARE + code_digests(
        "workflow/scripts/dataset.py", *roots("data", study.dataset.source)
    )


def training_code(script, models, *others):
    """Digests of a script, of the architectures and other modules it loads by name, and of all they import."""
    modules = {root for model in models for root in roots("models", model.name)}
    return SOFTWARE + code_digests(f"workflow/scripts/{script}.py", *sorted(modules), *others)


def program(script):
    """What every job of a script depends on."""
    return SOFTWARE + code_digests(f"workflow/scripts/{script}.py")


def asked(function):
    """A function of the wildcards and more, with its signature worked out: Snakemake wants it several times per job, and finding it
    takes longer than most of the functions."""
    function.__signature__ = inspect.signature(function)
    return function


def tracked(always, settings, code=None, jobs=None):
    """Positional params: the strings of ``always``, and what two functions of the wildcards return beyond it, ``settings`` as one param
    per string, ``code`` as one tuple.

    Snakemake compares params as a set of values: with one string per param, a changed setting is noticed alone and named in the
    reason. The number of params is fixed before the wildcards are known, so some stay None: at least one in every job, or a job more
    would change the set of the others. A function takes ten times as long as a string, in every job: with ``jobs``, wildcards of all
    that the rule can have, what these share is told as strings, and there are just as many functions as needed.
    """
    shared, slots = [], FEW
    if jobs:
        found = [set(settings(job)) for job in jobs]
        # Snakemake would take braces for wildcards, and fills in these.
        shared = [
            *sorted(string for string in set.intersection(*found) if "{" not in string),
            *(
                own
                for own in OWN
                if all(filled(own, **vars(job)) in strings for job, strings in zip(jobs, found))
            ),
        ]
        slots = max(len(beyond(settings(job), shared, job)) for job in jobs) + 1

    @once
    def strings(wildcards):
        found = beyond(settings(wildcards), shared, wildcards)
        assert len(found) < slots, "too many settings for the params of a rule"
        return found

    def slot(place):
        def of(wildcards):
            found = strings(wildcards)
            return found[place] if place < len(found) else None

        return asked(of)

    modules = once(lambda wildcards: tuple(beyond(code(wildcards), always, wildcards)))
    return [*always, *shared, *map(slot, range(slots)), *([asked(modules)] if code else [])]


# Slots for the settings of rules that have few jobs.
FEW = 64

# What a job's settings can have from its wildcards.
OWN = ('attack="{attack}"', 'defense="{defense}"', "member={member}", "seed={seed}")


def beyond(strings, patterns, wildcards):
    """The strings that no pattern becomes with the wildcards."""
    known = {
        filled(pattern, **vars(wildcards)) if "{" in pattern else pattern for pattern in patterns
    }
    return [string for string in strings if string not in known]


def kind_of(wildcards):
    """What jobs have in common that differ in nothing but their seed and member."""
    return tuple(vars(wildcards).get(name) for name in ("attack", "defense", "surrogate"))


def once(function):
    """A function of the wildcards that is worked out once for all jobs of a kind."""
    remembered = {}

    def of(wildcards):
        kind = kind_of(wildcards)
        if kind not in remembered:
            remembered[kind] = function(wildcards)
        return remembered[kind]

    return of


def jobs_of(attacks=None, rows=None, surrogates=None):
    """Wildcards for ``tracked``: every job that a target could ask for, with two numbers for whatever is numbered, which so is no
    part of what all share."""
    named = (attacks, rows, surrogates)
    names = ([None] if some is None else [each.name for each in some] for some in named)
    return [
        SimpleNamespace(attack=attack, defense=row, surrogate=surrogate, seed=number, member=number)
        for attack, row, surrogate in itertools.product(*names)
        for number in (0, 1)
    ]


def rows(chosen):
    """The rows that are ``chosen`` (by a function)."""
    return [row for row in study.rows if chosen(row)]


def alike(function):
    """As ``once``, for strings that differ between jobs of a kind in nothing but their seed and member."""

    @once
    def known(wildcards):
        found = function(wildcards)
        names = [string.partition("=")[0] for string in found]
        return found, [(names.index(name), name) for name in ("member", "seed") if name in names]

    def of(wildcards):
        found, numbered = known(wildcards)
        own = list(found)
        for place, name in numbered:
            own[place] = f"{name}={int(getattr(wildcards, name))}"
        return own

    return of


def fixed(strings):
    """As ``tracked``, for strings without wildcards. As functions, so that Snakemake leaves braces in them alone."""
    return [asked(lambda wildcards, string=string: string) for string in strings]


def told(function):
    """What ``tracked`` compares, quoted for the command line. Snakemake does not compare params that ask for threads."""
    # In one piece: Snakemake puts a command together three times per job, word by word.
    return asked(lambda wildcards, threads: shlex.join(function(wildcards)))


@asked
def where(wildcards, threads):
    """How a job runs rather than what it computes. Snakemake does not compare params that ask for threads."""
    sharing = ["--jobs-per-gpu", str(study.jobs_per_gpu)]
    return ["--device", study.device, "--threads", str(threads), *sharing]


@asked
def saving(wildcards, threads):
    """As ``where``: how often a training saves its state."""
    return ["--checkpoint-seconds", str(study.checkpoint_seconds)]


def given(*inputs):
    """Options named as the inputs, each with its files, if it has any."""

    @asked
    def of(wildcards, input):
        found = {name: getattr(input, name) for name in inputs}
        return [part for name, paths in found.items() if paths for part in (f"--{name}", *paths)]

    return of


def dataset_files():
    """The files the dataset is read from: when they change, so does everything."""
    return list(study.dataset.files)


def check_files():
    """A file that an attack lacks ends the workflow here, in one line; an input function would end in a traceback."""
    try:
        for attack in study.attacks:
            for seed in study.seeds_of(attack):
                attack.files(seed)
    except PoisonlabError as error:
        raise WorkflowError(str(error))


check_files()


def victim_of(wildcards):
    return study.victim_of(study.attack(wildcards.attack))


def row_of(wildcards):
    return study.defense(wildcards.defense)


def victim_model(wildcards):
    return study.model_of(victim_of(wildcards), row_of(wildcards))


def network_model(wildcards):
    """The architecture of the victim that a row's filters or detector look at."""
    return study.model_of(victim_of(wildcards), study.defense(row_of(wildcards).network))


@asked
def network_weights(wildcards):
    """Its weights, by pattern: the rule that trains it comes later."""
    cell = dict(attack=wildcards.attack, defense=row_of(wildcards).network, seed=wildcards.seed)
    return filled(f"{VICTIM}.safetensors", **cell)


@asked
def keep_list(wildcards):
    """The examples that a row's filters leave, if it has any."""
    return [filled(f"{KEEP}.safetensors", **wildcards)] if row_of(wildcards).filters else []


@alike
def pretrain_spec(wildcards):
    surrogate = study.surrogate(wildcards.surrogate)
    return spec(
        **training_spec(surrogate.model, surrogate.recipe, wildcards),
        member=int(wildcards.member),
        held_out_per_class=surrogate.held_out_per_class,
        apply=plain(surrogate)["apply"],
    )


@alike
def pretrain_code(wildcards):
    surrogate = study.surrogate(wildcards.surrogate)
    noises = [root for defense in surrogate.apply for root in roots("defenses", defense.method)]
    return training_code("pretrain", [surrogate.model], *noises)


@asked
def craft_surrogates(wildcards):
    attack = study.attack(wildcards.attack)
    return [
        filled(
            rules.pretrain.output.weights, surrogate=surrogate, seed=wildcards.seed, member=member
        )
        for surrogate in attack.surrogates
        for member in range(attack.pretrained_networks)
    ]


@asked
def craft_noise(wildcards):
    """The friendly noise of an earlier run, which an adaptive attacker knows."""
    adaptation = getattr(study.attack(wildcards.attack), "adaptation", None)
    if adaptation is None or adaptation.friendly_attack is None:
        return []
    earlier = dict(attack=adaptation.friendly_attack, defense=adaptation.friendly_defense)
    # By its pattern: the rule that makes noise comes after this one.
    return [filled(f"{NOISE}.safetensors", **earlier, seed=wildcards.seed)]


@asked
def craft_files(wildcards):
    return [str(path) for path in study.attack(wildcards.attack).files(int(wildcards.seed))]


@alike
def craft_spec(wildcards):
    attack = study.attack(wildcards.attack)
    return spec(
        surrogates=[
            dict(model=plain(surrogate.model), recipe=plain(surrogate.recipe, "base"))
            for surrogate in map(study.surrogate, attack.surrogates)
        ],
        # What the results are set beside does not change the poisons, nor do other seeds, nor the victim but for its images.
        attack=plain(attack, "published", "victim", "seeds"),
        fine_tune_per_class=study.victim_of(attack).fine_tune_per_class,
        seed=int(wildcards.seed),
    )


@alike
def craft_code(wildcards):
    attack = study.attack(wildcards.attack)
    models = [study.surrogate(name).model for name in attack.surrogates]
    noises = ["poisonlab.defenses.friendly_noise"] if craft_noise(wildcards) else []
    return training_code("craft", models, *roots("attacks", attack.method), *noises)


def start_of(wildcards):
    """How the victim begins."""
    return plain(victim_of(wildcards), "name", "model", "pretrained", "member", "recipe")


@asked
def victim_pretrained(wildcards):
    """The weights the victim begins from, if it does not begin from scratch."""
    victim = victim_of(wildcards)
    if victim.pretrained is None:
        return []
    weights = rules.pretrain.output.weights
    return [filled(weights, surrogate=victim.pretrained, seed=wildcards.seed, member=victim.member)]


def victim_spec(wildcards):
    return dict(
        **training_spec(victim_model(wildcards), victim_of(wildcards).recipe, wildcards),
        start=start_of(wildcards),
    )


@asked
def trained_poisons(wildcards):
    """The poisons, unless the row is a control."""
    return [filled(rules.craft.output.poisons, **wildcards)] if row_of(wildcards).poisoned else []


@alike
def filter_spec(wildcards):
    return spec(
        model=plain(network_model(wildcards)),
        start=start_of(wildcards),
        filters=[plain(chosen, "network") for chosen in row_of(wildcards).filters],
        seed=int(wildcards.seed),
    )


@alike
def filter_code(wildcards):
    row = row_of(wildcards)
    filters = [root for chosen in row.filters for root in roots("filters", chosen.method)]
    return training_code("filter", [network_model(wildcards)], *filters)


@alike
def detect_spec(wildcards):
    detector = row_of(wildcards).detector
    return spec(
        attack=wildcards.attack,
        defense=wildcards.defense,
        model=plain(network_model(wildcards)),
        detector=plain(detector, "network", "clean_share"),
        clean_share=detector.clean_share,
        seed=int(wildcards.seed),
    )


@alike
def detect_code(wildcards):
    detector = roots("detection", row_of(wildcards).detector.method)
    return training_code("detect", [network_model(wildcards)], *detector)


def begun(defense, wildcards):
    """A defense's settings with the epoch that friendly noise begins at for this victim."""
    settings = plain(defense, "def_epoch_pretrained")
    if defense.method == "friendly-noise":
        settings["def_epoch"] = defense.begins(victim_of(wildcards).scenario)
    return settings


@alike
def noise_spec(wildcards):
    row = study.defense(wildcards.defense)
    return spec(
        **victim_spec(wildcards), defenses=[begun(defense, wildcards) for defense in row.training]
    )


@alike
def noise_code(wildcards):
    row = study.defense(wildcards.defense)
    donor = row.friendly.donor or victim_model(wildcards)
    defenses = [root for defense in row.training for root in roots("defenses", defense.method)]
    # It checks the settings of the victim's architecture, whichever makes the noise.
    told = module_name("config.models", victim_model(wildcards).name)
    return training_code("noise", [donor], told, *defenses)


@asked
def train_noise(wildcards):
    friendly = study.defense(wildcards.defense).friendly
    return [filled(rules.noise.output.noise, **wildcards)] if friendly is not None else []


def train_defenses(row, wildcards):
    """Of friendly noise a victim needs to know only when it starts; how it was made is in the file."""
    settings = [begun(defense, wildcards) for defense in row.training]
    return [
        (
            {key: own[key] for key in ("method", "def_epoch")}
            if own["method"] == "friendly-noise"
            else own
        )
        for own in settings
    ]


@alike
def train_spec(wildcards):
    row = study.defense(wildcards.defense)
    return spec(
        **victim_spec(wildcards),
        attack=wildcards.attack,
        defense=wildcards.defense,
        poisoned=row.poisoned,
        defenses=train_defenses(row, wildcards),
    )


@alike
def train_code(wildcards):
    row = study.defense(wildcards.defense)
    defenses = [root for defense in row.training for root in roots("defenses", defense.method)]
    return training_code("train", [victim_model(wildcards)], *defenses)


def judged(cell):
    """Outcome and run card of a cell: of its own victim, or of what a detector makes of another one."""
    pattern = DETECTION if study.defense(cell["defense"]).detector is not None else VICTIM
    return [filled(f"{pattern}.{kind}.json", **cell) for kind in ("metrics", "card")]


def gathered(cell):
    """All files that a cell's trial is read from."""
    row = study.defense(cell["defense"])
    cards = [f"{NOISE}.card.json"] if row.friendly is not None else []
    cards += [f"{KEEP}.card.json"] if row.filters else []
    return [*judged(cell), *(filled(card, **cell) for card in cards)]


def outcome_settings(cell):
    """Digest of all settings that a cell's outcome depends on, whatever its seed: trials made elsewhere are compared by it."""
    pair = cell["attack"], cell["defense"]
    if pair not in OUTCOME_SETTINGS:
        OUTCOME_SETTINGS[pair] = digest_of(outcome_strings({**cell, "seed": 0}))
    return OUTCOME_SETTINGS[pair]


OUTCOME_SETTINGS = {}


def outcome_of(wildcards):
    """The same for the card of a job, as a list for ``told``."""
    return [outcome_settings(dict(attack=wildcards.attack, defense=wildcards.defense))]


def outcome_strings(cell):
    attack, row = study.attack(cell["attack"]), study.defense(cell["defense"])
    wildcards = SimpleNamespace(**cell)
    victim = study.victim_of(attack)
    networks = [*attack.surrogates, *([victim.pretrained] if victim.pretrained else [])]
    specs = {
        "dataset": dataset_spec(),
        "craft": craft_spec(wildcards),
        "outcome": detect_spec(wildcards) if row.detector else train_spec(wildcards),
        "start": [] if row.detector else [f"pretrained={victim.pretrained},{victim.member}"],
        "noise": noise_spec(wildcards) if row.friendly else [],
        "filter": filter_spec(wildcards) if row.filters else [],
    }
    for name in networks:
        specs[f"pretrain {name}"] = pretrain_spec(SimpleNamespace(surrogate=name, seed=0, member=0))
    if row.network is not None:
        specs["network"] = outcome_strings({**cell, "defense": row.network})
    adaptation = getattr(attack, "adaptation", None)
    if adaptation is not None and adaptation.friendly_attack is not None:
        earlier = dict(attack=adaptation.friendly_attack, defense=adaptation.friendly_defense)
        specs["adaptation"] = outcome_strings({**cell, **earlier})
    return [f"{stage} {string}" for stage, strings in specs.items() for string in strings]


def known_elsewhere():
    """Cells that trials from elsewhere answer, with this study's settings."""
    try:
        trials = [trial for path in study.merge for trial in read_trials(Path(path))]
    except PoisonlabError as error:
        raise WorkflowError(f"merge: {error}")
    wanted = {tuple(cell.values()): cell for cell in CELLS}
    return {
        trial.key
        for trial in trials
        if trial.key in wanted and trial.settings == outcome_settings(wanted[trial.key])
    }


ELSEWHERE = known_elsewhere()
LOCAL_CELLS = [cell for cell in CELLS if tuple(cell.values()) not in ELSEWHERE]


def standing_cells():
    """The local cells whose files are all there, whether they are current or not."""
    return [cell for cell in LOCAL_CELLS if all(map(os.path.exists, gathered(cell)))]


def trials_spec(some, settings):
    """Some cells, gathered by row, and what each row's victims cost besides their own training."""
    lines = []
    keys = {tuple(cell.values()) for cell in some}
    for attack, row in study.meetings():
        pair = dict(attack=attack.name, defense=row.name)
        seeds = [seed for seed in study.seeds_of(attack) if (attack.name, row.name, seed) in keys]
        if seeds:
            lines.append(
                dict(
                    **pair,
                    seeds=seeds,
                    settings=settings(pair),
                    detector=row.detector is not None,
                    noise=row.friendly is not None,
                    filter=bool(row.filters),
                    network=row.network,
                    network_settings=row.network
                    and outcome_settings({**pair, "defense": row.network}),
                )
            )
    return spec(lines=lines)


def table_lines(meetings=None):
    """Which trials belong to the rows of a table; to the study's if not given."""
    return [
        dict(
            attack=attack.name,
            defense=row.name,
            control=not row.poisoned,
            seeds=list(study.seeds_of(attack)),
            settings=outcome_settings(dict(attack=attack.name, defense=row.name)),
            called=row.published or row.name,
        )
        for attack, row in (LISTED if meetings is None else meetings)
    ]


# Who meets whom in the study's own tables and figures; ablations have theirs.
ROWS = {row.name for row in study.defenses}
LISTED = [(attack, row) for attack, row in study.meetings() if row.name in ROWS]


def tables_spec():
    return spec(
        description=study.description,
        scale=scale_of(study, study.attacks),
        lines=table_lines(),
        claims=[
            dict(attack=attack.name, **plain(attack.published[0]))
            for attack in study.attacks
            if attack.published
        ],
    )


def paper_table_spec(number):
    """The attacks that stand in one table of the paper."""
    attacks = [
        attack for attack in study.attacks if number in [place.table for place in attack.published]
    ]
    return spec(
        description=study.description,
        scale=scale_of(study, attacks),
        lines=table_lines(),
        claims=[
            dict(attack=attack.name, **plain(place))
            for attack in attacks
            for place in attack.published
            if place.table == number
        ],
    )


def ablation_spec(ablation):
    """The variants of one ablation, beside undefended training if the study has it."""
    some = [variant for variant in study.variants if variant.ablation == ablation.name]
    # All are tested against the study's row, also where it is not among them.
    rows = {"none", ablation.defense, *(variant.row.name for variant in some)}
    faced = ablation.attacks or study.defense(ablation.defense).attacks
    meetings = [
        (attack, row)
        for attack, row in study.meetings()
        if row.name in rows and (faced is None or attack.name in faced)
    ]
    return spec(
        description=study.description,
        scale=scale_of(study, list({attack.name: attack for attack, _ in meetings}.values())),
        **plain(ablation, "vary", "attacks"),
        settings=list(ablation.vary),
        lines=table_lines(meetings),
        variants=[
            dict(row=variant.row.name, values=dict(variant.values), own=variant.own)
            for variant in some
        ],
    )


def shown_seed(wildcards):
    return study.shown_seed(study.attack(wildcards.attack))


def shown_noise(wildcards):
    return filled(
        rules.noise.output.noise,
        attack=wildcards.attack,
        defense=friendly_rows(wildcards.attack)[0].name,
        seed=shown_seed(wildcards),
    )


def shown_poisons(wildcards):
    return filled(rules.craft.output.poisons, attack=wildcards.attack, seed=shown_seed(wildcards))


def friendly_rows(attack):
    """The rows that add friendly noise to this attack's poisons, unfiltered ones first: only they have noise for all."""
    rows = [
        row
        for row in study.defenses
        if row.friendly is not None and row.poisoned and row.faces(attack)
    ]
    return sorted(rows, key=lambda row: bool(row.filters))


def landscape_poison_surrogate(wildcards):
    return study.surrogate(study.attack(wildcards.attack).surrogates[0])


def landscape_poison_spec(wildcards):
    attack = study.attack(wildcards.attack)
    return spec(
        model=plain(landscape_poison_surrogate(wildcards).model),
        landscape=plain(study.figures.landscape, "victims", "directions", "weight_radius"),
        criterion=attack.target_criterion,
        seed=shown_seed(wildcards),
    )


def landscape_poison_code(wildcards):
    return training_code("landscape_poison", [landscape_poison_surrogate(wildcards).model])


def other_radius():
    """The setting that the landscapes of the victims do not use."""
    return "weight_radius" if study.figures.landscape.directions == "plain" else "radius"


def landscape_victims_spec(wildcards):
    return spec(
        model=plain(study.model_of(victim_of(wildcards))),
        landscape=plain(study.figures.landscape, other_radius())
        | {"victims": study.landscape_victims(wildcards.attack)},
        seed=shown_seed(wildcards),
    )


def landscape_victims_code(wildcards):
    return training_code("landscape_victims", [study.model_of(victim_of(wildcards))])


def curves_spec(wildcards):
    """Where the curves mark the begin of friendly noise."""
    rows = friendly_rows(wildcards.attack)
    begin = rows[0].friendly.begins(victim_of(wildcards).scenario) if rows else None
    return spec(**DRAWING, def_epoch=begin)


def histogram_spec(wildcards):
    """The random noises that friendly noise is set beside, and what bounds it."""
    friendly = friendly_rows(wildcards.attack)[0].friendly
    return spec(**DRAWING, noise=RANDOM_NOISES, friendly=dict(zeta=friendly.zeta))


def output_std_networks(wildcards):
    """Name, architecture and weights of each network: the surrogate, if the attack has one, and figure 3's victims."""
    attack, seed = study.attack(wildcards.attack), shown_seed(wildcards)
    victims = study.landscape_victims(attack.name)
    weights = expand(rules.train.output.weights, attack=attack.name, defense=victims, seed=seed)
    model = plain(study.model_of(study.victim_of(attack)))
    networks = [(dict(name=name, model=model), path) for name, path in zip(victims, weights)]
    for name in attack.surrogates[:1]:
        (path,) = expand(rules.pretrain.output.weights, surrogate=name, seed=seed, member=0)
        networks.insert(0, (dict(name="surrogate", model=plain(study.surrogate(name).model)), path))
    return networks


def output_std_spec(wildcards):
    return spec(
        networks=[network for network, _ in output_std_networks(wildcards)],
        output_std=plain(study.figures.output_std),
        seed=shown_seed(wildcards),
    )


def output_std_code(wildcards):
    attack = study.attack(wildcards.attack)
    models = [study.surrogate(name).model for name in attack.surrogates[:1]]
    if study.landscape_victims(attack.name):
        models.append(study.model_of(study.victim_of(attack)))
    return training_code("output_std", models)
