"""What a config may say: every impossible value is one line that names the key and the cure."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.recipe import PUBLISHED, Recipe
from poisonlab.config.study import Study, read_study
from poisonlab.errors import SettingsError
from poisonlab.provenance import parse, spec

ROOT = Path(__file__).resolve().parents[2]
DELETE = object()

BASE: dict[str, Any] = {
    "study": "tiny",
    "dataset": {"source": "digits-on-photos", "train_size": 200, "test_size": 50},
    "seeds": [0, 1],
    "surrogates": [{"name": "base", "model": {"name": "small-resnet"}, "recipe": {"epochs": 10}}],
    "attacks": [{"name": "gm", "method": "gradient-matching", "surrogate": "base", "budget": 0.05}],
    "victim": {"model": {"name": "resnet18"}, "recipe": {"epochs": 20}},
    "defenses": [
        {"name": "none"},
        {"name": "friends", "apply": [
            {"method": "friendly-noise", "def_epoch": 5}, {"method": "random-noise", "distribution": "bernoulli"},
        ]},
    ],
}  # fmt: skip


def changed(*place: str | int, value: Any) -> dict[str, Any]:
    study = copy.deepcopy(BASE)
    inner: Any = study
    for key in place[:-1]:
        inner = inner.setdefault(key, {}) if isinstance(inner, dict) else inner[key]
    if value is DELETE:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return study


def complaint(values: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_study(values)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("config: ")
    assert "Value error" not in text
    return text


def test_the_base_is_fine() -> None:
    study = read_study(BASE)
    assert study.attack("gm").eps == 16
    assert study.surrogate("base").recipe.epochs == 10
    assert study.defense("none").friendly is None
    friendly = study.defense("friends").friendly
    assert friendly is not None
    assert friendly.zeta == 16
    assert study.shown_seed == 0


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("attacks", 0, "eps"), -1, ["attacks.0.eps", "-1"]),
        (("attacks", 0, "eps"), 0, ["attacks.0.eps"]),
        (("attacks", 0, "eps"), 256, ["attacks.0.eps", "255"]),
        (("attacks", 0, "eps"), float("nan"), ["attacks.0.eps"]),
        (("attacks", 0, "eps"), "much", ["attacks.0.eps", "much"]),
        (("attacks", 0, "budget"), 0.2, ["'gm'", "budget", "40 poisons", "0.1"]),
        (("attacks", 0, "budget"), 0, ["attacks.0.budget"]),
        (("attacks", 0, "budget"), 1.1, ["attacks.0.budget"]),
        (("attacks", 0, "method"), "magic", ["attacks.0", "magic", "gradient-matching"]),
        (("attacks", 0, "surrogate"), "other", ["'gm'", "surrogate", "'other'", "base"]),
        (("attacks", 0, "steps"), 0, ["attacks.0.steps"]),
        (("attacks", 0, "steps"), 1.5, ["attacks.0.steps"]),
        (("attacks", 0, "restarts"), 0, ["attacks.0.restarts"]),
        (("attacks", 0, "name"), DELETE, ["attacks.0.name", "missing"]),
        (("attacks",), [], ["attacks"]),
        (("attacks",), DELETE, ["attacks", "missing"]),
        (("defenses", 1, "apply", 0, "def_epoch"), 20, ["'friends'", "def_epoch 20", "20 epochs"]),
        (("defenses", 1, "apply", 0, "def_epoch"), -1, ["defenses.1.apply.0.def_epoch"]),
        (("defenses", 1, "apply", 0, "zeta"), 0, ["defenses.1.apply.0.zeta"]),
        (("defenses", 1, "apply", 0, "momentum"), 1, ["defenses.1.apply.0.momentum"]),
        (("defenses", 1, "apply", 0, "norm"), "l3", ["defenses.1.apply.0.norm", "l3", "linf"]),
        (("defenses", 1, "apply", 1, "distribution"), "cauchy", ["defenses.1.apply.1.distribution", "gaussian"]),
        (("defenses", 1, "apply", 1, "distribution"), DELETE, ["defenses.1.apply.1.distribution", "missing"]),
        (("defenses", 1, "apply", 1, "method"), "prayer", ["defenses.1.apply.1", "prayer", "friendly-noise"]),
        (("defenses", 1, "apply", 1, "method"), DELETE, ["defenses.1.apply.1", "method"]),
        (("defenses", 1, "name"), "none", ["defenses", "none"]),
        (("defenses",), [], ["defenses"]),
        (("seeds",), [], ["seeds"]),
        (("seeds",), [1, 2, 1], ["seeds", "1"]),
        (("seeds",), [-1], ["seeds.0"]),
        (("seeds",), 3, ["seeds"]),
        (("seeds",), DELETE, ["seeds", "missing"]),
        (("study",), "../etc", ["study"]),
        (("study",), "a/b", ["study"]),
        (("study",), ".hidden", ["study"]),
        (("study",), "Big", ["study"]),
        (("study",), "a b", ["study"]),
        (("study",), "a\n", ["study"]),
        (("study",), "a_b", ["study"]),
        (("study",), "", ["study"]),
        (("study",), "a" * 61, ["study"]),
        (("results",), "../out", ["results"]),
        (("results",), "a/../../out", ["results", ".."]),
        (("results",), "/tmp", ["results"]),
        (("defenses", 0, "name"), "x/../../y", ["defenses.0.name"]),
        (("attacks", 0, "name"), "a;b", ["attacks.0.name"]),
        (("victim", "recipe", "milestones"), [5, 20], ["victim.recipe", "milestone 20", "20 epochs"]),
        (("victim", "recipe", "milestones"), [5, 3], ["victim.recipe", "increase"]),
        (("victim", "recipe", "milestones"), [5, 5], ["victim.recipe", "increase"]),
        (("victim", "recipe", "base"), "friend-paper", ["victim.recipe", "friend-paper", "friends-paper"]),
        (("victim", "recipe", "warmup_epochs"), 21, ["victim.recipe", "warmup_epochs", "21"]),
        (("victim", "recipe", "lr"), 0, ["victim.recipe.lr"]),
        (("victim", "recipe", "lr"), float("nan"), ["victim.recipe.lr"]),
        (("victim", "recipe", "schedule"), "step", ["victim.recipe.schedule", "steps"]),
        (("victim", "recipe", "augmentation"), {"kind": "warp"}, ["victim.recipe.augmentation.kind", "crop"]),
        (("victim", "model", "name"), "vgg", ["victim.model", "vgg", "resnet18"]),
        (("surrogates", 0, "model", "width"), 0, ["surrogates.0.model", "width"]),
        (("dataset", "source"), "imagenet", ["dataset", "imagenet", "cifar10"]),
        (("dataset", "train_size"), 3, ["dataset", "train_size"]),
        (("dataset",), "cifar10", ["dataset"]),
        (("threads",), 0, ["threads"]),
        (("device",), "tpu", ["device", "tpu", "cuda"]),
        (("figures", "seed"), 7, ["figures.seed", "7", "[0, 1]"]),
        (("figures", "landscape", "victims"), ["nobody"], ["figures.landscape.victims", "nobody", "friends"]),
    ],
)
def test_impossible_values_name_their_key(place: tuple[str | int, ...], value: Any, words: list[str]) -> None:
    text = complaint(changed(*place, value=value))
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        (("atacks",), "attacks"),
        (("defences",), "defenses"),
        (("attacks", 0, "epss"), "eps"),
        (("victim", "recipe", "epoch"), "epochs"),
        (("defenses", 1, "apply", 0, "zetas"), "zeta"),
        (("dataset", "contrst"), "contrast"),
    ],
)
def test_typos_get_a_suggestion(place: tuple[str | int, ...], meant: str) -> None:
    text = complaint(changed(*place, value=1))
    assert f"unknown key '{'.'.join(map(str, place))}'" in text
    assert f"did you mean '{meant}'?" in text


def test_names_that_repeat_are_refused() -> None:
    for section in ("surrogates", "attacks", "defenses"):
        study = copy.deepcopy(BASE)
        study[section].append(copy.deepcopy(study[section][0]))
        assert f"{section} repeats {study[section][0]['name']}" in complaint(study)


def test_friendly_noise_twice_in_a_row_is_refused() -> None:
    friendly = {"method": "friendly-noise"}
    assert "'none'" in complaint(changed("defenses", 0, "apply", value=[friendly, friendly]))


def test_several_problems_are_all_said() -> None:
    study = changed("attacks", 0, "eps", value=-1)
    study["threads"] = 0
    text = complaint(study)
    assert "attacks.0.eps" in text
    assert "threads" in text


@pytest.mark.parametrize(
    "place", [("victim", "recipe", "lr"), ("victim", "recipe", "weight_decay"), ("attacks", 0, "tau")]
)
def test_infinite_values_are_refused(place: tuple[str | int, ...]) -> None:
    assert str(place[-1]) in complaint(changed(*place, value=float("inf")))


def test_a_base_that_is_no_name_is_refused() -> None:
    complaint(changed("victim", "recipe", "base", value=["friends-paper"]))


def test_the_advised_budget_works() -> None:
    study = changed("dataset", "train_size", value=205)
    study["attacks"][0]["budget"] = 0.2
    advised = float(complaint(study).rsplit(" ", 1)[1])
    study["attacks"][0]["budget"] = advised
    read_study(study)


# --- recipes --------------------------------------------------------------------------------------------------------


def test_published_recipes() -> None:
    paper = Recipe(base="friends-paper")
    assert (paper.epochs, paper.milestones, paper.decay_norm_and_bias) == (80, (30, 50, 70), False)
    assert (paper.lr, paper.momentum, paper.nesterov, paper.weight_decay, paper.batch_size) == (
        0.1,
        0.9,
        True,
        5e-4,
        128,
    )
    assert (paper.augmentation.kind, paper.augmentation.pixels, paper.augmentation.flip) == ("shift", 4, True)
    released = Recipe(base="friends-released")
    assert (released.epochs, released.milestones) == (40, None)
    transfer = Recipe(base="friends-transfer")
    assert (transfer.epochs, transfer.milestones) == (40, (15, 25, 35))
    epic = Recipe(base="epic")
    assert (epic.milestones, epic.augmentation.kind) == ((30, 50, 70), "crop")
    brew = Recipe(base="witches-brew")
    assert (brew.epochs, brew.decay_norm_and_bias) == (40, True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_own_values_win_over_the_base(name: str) -> None:
    base, own = Recipe(base=name), Recipe(base=name, lr=0.05, batch_size=64)
    assert (own.lr, own.batch_size) == (0.05, 64)
    assert own.model_dump(exclude={"lr", "batch_size"}) == base.model_dump(exclude={"lr", "batch_size"})


def test_a_part_of_the_bases_augmentation_can_be_changed() -> None:
    own = Recipe(base="epic", augmentation={"pixels": 2}).augmentation
    assert (own.kind, own.pixels) == ("crop", 2)


def test_a_recipe_survives_the_command_line() -> None:
    study = read_study(changed("victim", "recipe", value={"base": "epic", "lr": 0.05}))
    recipe = study.victim.recipe
    plain = recipe.model_dump(mode="json", exclude={"base"})
    again = Recipe.model_validate(parse(spec(recipe=plain))["recipe"])
    assert again.model_copy(update={"base": "epic"}) == recipe


# --- files ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))], ids=lambda p: p.name
)
def test_shipped_configs_are_valid(path: Path) -> None:
    values = yaml.safe_load(path.read_text())
    if "study" not in values:
        values = {**yaml.safe_load((ROOT / "config.yaml").read_text()), **values}
    study = read_study(values)
    assert "none" in [row.name for row in study.defenses]
    # What jobs get on their command lines comes back as the same settings.
    strings = spec(**study.model_dump(mode="json"))
    assert Study.model_validate(parse(strings)) == study
