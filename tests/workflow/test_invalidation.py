"""The golden table: what reruns after which change.

``direct`` are the jobs that rerun because of the change itself, ``follows`` those that rerun because their inputs are
made again. Both are complete for all stages: a job too few would leave a stale result, a job too many would
waste a GPU. Figures and landscapes are checked by kind.

Every row is held against poisonlab.graph, which is what Snakemake compares; some rows of each kind also against
Snakemake itself.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from harness import STUDY, Checkout, Job, check_out
from predicting import Pristine, predict, state_of

ATTACKS = ("strong", "weak")
ROWS = ("clean", "none", "friendly", "friends-bernoulli")
FRIENDLY = ("friendly", "friends-bernoulli")
SEEDS = (0, 1)


def pretrain(seeds: tuple[int, ...] = SEEDS, member: int = 0) -> set[Job]:
    return {("pretrain", f"base/{seed}/{member}") for seed in seeds}


def craft(*attacks: str, seeds: tuple[int, ...] = SEEDS) -> set[Job]:
    return {("craft", f"{attack}/{seed}") for attack in attacks or ATTACKS for seed in seeds}


def noise(*rows: str, attacks: tuple[str, ...] = ATTACKS, seeds: tuple[int, ...] = SEEDS) -> set[Job]:
    return {
        ("noise", f"{attack}/scratch/{row}/{seed}") for attack in attacks for row in rows or FRIENDLY for seed in seeds
    }


def train(*rows: str, attacks: tuple[str, ...] = ATTACKS, seeds: tuple[int, ...] = SEEDS) -> set[Job]:
    return {("train", f"{attack}/scratch/{row}/{seed}") for attack in attacks for row in rows or ROWS for seed in seeds}


DATASET: set[Job] = {("dataset", "")}
TABLE: set[Job] = {("tables", "")}
TABLES = TABLE | {("trials", "")}
TARGETS = {
    "dataset": "results/data/tiny.safetensors",
    "pretrain": "pretrained",
    "craft": "poisons",
    "filter": "filters",
    "noise": "noises",
    "train": "victims",
    "detect": "detections",
    "trials": "results/tables/{study}-trials.csv",
    "tables": "results",
}
COMPUTED = pretrain() | craft() | noise() | train()


@dataclass(frozen=True)
class Case:
    """One row of the table."""

    name: str
    change: Callable[[Checkout], object]
    direct: set[Job] = field(default_factory=set)
    follows: set[Job] = field(default_factory=set)
    named: dict[Job, set[str]] = field(default_factory=dict)
    """What the reason of a job names as changed."""
    landscapes: bool = False
    """Whether landscape_* jobs rerun."""
    figures: bool | None = None
    """Whether figure_* jobs rerun; None: if any stage or landscape does."""
    paper: bool = True
    """Whether the paper's tables rerun where the study's do."""
    by_snakemake: bool = False
    """Whether Snakemake is asked, too."""
    by_graph: bool = True
    """Whether the graph knows of the change: it does not of Snakemake's records and commands."""


# --- Changes of the study ---


def setting(*place: str | int, to: Any) -> Callable[[Checkout], None]:
    """Set one value of the study."""

    def change(study: Any) -> None:
        for step in place[:-1]:
            study = study[step] if isinstance(study, list) else study.setdefault(step, {})
        study[place[-1]] = to

    return lambda checkout: checkout.change_study(change)


def friendly_noise(checkout: Checkout, **values: float) -> None:
    """Change the friendly noise of row friends-bernoulli."""
    checkout.change_study(lambda study: study["defenses"][3]["apply"][0].update(values))


def swap_lr_and_lam(checkout: Checkout) -> None:
    before = checkout.study()["defenses"][3]["apply"][0]
    friendly_noise(checkout, lr=before["lam"], lam=before["lr"])


def swap_steps_and_restarts(checkout: Checkout) -> None:
    checkout.change_study(lambda study: study["attacks"][0].update(steps=1, restarts=3))


def add_row(checkout: Checkout) -> None:
    row = {"name": "uniform", "apply": [{"method": "random-noise", "distribution": "uniform"}]}
    checkout.change_study(lambda study: study["defenses"].append(row))


# --- Changes of the files ---


def edited(file: str) -> Callable[[Checkout], None]:
    """A change of code, however small."""
    return lambda checkout: checkout.append(file, "\nCHANGED_BY_TEST = 1\n")


def commented(*files: str) -> Callable[[Checkout], None]:
    def change(checkout: Checkout) -> None:
        for file in files:
            checkout.append(file, "\n\n# A comment.\n")

    return change


def replaced(file: str, old: str, new: str) -> Callable[[Checkout], None]:
    return lambda checkout: checkout.replace(file, old, new)


def touch_sources(checkout: Checkout) -> None:
    for path in checkout.path.rglob("*"):
        if path.relative_to(checkout.path).parts[0] not in ("results", ".snakemake"):
            os.utime(path)


def add_ablation(checkout: Checkout) -> None:
    """Of its values one is the row's own."""
    ablation = {"name": "bound", "defense": "friends-bernoulli", "method": "friendly-noise", "vary": {"zeta": [8, 16]}}
    checkout.change_study(lambda study: study.update(ablations=[ablation]))


def add_ablation_of_an_attack(checkout: Checkout) -> None:
    """Likewise of the attack's."""
    ablation = {"name": "bound", "attack": "weak", "defenses": ["none", "friendly"], "vary": {"eps": [8, 24]}}
    checkout.change_study(lambda study: study.update(ablations=[ablation]))


def touch_results(checkout: Checkout) -> None:
    for path in (checkout.path / "results").rglob("*.safetensors"):
        os.utime(path)


def lose_records(checkout: Checkout) -> None:
    shutil.rmtree(checkout.path / ".snakemake")


def lose_records_and_change_zeta(checkout: Checkout) -> None:
    lose_records(checkout)
    friendly_noise(checkout, zeta=8)


def lose_records_and_touch_poisons(checkout: Checkout) -> None:
    lose_records(checkout)
    os.utime(checkout.path / "results/poisons/tiny/weak/seed1.safetensors")


def both(*changes: Callable[[Checkout], object]) -> Callable[[Checkout], object]:
    return lambda checkout: [change(checkout) for change in changes]


def later_field(checkout: Checkout) -> None:
    """A field that joins the settings of every training, with a default that changes nothing."""
    recipe = "src/poisonlab/config/recipe.py"
    checkout.replace(recipe, "from poisonlab.config.types import ", "from poisonlab.config.types import LATER, ")
    checkout.replace(recipe, "    compile: bool", "    average: Annotated[float, LATER] = 0.0\n    compile: bool")


def other_version(package: str) -> Callable[[Checkout], None]:
    """Change the locked version of a package wherever the lock names it."""

    def change(checkout: Checkout) -> None:
        path = checkout.path / "envs/requirements.lock"
        text = path.read_text(encoding="utf-8")
        assert f"\n{package}==" in text
        path.write_text(text.replace(f"\n{package}==", f"\n{package}==9."), encoding="utf-8")

    return change


CASES = [
    # Nothing that matters has changed.
    Case("nothing", lambda checkout: None),
    Case(
        "every file touched, and comments",
        both(
            touch_results,
            touch_sources,
            commented(
                "src/poisonlab/randomness.py",
                "src/poisonlab/training/loop.py",
                "workflow/scripts/train.py",
                "Snakefile",
                "config.yaml",
                STUDY,
            ),
        ),
        by_snakemake=True,
    ),
    Case("docstring", replaced("src/poisonlab/randomness.py", '"""A generator on', '"""One generator on')),
    Case(
        "docstring of a setting",
        replaced("src/poisonlab/config/data/digits_on_photos.py", '"""Strength of', '"""How strong is'),
    ),
    Case("keys in another order", lambda checkout: checkout.change_study(lambda study: None, sort_keys=True)),
    Case("16 written as 16.0", setting("attacks", 0, "eps", to=16.0)),
    Case("a default written out", setting("attacks", 0, "tau", to=0.1)),
    Case("module of another architecture", edited("src/poisonlab/models/lenet.py")),
    Case("module of another data source", edited("src/poisonlab/data/npz.py")),
    Case("new module of another attack", edited("src/poisonlab/attacks/second.py")),
    Case("new module of another defense", edited("src/poisonlab/defenses/second.py")),
    Case(
        "an architecture and a recipe more",
        both(
            edited("src/poisonlab/models/second.py"),
            edited("src/poisonlab/config/models/second.py"),
            edited("src/poisonlab/config/architectures.py"),
            replaced(
                "src/poisonlab/config/recipes.py", '    "witches-brew"', '    "new": {"epochs": 3},\n    "witches-brew"'
            ),
        ),
    ),
    Case("settings of another architecture", edited("src/poisonlab/config/models/lenet.py")),
    Case(
        "an attack, a defense, a filter and a figure more",
        # Their modules, and the unions that name their settings.
        lambda checkout: [
            edited(f"src/poisonlab/{file}.py")(checkout)
            for file in (
                *("attacks/second", "defenses/second", "filters/second", "figures/second"),
                *("config/attacks/second", "config/attack_settings", "config/study", "config/rows"),
            )
        ],
    ),
    Case("a measure more", edited("src/poisonlab/config/measures.py"), direct=TABLES),
    Case("a later field of settings", later_field),
    Case(
        "reworded messages and help texts",
        both(
            replaced("src/poisonlab/runtime/program.py", "out of memory on the GPU", "the GPU is full"),
            replaced("src/poisonlab/runtime/program.py", "seconds between two saves", "seconds from save to save"),
            replaced("src/poisonlab/models/networks.py", "was the config changed?", "check the config"),
            replaced("workflow/scripts/train.py", 'help="the poison set"', 'help="poisons"'),
        ),
    ),
    Case(
        "locks, cards, clocks and the rhythm of saves",
        both(*(edited(f"src/poisonlab/runtime/{name}.py") for name in ("gpus", "cards", "clock", "cadence", "remade"))),
    ),
    # How jobs run, not what they compute.
    Case("device", setting("device", to="auto")),
    Case("device: cuda", setting("device", to="cuda")),
    Case("threads", setting("threads", to=2)),
    Case("checkpoint_seconds", setting("checkpoint_seconds", to=60)),
    Case("capture", setting("capture", to="off")),
    Case("jobs per GPU", setting("jobs_per_gpu", to=2)),
    # Settings.
    Case("dpi", setting("figures", "drawing", "dpi", to=70), figures=True),
    Case(
        "an ablation added",
        add_ablation,
        direct=noise("bound-8") | train("bound-8") | {("trials", "")},
        follows=TABLE,
    ),
    Case(
        "an ablation of an attack added",
        add_ablation_of_an_attack,
        direct=craft("bound-24")
        | noise("friendly", attacks=("bound-24",))
        | train("none", "friendly", attacks=("bound-24",))
        | {("trials", "")},
        follows=TABLE,
    ),
    Case("points of the landscapes", setting("figures", "landscape", "points", to=4), landscapes=True),
    Case(
        "zeta of one row",
        lambda checkout: friendly_noise(checkout, zeta=8),
        direct=noise("friends-bernoulli") | TABLES,
        follows=train("friends-bernoulli"),
        named={("noise", "weak/scratch/friends-bernoulli/1"): {"defenses.0.zeta"}},
        by_snakemake=True,
    ),
    Case(
        "lr and lam exchange their values",
        swap_lr_and_lam,
        direct=noise("friends-bernoulli") | TABLES,
        follows=train("friends-bernoulli"),
        named={("noise", "strong/scratch/friends-bernoulli/0"): {"defenses.0.lr", "defenses.0.lam"}},
    ),
    Case(
        "steps and restarts exchange their values",
        swap_steps_and_restarts,
        direct=craft("strong") | TABLES,
        follows=noise(attacks=("strong",)) | train(attacks=("strong",)),
        named={("craft", "strong/0"): {"attack.steps", "attack.restarts"}},
        landscapes=True,
    ),
    Case(
        "def_epoch of one row",
        lambda checkout: friendly_noise(checkout, def_epoch=2),
        direct=noise("friends-bernoulli") | train("friends-bernoulli") | TABLES,
        named={
            ("noise", "strong/scratch/friends-bernoulli/0"): {"defenses.0.def_epoch"},
            ("train", "weak/scratch/friends-bernoulli/1"): {"defenses.0.def_epoch"},
        },
    ),
    Case(
        "magnitude of random noise",
        setting("defenses", 3, "apply", 1, "mu", to=8),
        direct=noise("friends-bernoulli") | train("friends-bernoulli") | TABLES,
        named={("train", "weak/scratch/friends-bernoulli/0"): {"defenses.1.mu"}},
    ),
    Case(
        "steps of one attack",
        setting("attacks", 0, "steps", to=4),
        direct=craft("strong") | TABLES,
        follows=noise(attacks=("strong",)) | train(attacks=("strong",)),
        named={("craft", "strong/1"): {"attack.steps"}},
        landscapes=True,
    ),
    Case(
        "ensemble of one attack",
        setting("attacks", 0, "ensemble", to=2),
        direct=pretrain(member=1) | craft("strong") | TABLES,
        follows=noise(attacks=("strong",)) | train(attacks=("strong",)),
        landscapes=True,
    ),
    Case(
        "published table of one attack",
        setting("attacks", 0, "published", to=[{"table": 1}]),
        direct=TABLE,
        named={("tables", ""): {"claims.0.table"}},
    ),
    Case(
        "lr of the surrogate",
        setting("surrogates", 0, "recipe", "lr", to=0.01),
        # The whole recipe is told to the attacker, who may train surrogates, too.
        direct=pretrain() | craft() | TABLES,
        follows=noise() | train(),
        named={("pretrain", "base/0/0"): {"recipe.lr"}},
        landscapes=True,
    ),
    Case(
        "augmentation of the surrogate",
        setting("surrogates", 0, "recipe", "augmentation", "pixels", to=1),
        direct=pretrain() | craft() | TABLES,
        follows=noise() | train(),
        named={("craft", "weak/0"): {"surrogates.0.recipe.augmentation.pixels"}},
        landscapes=True,
    ),
    Case(
        "lr of the victim",
        setting("victims", 0, "recipe", "lr", to=0.01),
        direct=noise() | train() | TABLES,
        named={("train", "weak/scratch/clean/1"): {"recipe.lr"}, ("noise", "weak/scratch/friendly/1"): {"recipe.lr"}},
        landscapes=True,
    ),
    Case(
        "contrast of the dataset",
        setting("dataset", "contrast", to=0.5),
        direct=DATASET | TABLES,
        follows=COMPUTED,
        named={("dataset", ""): {"dataset.contrast"}},
        landscapes=True,
    ),
    Case(
        "description",
        setting("description", to="Another."),
        direct=TABLE,
        named={("tables", ""): {"description"}},
    ),
    # More or fewer jobs.
    Case(
        "a seed more",
        setting("seeds", to=[0, 1, 2]),
        direct=pretrain((2,)) | craft(seeds=(2,)) | noise(seeds=(2,)) | train(seeds=(2,)) | TABLES,
        named={("trials", ""): {f"lines.{line}.seeds" for line in range(8)}},
        by_snakemake=True,
    ),
    Case(
        "a seed less",
        setting("seeds", to=[0]),
        direct=TABLES,
        named={("trials", ""): {f"lines.{line}.seeds" for line in range(8)}},
    ),
    Case("a row more", add_row, direct=train("uniform") | TABLES),
    Case("a row less", lambda checkout: checkout.change_study(lambda study: study["defenses"].pop(2)), direct=TABLES),
    Case(
        "rows in another order",
        lambda checkout: checkout.change_study(lambda study: study["defenses"].reverse()),
        direct=TABLES,
    ),
    Case(
        "a row on clean data",
        setting("defenses", 3, "poisoned", to=False),
        direct=noise("friends-bernoulli") | train("friends-bernoulli") | TABLES,
        named={("train", "weak/scratch/friends-bernoulli/0"): {"poisoned"}},
    ),
    # Code.
    Case(
        "module below everything",
        edited("src/poisonlab/randomness.py"),
        direct=COMPUTED,
        follows=TABLES,
        named={("craft", "weak/0"): {"src/poisonlab/randomness.py"}},
        landscapes=True,
    ),
    Case(
        "switches that make torch repeat its bits",
        edited("src/poisonlab/determinism.py"),
        direct=COMPUTED,
        follows=TABLES,
        named={("train", "weak/scratch/none/0"): {"src/poisonlab/determinism.py"}},
        landscapes=True,
    ),
    Case(
        "order of the hooks",
        replaced(
            "src/poisonlab/training/loop.py",
            "    for defense in defenses:\n        data = defense.prepare(data)",
            "    for defense in reversed(defenses):\n        data = defense.prepare(data)",
        ),
        direct=pretrain() | noise() | train(),
        follows=craft() | TABLES,
        landscapes=True,
    ),
    Case(
        "training loop",
        edited("src/poisonlab/training/loop.py"),
        direct=pretrain() | noise() | train(),
        follows=craft() | TABLES,
        landscapes=True,
    ),
    Case(
        "module of the attack",
        edited("src/poisonlab/attacks/gradient_matching.py"),
        direct=craft(),
        follows=noise() | train() | TABLES,
        named={("craft", "weak/0"): {"src/poisonlab/attacks/gradient_matching.py"}},
        landscapes=True,
    ),
    Case(
        "module of random noise",
        edited("src/poisonlab/defenses/random_noise.py"),
        # Gradient matching can be adapted to it.
        direct=craft() | noise("friends-bernoulli") | train("friends-bernoulli"),
        follows=noise() | train() | TABLES,
        named={("train", "weak/scratch/friends-bernoulli/0"): {"src/poisonlab/defenses/random_noise.py"}},
        landscapes=True,
    ),
    Case(
        "module of friendly noise",
        edited("src/poisonlab/defenses/friendly_noise.py"),
        direct=noise() | train(*FRIENDLY),
        follows=TABLES,
        by_snakemake=True,
    ),
    Case(
        "module of the data source",
        edited("src/poisonlab/data/digits_on_photos.py"),
        direct=DATASET,
        follows=COMPUTED | TABLES,
        landscapes=True,
    ),
    Case("module of the intervals", edited("src/poisonlab/evaluation/intervals.py"), direct=TABLE),
    Case("program of the tables", edited("workflow/scripts/tables.py"), direct=TABLE, paper=False),
    Case("program of the trials", edited("workflow/scripts/trials.py"), direct={("trials", "")}, follows=TABLE),
    Case("published numbers", replaced("reference/friends/table4.csv", "\n", " \n"), direct=TABLE, by_snakemake=True),
    Case(
        "command line of a rule",
        replaced("workflow/rules/stages.smk", '"{params.command}', '"nice {params.command}'),
        direct=DATASET,
        follows=COMPUTED | TABLES,
        landscapes=True,
        by_snakemake=True,
        by_graph=False,
    ),
    # Software.
    Case(
        "version of torch",
        other_version("torch"),
        direct=DATASET | COMPUTED,
        follows=TABLES,
        named={("pretrain", "base/0/0"): {"torch"}},
        landscapes=True,
    ),
    Case(
        "version of numpy, for this Python or another",
        replaced("envs/requirements.lock", "\nnumpy==", "\nnumpy==9."),
        direct=DATASET | COMPUTED,
        follows=TABLES,
        named={("train", "weak/scratch/none/0"): {"numpy"}},
        landscapes=True,
    ),
    Case("version of a tool", other_version("tqdm")),
    # Without Snakemake's records only times are left to compare: a changed setting goes unnoticed.
    Case("records lost, then zeta of one row", lose_records_and_change_zeta, by_snakemake=True, by_graph=False),
    Case(
        "records lost, then a poison set touched",
        lose_records_and_touch_poisons,
        direct=noise(attacks=("weak",), seeds=(1,)) | train(attacks=("weak",), seeds=(1,)),
        follows=TABLES,
        by_snakemake=True,
        by_graph=False,
    ),
]


def named(cases: list[Case], by_snakemake: bool) -> list[Any]:
    """A pytest parameter per case."""
    asked = [case for case in cases if (case.by_snakemake if by_snakemake else case.by_graph)]
    return [pytest.param(case, id=case.name) for case in asked]


def predicted(case: Case, pristine: Pristine) -> None:
    """Hold a case against the graph."""
    checkout = pristine.checkout
    try:
        case.change(checkout)
        plan = predict(pristine.state, state_of(checkout.path))
        published = any("published" in attack for attack in checkout.study()["attacks"])
    finally:
        pristine.restore()
    assert plan.stages(plan.direct) == case.direct
    assert plan.stages(plan.jobs) == case.direct | case.follows
    for job, names in case.named.items():
        assert plan.changed(job) == names
    assert plan.any("paper_table") == (case.paper and published and plan.stages(plan.jobs) >= TABLE)
    assert plan.any("landscape_poison", "landscape_victims", "output_std") == case.landscapes
    figures = case.figures if case.figures is not None else bool(case.direct) or case.landscapes
    assert plan.any("figure") == figures
    # It shows them all.
    assert plan.any("page") == (bool(case.direct) or case.landscapes or figures)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Pristine]:
    """Checkouts of studies by name, each made once: to read the code of another takes longer than all the rest."""
    folder = tmp_path_factory.mktemp("pristine")
    return cache(lambda study: Pristine(check_out(folder / study, Path(__file__).with_name(f"{study}.yaml"))))


@pytest.mark.parametrize("case", named(CASES, by_snakemake=False))
def test_change_reruns(case: Case, pristine: Callable[[str], Pristine]) -> None:
    predicted(case, pristine("tiny"))


@pytest.mark.workflow
@pytest.mark.parametrize("case", named(CASES, by_snakemake=True))
def test_snakemake_reruns(case: Case, copied: Checkout) -> None:
    check(case, copied)


def check(case: Case, copied: Checkout) -> None:
    lines = lines_of(copied.study())
    stood = {job for job in case.direct | case.follows if _has_outcome(copied, job)}
    case.change(copied)
    plan = copied.plan()
    assert plan.jobs() == case.direct | case.follows
    assert plan.direct() <= case.direct
    # Below a job that reruns, Snakemake tells no other reason: ask for that stage alone.
    hidden = {rule for rule, _ in case.direct - plan.direct()}
    hidden |= {rule for rule, _ in case.direct} & {rule for rule, _ in case.follows}
    # The tables cannot be asked for without the trials.
    for rules in _asked_together(hidden - ({"tables"} if ("trials", "") in case.direct else set())):
        targets = [TARGETS[rule].format(study=copied.study()["study"]) for rule in rules]
        alone = copied.plan(*targets, "--allowed-rules", *rules, *targets)
        assert alone.jobs() == alone.direct() == {job for job in case.direct if job[0] in rules}
        plan.reasons.update(alone.reasons)
    for job, names in case.named.items():
        assert plan.changed(job) == names
    if stood and ("trials", "") in case.direct and lines_of(copied.study()) == lines:
        # Trials from elsewhere would be refused for the rows whose victims rerun, and for no others.
        remade = {tuple(wildcards.split("/")[:3:2]) for _, wildcards in stood}
        refused = {name for name in plan.changed(("trials", "")) if name.endswith(".settings")}
        assert refused == {f"lines.{place}.settings" for place, pair in enumerate(lines) if pair in remade}
    published = any("published" in attack for attack in copied.study()["attacks"])
    assert bool(plan.paper_tables()) == (case.paper and published and plan.jobs() >= TABLE)
    drawings = plan.drawings()
    assert any(rule.startswith("landscape_") for rule in drawings) == case.landscapes
    figures = case.figures if case.figures is not None else bool(case.direct) or case.landscapes
    assert ("figure" in drawings) == figures
    # It shows them all.
    assert plan.report() == (bool(case.direct) or case.landscapes or figures)
    if not case.direct and not case.landscapes and not figures:
        assert plan.reasons == {}


def lines_of(study: Any) -> list[tuple[str, str]]:
    """Attack and row of every line of the tables."""
    return [
        (attack["name"], row["name"])
        for attack in study["attacks"]
        for row in study["defenses"]
        if attack["name"] in row.get("attacks", [attack["name"]])
    ]


def _has_outcome(study: Checkout, job: Job) -> bool:
    """Whether the job has trained or examined a victim before."""
    kind = {"train": "victims", "detect": "detections"}.get(job[0])
    if kind is None:
        return False
    *cell, seed = job[1].split("/")
    name = study.study()["study"]
    return (study.path / "results" / kind / name / "/".join(cell) / f"seed{seed}.metrics.json").exists()


def _asked_together(rules: set[str]) -> list[list[str]]:
    """Each rule by itself, but the trials beside one that makes nothing they are gathered from."""
    rounds = [[rule] for rule in sorted(rules - {"trials"})]
    if "trials" in rules:
        beside = next((asked for asked in rounds if asked[0] in ("dataset", "pretrain", "craft")), [])
        rounds = [asked for asked in rounds if asked is not beside] + [[*beside, "trials"]]
    return rounds


@pytest.mark.workflow
def test_undone_change_reruns_nothing(copied: Checkout) -> None:
    friendly_noise(copied, zeta=8)
    friendly_noise(copied, zeta=16)
    assert copied.plan().reasons == {}


@pytest.mark.workflow
def test_remade_artifacts_with_the_same_bytes_rerun_nothing_in_the_next_call(copied: Checkout) -> None:
    outcome = copied.snakemake("poisons", "--cores", "2", "--forcerun", "craft")
    assert outcome.code == 0, outcome.output
    assert "craft" in outcome.output
    assert copied.plan().reasons == {}


# --- Other scenarios and attacks: scenarios.yaml ---

PLAIN, ADAPTIVE, MOVED = "plain", "adaptive", "moved"
VICTIM_OF = {PLAIN: "scratch", ADAPTIVE: "scratch", MOVED: "transfer"}
FEATURES: set[Job] = {("pretrain", "features/0/0")}


def crafts(*attacks: str) -> set[Job]:
    return {("craft", f"{attack}/0") for attack in attacks}


def noises(*attacks: str) -> set[Job]:
    return {("noise", f"{attack}/{VICTIM_OF[attack]}/friendly/0") for attack in attacks}


def trains(*attacks: str, rows: tuple[str, ...] = ("none", "friendly")) -> set[Job]:
    return {("train", f"{attack}/{VICTIM_OF[attack]}/{row}/0") for attack in attacks for row in rows}


def moved_to(victim: str) -> set[Job]:
    """What another victim of the imported poisons needs."""
    return {
        ("noise", f"moved/{victim}/friendly/0"),
        *(("train", f"moved/{victim}/{row}/0") for row in ("none", "friendly")),
    }


def after_crafting(*attacks: str) -> set[Job]:
    return noises(*attacks) | trains(*attacks)


def other_poisons(checkout: Checkout) -> None:
    checkout.append("imported/seed0/14.png", "changed")


def more_poisons(checkout: Checkout) -> None:
    checkout.append("imported/seed0/15.png", "new")


def poisons_of_no_seed(checkout: Checkout) -> None:
    """Touch the poisons in use, and change those of a seed that is not in the study."""
    os.utime(checkout.path / "imported/seed0/3.png")
    checkout.append("imported/seed1/3.png", "changed")


SCENARIOS = [
    # The transfer victim, and what it begins as.
    Case(
        "recipe and images of the surrogate that the victim begins as",
        both(setting("surrogates", 1, "recipe", "lr", to=0.01), setting("surrogates", 1, "held_out_per_class", to=2)),
        direct=FEATURES | TABLES,
        follows=noises(MOVED) | trains(MOVED),
        named={("pretrain", "features/0/0"): {"recipe.lr", "held_out_per_class"}},
        landscapes=True,
    ),
    Case(
        "one network for all seeds, trained with another one",
        setting("surrogates", 1, "seed", to=7),
        direct={("pretrain", "features/7/0")} | noises(MOVED) | trains(MOVED) | TABLES,
        landscapes=True,
    ),
    Case(
        "one network for all seeds, that of the first",
        setting("surrogates", 1, "seed", to=0),
        direct=TABLES,
        figures=True,
    ),
    Case(
        "another surrogate for the victim to begin as",
        setting("victims", 1, "pretrained", to="base"),
        direct=noises(MOVED) | trains(MOVED) | TABLES,
        landscapes=True,
        by_snakemake=True,
    ),
    Case(
        "lr of the transfer victim",
        setting("victims", 1, "recipe", "lr", to=0.01),
        direct=noises(MOVED) | trains(MOVED) | TABLES,
        named={
            ("train", "moved/transfer/none/0"): {"recipe.lr"},
            ("noise", "moved/transfer/friendly/0"): {"recipe.lr"},
        },
        landscapes=True,
    ),
    Case(
        "batch norm of the transfer victim",
        setting("victims", 1, "batch_norm", to="train"),
        direct=noises(MOVED) | trains(MOVED) | TABLES,
        named={
            ("train", "moved/transfer/none/0"): {"start.batch_norm"},
            ("noise", "moved/transfer/friendly/0"): {"start.batch_norm"},
        },
        landscapes=True,
    ),
    Case(
        "images that the victim is fine-tuned on",
        setting("victims", 1, "fine_tune_per_class", to=5),
        direct=crafts(MOVED) | noises(MOVED) | trains(MOVED) | TABLES,
        named={
            ("craft", "moved/0"): {"fine_tune_per_class"},
            ("train", "moved/transfer/none/0"): {"start.fine_tune_per_class"},
        },
        landscapes=True,
    ),
    Case(
        "lr of the other victim",
        setting("victims", 0, "recipe", "lr", to=0.01),
        direct=noises(PLAIN, ADAPTIVE) | trains(PLAIN, ADAPTIVE) | TABLES,
        # Its noise is what the adaptive attacker knows.
        follows=crafts(ADAPTIVE),
        landscapes=True,
    ),
    # A victim of another name is another one.
    Case(
        "name of the victim",
        both(setting("victims", 1, "name", to="other"), setting("attacks", 2, "victims", to=["other"])),
        direct=moved_to("other") | TABLES,
        landscapes=True,
    ),
    Case(
        "modules that the study does not use",
        both(*(edited(f"src/poisonlab/attacks/{name}.py") for name in ("features", "metapoison", "poison_frogs"))),
    ),
    Case(
        "another victim of the imported attack",
        setting("attacks", 2, "victims", to=["scratch"]),
        direct=moved_to("scratch") | TABLES,
        landscapes=True,
    ),
    Case(
        "a victim more for the imported attack",
        setting("attacks", 2, "victims", to=["transfer", "scratch"]),
        direct=moved_to("scratch") | TABLES,
        # Figures are of the first.
        figures=True,
    ),
    Case(
        "def_epoch of victims from scratch",
        setting("defenses", 1, "apply", 0, "def_epoch", to=0),
        direct=noises(PLAIN, ADAPTIVE) | trains(PLAIN, ADAPTIVE, rows=("friendly",)) | TABLES,
        follows=crafts(ADAPTIVE) | trains(ADAPTIVE, rows=("none",)),
        named={("train", "plain/scratch/friendly/0"): {"defenses.0.def_epoch"}},
        landscapes=False,
    ),
    Case(
        "def_epoch of pretrained victims",
        setting("defenses", 1, "apply", 0, "def_epoch_pretrained", to=1),
        direct=noises(MOVED) | trains(MOVED, rows=("friendly",)) | TABLES,
        named={("noise", "moved/transfer/friendly/0"): {"defenses.0.def_epoch"}},
    ),
    # Poisons made elsewhere.
    Case(
        "a changed file",
        other_poisons,
        direct=crafts(MOVED),
        follows=after_crafting(MOVED) | TABLES,
        landscapes=True,
        by_snakemake=True,
    ),
    Case("a file more", more_poisons, direct=crafts(MOVED), follows=after_crafting(MOVED) | TABLES, landscapes=True),
    Case("poisons touched, or of no seed", poisons_of_no_seed),
    Case(
        "modules that read poisons",
        both(edited("src/poisonlab/attacks/imported.py"), edited("src/poisonlab/interchange/tensors.py")),
        direct=crafts(MOVED),
        follows=after_crafting(MOVED) | TABLES,
        named={("craft", "moved/0"): {"src/poisonlab/attacks/imported.py", "src/poisonlab/interchange/tensors.py"}},
        landscapes=True,
    ),
    # An attacker who knows the defense.
    Case(
        "zeta of the noise that the attacker knows",
        setting("defenses", 1, "apply", 0, "zeta", to=8),
        direct=noises(PLAIN, ADAPTIVE, MOVED) | TABLES,
        follows=crafts(ADAPTIVE) | trains(ADAPTIVE) | trains(PLAIN, MOVED, rows=("friendly",)),
    ),
    Case(
        "steps of the earlier run",
        setting("attacks", 0, "steps", to=4),
        direct=crafts(PLAIN) | TABLES,
        follows=crafts(ADAPTIVE) | after_crafting(PLAIN, ADAPTIVE),
        named={("craft", "plain/0"): {"attack.steps"}},
        landscapes=True,
    ),
    Case(
        "random noise that the attacker knows, too",
        setting("attacks", 1, "adaptation", "random_noise", to={"distribution": "bernoulli", "mu": 8}),
        direct=crafts(ADAPTIVE) | TABLES,
        follows=after_crafting(ADAPTIVE),
    ),
    # Code of the attacks.
    Case(
        "module of gradient matching",
        edited("src/poisonlab/attacks/gradient_matching.py"),
        direct=crafts(PLAIN),
        # By the noise it knows, not by the module.
        follows=crafts(ADAPTIVE) | after_crafting(PLAIN, ADAPTIVE) | TABLES,
        named={("craft", "plain/0"): {"src/poisonlab/attacks/gradient_matching.py"}},
        landscapes=True,
    ),
    Case(
        "module of Sleeper Agent",
        edited("src/poisonlab/attacks/sleeper_agent.py"),
        direct=crafts(ADAPTIVE),
        follows=after_crafting(ADAPTIVE) | TABLES,
        named={("craft", "adaptive/0"): {"src/poisonlab/attacks/sleeper_agent.py"}},
    ),
    Case(
        "module of what the two share",
        edited("src/poisonlab/attacks/matching.py"),
        direct=crafts(PLAIN, ADAPTIVE),
        follows=after_crafting(PLAIN, ADAPTIVE) | TABLES,
        named={
            ("craft", "plain/0"): {"src/poisonlab/attacks/matching.py"},
            ("craft", "adaptive/0"): {"src/poisonlab/attacks/matching.py"},
        },
        landscapes=True,
    ),
]


@pytest.mark.parametrize("case", named(SCENARIOS, by_snakemake=False))
def test_change_reruns_in_other_scenarios(case: Case, pristine: Callable[[str], Pristine]) -> None:
    predicted(case, pristine("scenarios"))


@pytest.mark.workflow
@pytest.mark.parametrize("case", named(SCENARIOS, by_snakemake=True))
def test_snakemake_reruns_in_other_scenarios(case: Case, copied_scenarios: Checkout) -> None:
    check(case, copied_scenarios)


# --- Filters, detectors, rows and seeds of one attack: defended.yaml ---

FILTERS = ("filtered", "chained", "again")
DETECTORS = ("strip", "neural-cleanse")
TRAINED = ("none", *FILTERS, "epic", "dp-sgd")
MET = (("strong", 0), ("strong", 1), ("weak", 1))
"""The attacks with their seeds."""


def met(rule: str, *rows: str) -> set[Job]:
    """The jobs of a rule for some rows: neural-cleanse does not face the weak attack."""
    return {
        (rule, f"{attack}/scratch/{row}/{seed}")
        for attack, seed in MET
        for row in rows
        if (attack, row) != ("weak", "neural-cleanse")
    }


AGAIN = met("filter", "again") | met("train", "again")
"""What looks at the victim of row filtered."""
EVERY_NOISE = met("noise", "chained")
EVERY_DETECTION = met("detect", *DETECTORS)
WEAK_WITH_SEED_0: set[Job] = {
    ("noise", "weak/scratch/chained/0"),
    ("detect", "weak/scratch/strip/0"),
    *(("filter", f"weak/scratch/{row}/0") for row in FILTERS),
    *(("train", f"weak/scratch/{row}/0") for row in TRAINED),
}


def new_row(name: str, *apply: dict[str, Any]) -> Callable[[Checkout], None]:
    row = {"name": name, "apply": list(apply)}
    return lambda checkout: checkout.change_study(lambda study: study["defenses"].append(row))


DEFENDED_CASES = [
    # Filters.
    Case(
        "neighbours of a filter",
        setting("defenses", 1, "apply", 0, "k", to=6),
        direct=met("filter", "filtered") | TABLES,
        follows=met("train", "filtered") | AGAIN,
        named={("filter", "weak/scratch/filtered/1"): {"filters.0.k"}},
        landscapes=True,
    ),
    Case(
        "neighbours of a filter in a chain",
        setting("defenses", 2, "apply", 1, "k", to=6),
        direct=met("filter", "chained") | TABLES,
        follows=EVERY_NOISE | met("train", "chained"),
        named={("filter", "strong/scratch/chained/0"): {"filters.1.k"}},
    ),
    Case(
        "network that a filter looks at",
        setting("defenses", 3, "apply", 0, "network", to="none"),
        direct=met("filter", "again") | TABLES,
        follows=met("train", "again"),
        # What it costs to train that network is another sum: for two rows, by place.
        named={
            ("trials", ""): {
                f"lines.{line}.{key}" for line in (3, 11) for key in ("network", "network_settings", "settings")
            }
        },
    ),
    # Detectors.
    Case(
        "settings of both detectors",
        both(
            setting("defenses", 4, "apply", 0, "far", to=0.2),
            setting("defenses", 5, "apply", 0, "clean_share", to=0.3),
        ),
        direct=EVERY_DETECTION | TABLES,
        named={
            ("detect", "weak/scratch/strip/1"): {"detector.far"},
            ("detect", "strong/scratch/neural-cleanse/1"): {"clean_share"},
        },
    ),
    Case(
        "network that a detector looks at",
        setting("defenses", 4, "apply", 0, "network", to="dp-sgd"),
        direct=met("detect", "strip") | TABLES,
        named={
            ("trials", ""): {
                f"lines.{line}.{key}" for line in (4, 12) for key in ("network", "network_settings", "settings")
            }
        },
    ),
    # What all look at.
    Case(
        "lr of the victim",
        setting("victims", 0, "recipe", "lr", to=0.01),
        direct=EVERY_NOISE | met("train", *TRAINED) | TABLES,
        follows=met("filter", *FILTERS) | EVERY_DETECTION,
        landscapes=True,
    ),
    # Rows and seeds.
    Case(
        "what a row's published numbers are called",
        setting("defenses", 6, "published", to="bernoulli"),
        direct=TABLE,
        named={("tables", ""): {"lines.6.called", "lines.13.called"}},
    ),
    Case(
        "the line of a row where attacks stand side by side",
        setting("defenses", 6, "joined_as", to="fewer"),
        direct=TABLE,
        named={("tables", ""): {"joined.0.line", "joined.0.rows"}},
        paper=False,
    ),
    Case(
        "a filtered row and a detector more",
        both(
            new_row("outliers", {"method": "one-class-svm", "network": "again"}, {"method": "abl"}),
            new_row("watched", {"method": "strip", "network": "chained"}),
        ),
        direct=met("filter", "outliers") | met("train", "outliers") | met("detect", "watched") | TABLES,
    ),
    Case(
        "an attack more for one row, one less for another",
        both(
            setting("defenses", 5, "attacks", to=["strong", "weak"]), setting("defenses", 7, "attacks", to=["strong"])
        ),
        direct={("detect", "weak/scratch/neural-cleanse/1")} | TABLES,
    ),
    Case(
        "a seed more for one attack",
        setting("attacks", 1, "seeds", to=[0, 1]),
        direct={("pretrain", "second/0/0"), ("craft", "weak/0")} | WEAK_WITH_SEED_0 | TABLES,
        # They show the attack's first seed.
        landscapes=True,
    ),
    # Code.
    Case(
        "module of a filter",
        edited("src/poisonlab/filters/deep_knn.py"),
        direct=met("filter", "filtered", "chained"),
        follows=EVERY_NOISE | met("train", "filtered", "chained") | AGAIN | TABLES,
        named={("filter", "weak/scratch/chained/1"): {"src/poisonlab/filters/deep_knn.py"}},
        landscapes=True,
    ),
    Case(
        "module of all filters",
        edited("src/poisonlab/filters/chain.py"),
        direct=met("filter", *FILTERS),
        follows=EVERY_NOISE | met("train", *FILTERS) | TABLES,
        named={("filter", "strong/scratch/again/0"): {"src/poisonlab/filters/chain.py"}},
        landscapes=True,
    ),
    Case(
        "module of a detector",
        edited("src/poisonlab/detection/strip.py"),
        direct=met("detect", "strip"),
        follows=TABLES,
        named={("detect", "strong/scratch/strip/1"): {"src/poisonlab/detection/strip.py"}},
    ),
    Case(
        "modules of EPIC",
        both(edited("src/poisonlab/defenses/epic.py"), edited("src/poisonlab/filters/epic.py")),
        direct=met("train", "epic"),
        follows=TABLES,
        named={("train", "weak/scratch/epic/1"): {"src/poisonlab/defenses/epic.py", "src/poisonlab/filters/epic.py"}},
    ),
    Case(
        "modules that the study does not use",
        both(
            edited("src/poisonlab/filters/one_class_svm.py"),
            edited("src/poisonlab/detection/second.py"),
            edited("src/poisonlab/defenses/abl.py"),
        ),
    ),
]


@pytest.mark.parametrize("case", named(DEFENDED_CASES, by_snakemake=False))
def test_change_reruns_with_filters_and_detectors(case: Case, pristine: Callable[[str], Pristine]) -> None:
    predicted(case, pristine("defended"))
