"""What a config may say: every impossible value is one line that names the key and the cure."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.attacks.imported import Imported
from poisonlab.config.attacks.sleeper_agent import SleeperAgent
from poisonlab.config.recipe import Recipe
from poisonlab.config.recipes import PUBLISHED, NamedRecipe
from poisonlab.config.study import Study, read_study
from poisonlab.errors import SettingsError
from poisonlab.provenance import parse, spec

ROOT = Path(__file__).resolve().parents[2]
DELETE = object()

BASE: dict[str, Any] = {
    "study": "tiny",
    "paper": "friends",
    "compare": ["none"],
    "dataset": {"source": "digits-on-photos", "train_size": 200, "test_size": 50},
    "seeds": [0, 1],
    "surrogates": [{"name": "base", "model": {"name": "small-resnet"}, "recipe": {"epochs": 10}}],
    "attacks": [{"name": "gm", "method": "gradient-matching", "surrogate": "base", "budget": 0.05}],
    "victims": [{"name": "scratch", "model": {"name": "resnet18"}, "recipe": {"epochs": 20}}],
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
    assert study.shown_seed(study.attack("gm")) == 0


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("study",), "my_study", ["study: must be a name of small letters, digits, dots and dashes", "not 'my_study'"]),
        (("results",), "/tmp/x", ["results: must be a path below this folder", "not '/tmp/x'"]),
        (("seeds",), "0-3", ["seeds: must be a list, such as [0, 1, 2, 3], not '0-3'"]),
        (("seeds",), "3-0", ["seeds: must be a list, such as [3-0]"]),
        (("attacks", 0, "eps"), -1, ["attacks.0.eps", "-1"]),
        (("attacks", 0, "eps"), 0, ["attacks.0.eps"]),
        (("attacks", 0, "eps"), 256, ["attacks.0.eps", "255"]),
        (("attacks", 0, "eps"), float("nan"), ["attacks.0.eps"]),
        (("attacks", 0, "eps"), "much", ["attacks.0.eps", "much"]),
        (("attacks", 0, "budget"), 0.2, ["'gm'", "budget", "40 poisons", "0.1"]),
        (("attacks", 0, "budget"), 0, ["attacks.0.budget"]),
        (("attacks", 0, "budget"), 1.1, ["attacks.0.budget"]),
        (("attacks", 0, "method"), "magic", ["attacks.0.method:", "magic", "gradient-matching"]),
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
        (("defenses", 1, "apply", 1, "method"), "prayer", ["defenses.1.apply.1.method:", "prayer", "friendly-noise"]),
        (("defenses", 1, "apply", 1, "method"), DELETE, ["'defenses.1.apply.1.method' is missing"]),
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
        (("victims", 0, "recipe", "milestones"), [5, 20], ["victims.0.recipe", "milestone 20", "20 epochs"]),
        (("victims", 0, "recipe", "milestones"), [5, 3], ["victims.0.recipe", "increase"]),
        (("victims", 0, "recipe", "milestones"), [5, 5], ["victims.0.recipe", "increase"]),
        (("victims", 0, "recipe", "base"), "friend-paper", ["victims.0.recipe", "friend-paper", "friends-paper"]),
        (("victims", 0, "recipe", "warmup_epochs"), 21, ["victims.0.recipe", "warmup_epochs", "21"]),
        (("victims", 0, "recipe", "lr"), 0, ["victims.0.recipe.lr"]),
        (("victims", 0, "recipe", "lr"), float("nan"), ["victims.0.recipe.lr"]),
        (("victims", 0, "recipe", "schedule"), "step", ["victims.0.recipe.schedule", "steps"]),
        (("victims", 0, "recipe", "augmentation"), {"kind": "warp"}, ["victims.0.recipe.augmentation.kind", "crop"]),
        (("victims", 0, "model", "name"), "vgg", ["victims.0.model.name:", "vgg", "resnet18"]),
        (("surrogates", 0, "model", "width"), 0, ["surrogates.0.model", "width"]),
        (("dataset", "source"), "imagenet", ["dataset.source:", "imagenet", "cifar10"]),
        (("dataset", "train_size"), 3, ["dataset", "train_size"]),
        (("dataset",), "cifar10", ["dataset"]),
        (("threads",), 0, ["threads"]),
        (("device",), "tpu", ["device", "tpu", "cuda"]),
        (("capture",), "on", ["capture", "on", "auto"]),
        (("figures", "seed"), 7, ["figures.seed", "7", "[0, 1]"]),
        (("figures", "output_std"), {"magnitudes": [4, 2]}, ["figures.output_std.magnitudes", "must ascend"]),
        (("figures", "landscape", "directions"), "random", ["figures.landscape.directions", "filter-normalised"]),
        (("figures", "landscape", "victims"), ["nobody"], ["figures.landscape.victims", "nobody", "friends"]),
    ],
)
def test_impossible_values_name_their_key(place: tuple[str | int, ...], value: Any, words: list[str]) -> None:
    text = complaint(changed(*place, value=value))
    for word in words:
        assert word in text


def joined(*rows: dict[str, Any]) -> dict[str, Any]:
    other = {"name": "bp", "method": "bullseye-polytope", "surrogate": "base", "budget": 0.05}
    return {**BASE, "attacks": [*BASE["attacks"], other], "defenses": [{"name": "none"}, *rows]}


ONLY_GM, ONLY_BP = {"attacks": ["gm"]}, {"attacks": ["bp"]}


def test_rows_of_other_attacks_may_share_a_line() -> None:
    one, other = {"name": "a", "joined_as": "x", **ONLY_GM}, {"name": "b", "joined_as": "x", **ONLY_BP}
    study = read_study(joined(one, other, {"name": "c"}))
    assert [row.line for row in study.defenses] == ["none", "x", "x", "c"]
    # A row's own name is its line, too.
    assert [row.line for row in read_study(joined({"name": "x", **ONLY_GM}, other)).defenses] == ["none", "x", "x"]
    # Rows of an ablation stand in its own table.
    varied = {**one, "apply": [{"method": "random-noise", "distribution": "uniform", "mu": 16}]}
    ablation = {"name": "strength", "defense": "a", "method": "random-noise", "vary": {"mu": [8, 16]}}
    study = read_study({**joined(varied, other), "ablations": [ablation]})
    assert [row.joined_as for row in study.rows] == [None, "x", "x", None]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"name": "a", "joined_as": "x", **ONLY_GM}, {"name": "b", "joined_as": "x", **ONLY_GM}),
        ({"name": "a", "joined_as": "x"}, {"name": "b", "joined_as": "x", **ONLY_GM}),
        ({"name": "x", **ONLY_GM}, {"name": "b", "joined_as": "x", **ONLY_GM}),
        ({"name": "a", "joined_as": "x"}, {"name": "x"}),
    ],
)
def test_rows_that_face_one_attack_cannot_share_a_line(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert complaint(joined(one, other)) == (
        f"config: defenses '{one['name']}' and '{other['name']}' face attack 'gm', so they cannot share the line 'x': "
        "give one of them another joined_as"
    )


@pytest.mark.parametrize(("written", "read"), [("auto", "auto"), ("off", "off"), ('"off"', "off")])
def test_capture_is_off_though_yaml_reads_false(written: str, read: str) -> None:
    value = yaml.safe_load(f"capture: {written}")["capture"]
    assert read_study(changed("capture", value=value)).capture == read


@pytest.mark.parametrize(
    ("place", "meant"),
    [
        (("atacks",), "attacks"),
        (("defences",), "defenses"),
        (("attacks", 0, "epss"), "eps"),
        (("attacks", 0, "epsilon"), "eps"),
        (("victims", 0, "recipe", "epoch"), "epochs"),
        (("defenses", 1, "apply", 0, "zetas"), "zeta"),
        (("dataset", "contrst"), "contrast"),
        (("surrogates", 0, "recipe", "augmentation", "flips"), "flip"),
    ],
)
def test_typos_get_a_suggestion(place: tuple[str | int, ...], meant: str) -> None:
    text = complaint(changed(*place, value=1))
    assert f"unknown key '{'.'.join(map(str, place))}'" in text
    assert f"did you mean '{meant}'?" in text


def test_a_surrogate_given_twice_is_refused() -> None:
    """Of two equal surrogates each would have twice the weight."""
    assert complaint(changed("attacks", 0, "surrogate", value=["base", "base"])).endswith(": surrogate repeats base")


def test_a_suggestion_is_a_key_of_the_same_section() -> None:
    """``count`` and ``dropout`` are keys of detectors and networks."""
    folder = {"source": "image-folder", "root": "data"}
    for dataset, key in ((folder, "contrast"), (BASE["dataset"], "root")):
        text = complaint(changed("dataset", value={**dataset, key: 1}))
        assert f"unknown key 'dataset.{key}' of source {dataset['source']}" in text
        assert "did you mean" not in text


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    study = read_study(changed("dataset", value={"source": "npz", "path": "~/data.npz"}))
    assert study.dataset.files == ("/home/someone/data.npz",)
    study = read_study(changed("merge", value=["~/a-trials.csv", "there/~b-trials.csv"]))
    assert study.merge == ("/home/someone/a-trials.csv", "there/~b-trials.csv")


def test_a_key_that_belongs_elsewhere_is_not_suggested_for_itself() -> None:
    """``victim`` was a section once and is a key of an attack now."""
    old = changed("victims", value=DELETE) | {"victim": BASE["victims"][0]}
    text = complaint(old)
    assert "'victims' is missing" in text
    assert "unknown key 'victim' (did you mean 'victims'?)" in text


@pytest.mark.parametrize(
    ("value", "place", "words"),
    [
        ([], "attacks.0.surrogate:", "at least 1 item"),
        ("Bad Name", "attacks.0.surrogate:", "not 'Bad Name'"),
        (["base", "Bad Name"], "attacks.0.surrogate.1:", "not 'Bad Name'"),
        (5, "attacks.0.surrogate:", "not 5"),
    ],
)
def test_a_bad_surrogate_is_one_problem_in_terms_of_the_config(value: Any, place: str, words: str) -> None:
    text = complaint(changed("attacks", 0, "surrogate", value=value))
    assert place in text
    assert words in text
    assert ";" not in text
    assert "constrained" not in text


def test_no_victim_is_called_as_the_mean_over_victims() -> None:
    study = changed("victims", 0, "name", value="mean")
    read_study(study)
    assert "a victim is called 'mean'" in complaint({**study, "mean_over_victims": True})


def test_names_that_repeat_are_refused() -> None:
    for section in ("surrogates", "attacks", "victims", "defenses"):
        study = copy.deepcopy(BASE)
        study[section].append(copy.deepcopy(study[section][0]))
        assert f"{section} repeats {study[section][0]['name']}" in complaint(study)


# --- victims --------------------------------------------------------------------------------------------------------

TRANSFER: dict[str, Any] = {"name": "transfer", "scenario": "transfer", "pretrained": "base", "recipe": {"epochs": 20}}


@pytest.mark.parametrize(
    ("victim", "words"),
    [
        ({"name": "v"}, ["victims.0", "'v'", "from scratch", "give its model"]),
        ({**BASE["victims"][0], "pretrained": "base"}, ["victims.0", "'scratch'", "takes no pretrained"]),
        ({**BASE["victims"][0], "fine_tune_per_class": 5}, ["victims.0", "takes no fine_tune_per_class"]),
        ({**BASE["victims"][0], "member": 1}, ["victims.0", "takes no member"]),
        ({**BASE["victims"][0], "head": "kept"}, ["victims.0", "takes no head"]),
        ({**BASE["victims"][0], "batch_norm": "train"}, ["victims.0", "takes no batch_norm"]),
        ({**TRANSFER, "scenario": "fine-tune", "batch_norm": "train"}, ["'transfer'", "batch_norm", "has none"]),
        ({"name": "v", "scenario": "transfer"}, ["victims.0", "'v'", "transfer needs pretrained", "surrogate"]),
        ({"name": "v", "scenario": "fine-tune"}, ["victims.0", "'v'", "fine-tune needs pretrained", "surrogate"]),
        ({**TRANSFER, "model": {"name": "lenet"}}, ["victims.0", "'transfer'", "'base'", "take model away"]),
        ({**TRANSFER, "pretrained": "other"}, ["'transfer'", "pretrained 'other'", "['base']"]),
        ({**TRANSFER, "fine_tune_per_class": 21}, ["'transfer'", "fine_tune_per_class 21", "20 training images"]),
        ({**TRANSFER, "scenario": "transfr"}, ["victims.0.scenario", "transfr", "'transfer'"]),
        ({**TRANSFER, "batch_norm": "frozen"}, ["victims.0.batch_norm", "frozen", "'eval'"]),
        ({**TRANSFER, "member": -1}, ["victims.0.member", "-1"]),
    ],
)
def test_impossible_victims_are_one_line(victim: dict[str, Any], words: list[str]) -> None:
    text = complaint(changed("victims", value=[victim]))
    for word in words:
        assert word in text
    assert ";" not in text


def test_fine_tuning_on_a_whole_class_is_possible() -> None:
    read_study(changed("victims", value=[{**TRANSFER, "fine_tune_per_class": 20}]))


def test_the_budget_counts_the_images_that_the_victim_is_fine_tuned_on() -> None:
    study = changed("victims", value=[{**TRANSFER, "fine_tune_per_class": 5}])
    study["attacks"][0]["budget"] = 0.1
    read_study(study)
    study["attacks"][0]["budget"] = 0.11
    text = complaint(study)
    for word in ("'gm'", "6 poisons", "only 5 training images", "at most 0.1"):
        assert word in text


def test_an_attack_faces_its_victim_or_the_first() -> None:
    study = changed("victims", value=[*BASE["victims"], TRANSFER])
    study["attacks"].append({**BASE["attacks"][0], "name": "other", "victims": ["transfer"]})
    read = read_study(study)
    faced = [read.victims_of(attack)[0] for attack in read.attacks]
    assert [victim.name for victim in faced] == ["scratch", "transfer"]
    assert [read.model_of(victim).name for victim in faced] == ["resnet18", "small-resnet"]


def test_an_attack_on_an_unknown_victim_is_refused() -> None:
    text = complaint(changed("attacks", 0, "victims", value=["other"]))
    assert "attack 'gm' names victim 'other', which is not one of ['scratch']" in text


def test_friendly_noise_of_a_pretrained_victim_begins_at_an_epoch_of_its_own() -> None:
    """``def_epoch`` 5 is beyond a victim of 4 epochs unless that begins from a pretrained network."""
    scratch = changed("victims", 0, "recipe", "epochs", value=4)
    assert "def_epoch 5 is not below the 4 epochs of victim 'scratch'" in complaint(scratch)
    study = changed("victims", value=[{**TRANSFER, "recipe": {"epochs": 4}}])
    friendly = read_study(study).defense("friends").friendly
    assert friendly is not None
    assert [friendly.begins(scenario) for scenario in ("from-scratch", "transfer", "fine-tune")] == [5, 0, 0]
    study["defenses"][1]["apply"][0]["def_epoch_pretrained"] = 4
    text = complaint(study)
    for word in ("'friends'", "def_epoch 4", "4 epochs", "'transfer'"):
        assert word in text


# --- surrogates -----------------------------------------------------------------------------------------------------


def members(
    attacks: list[dict[str, Any]], victims: list[dict[str, Any]] | None = None, *, seed: int = 0
) -> dict[str, int]:
    """How many networks of the surrogates ``base`` and ``second`` a seed needs."""
    values = copy.deepcopy(BASE)
    values["surrogates"].append({**values["surrogates"][0], "name": "second"})
    values["attacks"] = [
        {"name": f"a{place}", "method": "gradient-matching", "surrogate": "base", "budget": 0.05, **attack}
        for place, attack in enumerate(attacks)
    ]
    values["victims"] = victims or values["victims"]
    study = read_study(values)
    return {surrogate.name: study.members(surrogate.name, seed) for surrogate in study.surrogates}


@pytest.mark.parametrize(
    ("attacks", "needed"),
    [
        ([{}], {"base": 1, "second": 0}),
        ([{"ensemble": 3}], {"base": 3, "second": 0}),
        ([{"ensemble": 3}, {"ensemble": 2}], {"base": 3, "second": 0}),
        ([{"ensemble": 2, "surrogate": ["base", "second"]}], {"base": 2, "second": 2}),
        ([{"method": "metapoison"}], {"base": 0, "second": 0}),
        # One to recognise the target; those it crafts on it trains itself.
        ([{"method": "metapoison", "target": "recognised"}], {"base": 1, "second": 0}),
        ([{"method": "sleeper-agent", "ensemble": 2}], {"base": 2, "second": 0}),
        ([{"method": "metapoison", "ensemble": 9}, {"surrogate": "second"}], {"base": 0, "second": 1}),
    ],
)
def test_as_many_surrogates_are_trained_as_the_attacks_need(
    attacks: list[dict[str, Any]], needed: dict[str, int]
) -> None:
    assert members(attacks) == needed


def test_imported_poisons_need_no_surrogate() -> None:
    study = read_study(changed("attacks", value=[{"name": "i", "method": "imported", "path": "poisons/{seed}"}]))
    assert study.members("base", 0) == 0


@pytest.mark.parametrize(
    ("member", "needed"),
    [(0, {"base": 1, "second": 1}), (2, {"base": 1, "second": 3})],
)
def test_a_surrogate_is_trained_for_the_victim_that_begins_as_it(member: int, needed: dict[str, int]) -> None:
    assert members([{}], [{**TRANSFER, "pretrained": "second", "member": member}]) == needed


def test_a_victim_that_no_attack_faces_needs_no_surrogate() -> None:
    assert members([{}], [*BASE["victims"], {**TRANSFER, "pretrained": "second"}]) == {"base": 1, "second": 0}


@pytest.mark.parametrize(("seed", "needed"), [(0, {"base": 3, "second": 0}), (1, {"base": 1, "second": 2})])
def test_a_seed_needs_only_the_surrogates_of_the_attacks_that_run_with_it(seed: int, needed: dict[str, int]) -> None:
    attacks = [{"ensemble": 3, "seeds": [0]}, {"ensemble": 2, "surrogate": "second", "seeds": [1]}, {}]
    assert members(attacks, seed=seed) == needed


@pytest.mark.parametrize(("seed", "needed"), [(0, {"base": 1, "second": 0}), (1, {"base": 1, "second": 3})])
def test_the_victim_of_an_attack_needs_its_surrogate_for_the_attacks_seeds(seed: int, needed: dict[str, int]) -> None:
    victims = [*BASE["victims"], {**TRANSFER, "pretrained": "second", "member": 2}]
    assert members([{}, {"victims": ["transfer"], "seeds": [1]}], victims, seed=seed) == needed


def test_the_attackers_noise_is_random_noise() -> None:
    friendly = {"method": "friendly-noise"}
    assert "surrogates.0.apply.0.method" in complaint(changed("surrogates", 0, "apply", value=[friendly]))


# --- attacks --------------------------------------------------------------------------------------------------------

GM = BASE["attacks"][0]
SLEEPER = {"name": "sa", "method": "sleeper-agent", "surrogate": "base", "budget": 0.05}
IMPORTED = {"name": "im", "method": "imported", "path": "poisons/{seed}"}


def adaptive(name: str, attack: str = "gm", defense: str = "friends", **others: Any) -> dict[str, Any]:
    return {**GM, "name": name, "adaptation": {"friendly_attack": attack, "friendly_defense": defense}, **others}


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        ([{**GM, "surrogate": ["base", "other"]}], ["'gm'", "surrogate 'other'", "['base']"]),
        ([GM, adaptive("b", defense="magic")], ["'b'", "defense 'magic'", "friendly noise ['friends']"]),
        ([GM, adaptive("b", defense="none")], ["'b'", "defense 'none'", "friendly noise ['friends']"]),
        ([GM, adaptive("b", attack="magic")], ["'b'", "attack 'magic'", "'gm'"]),
        ([GM, adaptive("b"), adaptive("c", attack="b")], ["'c'", "'b'", "itself waits for the friendly noise"]),
        ([adaptive("b", attack="b")], ["'b'", "itself waits for the friendly noise"]),
        ([{**GM, "adaptation": {}}], ["attacks.0.adaptation", "needs random_noise"]),
        (
            [{**GM, "adaptation": {"friendly_attack": "gm"}}],
            ["attacks.0.adaptation", "give both friendly_attack and friendly_defense"],
        ),
        (
            [{**GM, "adaptation": {"friendly_defense": "friends"}}],
            ["attacks.0.adaptation", "give both friendly_attack and friendly_defense"],
        ),
        ([{**SLEEPER, "source_class": 3, "target_class": 3}], ["attacks.0", "'sa'", "both 3"]),
        ([{**SLEEPER, "restarts": 2}], ["unknown key 'attacks.0.restarts'"]),
        ([{**IMPORTED, "mean": [0.5, 0.5, 0.5]}], ["attacks.0", "'im'", "both mean and std"]),
        ([{**IMPORTED, "std": [0.5, 0.5, 0.5]}], ["attacks.0", "'im'", "both mean and std"]),
        ([{**IMPORTED, "surrogate": "base"}], ["unknown key 'attacks.0.surrogate'"]),
        ([{**IMPORTED, "budget": 0.1}], ["unknown key 'attacks.0.budget'"]),
        ([{"name": "im", "method": "imported"}], ["'attacks.0.path' is missing"]),
        ([{**GM, "method": "magic"}], ["attacks.0", "magic", "'gradient-matching'", "'sleeper-agent'", "'imported'"]),
        ([{"name": "x", "surrogate": "base"}], ["'attacks.0.method' is missing"]),
        ([{**GM, "published": [{"table": 100}]}], ["attacks.0.published.0.table", "100"]),
        ([{**GM, "published": [{"row": "Poison Frogs"}]}], ["'attacks.0.published.0.table' is missing"]),
    ],
)
def test_impossible_attacks_are_one_line(attacks: list[dict[str, Any]], words: list[str]) -> None:
    text = complaint(changed("attacks", value=attacks))
    for word in words:
        assert word in text
    assert ";" not in text


@pytest.mark.parametrize("method", ["metapoison", "error-minimising"])
def test_an_attack_that_trains_by_sgd_takes_no_other_recipe(method: str) -> None:
    values = changed("attacks", value=[{"name": "own", "method": method, "surrogate": "base"}])
    read_study(values)
    values["surrogates"][0]["recipe"] |= {"optimizer": "adam", "lr": 0.01}
    assert "attack 'own' trains surrogate 'base' itself, by SGD and not by adam" in complaint(values)


@pytest.mark.parametrize("method", ["metapoison", "error-minimising"])
@pytest.mark.parametrize(
    ("key", "value"),
    [("apply", [{"method": "random-noise", "distribution": "uniform"}]), ("held_out_per_class", 3), ("seed", 0)],
)
def test_an_attack_that_trains_its_surrogate_takes_none_of_its_settings(method: str, key: str, value: Any) -> None:
    values = changed("attacks", value=[{"name": "own", "method": method, "surrogate": "base"}])
    values["surrogates"][0][key] = value
    assert "attack 'own' trains surrogate 'base' itself" in complaint(values)
    values["attacks"][0] |= {"target": "recognised"} if method == "metapoison" else {}
    if (method, key) == ("metapoison", "seed"):  # of the network that recognises the target
        read_study(values)


@pytest.mark.parametrize("convention", ["ours", "released"])
def test_metapoison_trains_one_architecture_for_long_enough(convention: str) -> None:
    own: dict[str, Any] = {"name": "own", "method": "metapoison", "surrogate": ["base", "base2"]}
    values = changed("attacks", value=[own])
    values["surrogates"].append({**values["surrogates"][0], "name": "base2"})
    assert "attack 'own' trains networks of one architecture: name one surrogate" in complaint(values)
    values["surrogates"][0]["recipe"] |= {"epochs": 3}
    own |= {"surrogate": "base", "first_epoch": 2, "convention": convention}
    read_study(values)
    own["first_epoch"] = 3
    assert "attack 'own': first_epoch 3 is not below the surrogate's 3 epochs" in complaint(values)


def test_retraining_follows_the_surrogate_s_noise_or_is_refused() -> None:
    noise = {"method": "random-noise", "distribution": "uniform"}
    own: dict[str, Any] = {"name": "own", "method": "sleeper-agent", "surrogate": "base"}
    values = changed("attacks", value=[own])
    values["surrogates"][0]["apply"] = [noise]
    assert "attack 'own' retrains surrogate 'base' without its apply" in complaint(values)
    read_study({**values, "attacks": [{**own, "retrain_every": 0}]})
    read_study({**values, "attacks": [{**own, "adaptation": {"random_noise": {"distribution": "uniform"}}}]})


@pytest.mark.parametrize(
    ("method", "cure"), [("sleeper-agent", " or set retrain_every: 0"), ("metapoison", "")], ids=["sleeper", "meta"]
)
def test_networks_from_scratch_stand_for_no_pretrained_victim(method: str, cure: str) -> None:
    own: dict[str, Any] = {"name": "own", "method": method, "surrogate": "base", "victims": ["transfer"]}
    values = changed("victims", value=[*BASE["victims"], TRANSFER])
    values["attacks"] = [own]
    assert (
        "attack 'own' trains networks from scratch, and victim 'transfer' is pretrained: name victims from scratch"
        + cure
    ) in complaint(values)
    if method == "sleeper-agent":
        read_study({**values, "attacks": [{**own, "retrain_every": 0}]})


def test_a_setup_has_the_targets() -> None:
    values = changed("attacks", value=[{**GM, "setup": "setups.pickle", "target": "recognised"}])
    assert "attack 'gm': the setup file has the targets, so leave out target: recognised" in complaint(values)


def test_adaptation_to_the_noise_of_another_victim_is_refused() -> None:
    study = changed("victims", value=[*BASE["victims"], TRANSFER])
    study["attacks"] = [GM, adaptive("b", victims=["transfer"])]
    assert "attack 'b': adaptation names 'gm', whose first victim is another one" in complaint(study)


def test_an_attack_that_knows_random_noise_may_be_the_earlier_run() -> None:
    noisy = {**GM, "name": "noisy", "adaptation": {"random_noise": {"distribution": "bernoulli"}}}
    read_study(changed("attacks", value=[noisy, adaptive("b", attack="noisy")]))


def test_sleeper_agent_can_go_without_retraining() -> None:
    attack = read_study(changed("attacks", value=[{**SLEEPER, "retrain_every": 0}])).attacks[0]
    assert isinstance(attack, SleeperAgent)
    assert attack.retrain_every == 0


@pytest.mark.parametrize(
    ("eps", "bound"),
    [(DELETE, None), (255, 255), (8, 8)],
)
def test_imported_poisons_keep_a_bound_only_if_one_is_given(eps: Any, bound: float | None) -> None:
    attack = IMPORTED if eps is DELETE else {**IMPORTED, "eps": eps}
    assert read_study(changed("attacks", value=[attack])).attack("im").bound == bound


CIFAR = {"source": "cifar10", "train_limit": 100}


@pytest.mark.parametrize("dataset", [CIFAR, {"source": "set-apart", "of": CIFAR}])
def test_rows_of_imported_poisons_count_a_whole_training_set(dataset: dict[str, Any]) -> None:
    values = {**changed("attacks", value=[IMPORTED]), "dataset": dataset}
    assert "attack 'im': rows of imported poisons count the whole training set, so leave out" in complaint(values)
    whole = {"source": "cifar10"}
    read_study({**values, "dataset": whole if dataset is CIFAR else {**dataset, "of": whole}})
    for fits in ({"rows": "appended"}, {"path": "poisons/{seed}.safetensors"}):
        read_study({**values, "attacks": [{**IMPORTED, **fits}]})
    read_study({**values, "attacks": [GM]})


@pytest.mark.parametrize("limit", ["train_limit", "test_limit"])
def test_images_of_a_setup_count_a_whole_dataset(limit: str) -> None:
    attack = {**GM, "setup": "setups.pickle"}
    attack.pop("budget", None)
    values = {**changed("attacks", value=[attack]), "dataset": {"source": "cifar10", limit: 100}}
    assert f"attack 'gm': images of a setup count the whole dataset, so leave out dataset.{limit}" in complaint(values)
    read_study({**values, "dataset": {"source": "cifar10"}})


def test_figures_of_an_unknown_attack_are_refused() -> None:
    text = complaint(changed("figures", "attacks", value=["gm", "magic"]))
    assert "figures.attacks names attack 'magic', which is not one of ['gm']" in text


def test_figures_are_drawn_for_the_attacks_that_are_named() -> None:
    study = changed("attacks", value=[GM, SLEEPER])
    assert [attack.name for attack in read_study(study).drawn_attacks] == ["gm", "sa"]
    study["figures"] = {"attacks": ["sa"]}
    assert [attack.name for attack in read_study(study).drawn_attacks] == ["sa"]


def seeded(*seeds: list[int] | None, study: tuple[int, ...] = (2, 0, 1)) -> dict[str, Any]:
    """A study with one attack per argument, which runs with these seeds (None: it does not say)."""
    attacks = [{**GM, "name": f"a{place}"} | ({} if own is None else {"seeds": own}) for place, own in enumerate(seeds)]
    return changed("attacks", value=attacks) | {"seeds": list(study)}


def test_an_attack_runs_with_its_seeds_in_the_order_of_the_study() -> None:
    study = read_study(seeded(None, [1, 2], [0], [0, 1, 2]))
    assert [study.seeds_of(attack) for attack in study.attacks] == [(2, 0, 1), (2, 1), (0,), (2, 0, 1)]


def test_a_study_of_a_few_seeds_leaves_out_the_attacks_others() -> None:
    study = read_study(seeded(None, [2, 7, 5]))
    assert [study.seeds_of(attack) for attack in study.attacks] == [(2, 0, 1), (2,)]


@pytest.mark.parametrize(("shown", "seeds"), [(None, [2, 2, 0]), (0, [0, 2, 0]), (1, [1, 1, 0])])
def test_figures_show_their_seed_or_the_first_of_the_attack(shown: int | None, seeds: list[int]) -> None:
    study = read_study(seeded(None, [1, 2], [0]) | {"figures": {"seed": shown}})
    assert [study.shown_seed(attack) for attack in study.attacks] == seeds


@pytest.mark.parametrize(
    ("seeds", "words"),
    [
        ([7, 5], "attack 'a1': none of its seeds [7, 5] is one of the study's [2, 0, 1]: add one to either list"),
        ([], "attacks.1.seeds: Tuple should have at least 1 item"),
        ([-1], "attacks.1.seeds.0: Input should be greater than or equal to 0, not -1"),
    ],
)
def test_seeds_that_an_attack_cannot_run_with(seeds: list[int], words: str) -> None:
    text = complaint(seeded(None, seeds))
    assert words in text
    assert ";" not in text


def test_adaptation_to_an_earlier_run_that_lacks_a_seed_is_refused() -> None:
    study = changed("attacks", value=[{**GM, "seeds": [0]}, adaptive("b")])
    assert complaint(study) == "config: attack 'b': adaptation names 'gm', which does not run with seed 1"
    study["attacks"][1]["seeds"] = [0]
    read_study(study)
    # It is the earlier run that must have them all.
    study["attacks"][0]["seeds"] = [1, 0]
    read_study(study)


def test_adaptation_to_noise_that_the_earlier_run_does_not_get_is_refused() -> None:
    study = changed("attacks", value=[GM, adaptive("b")])
    study["defenses"][1]["attacks"] = ["b"]
    text = complaint(study)
    assert text == "config: attack 'b': adaptation names defense 'friends', which does not face 'gm'"
    # That it faces the earlier one is enough.
    study["defenses"][1]["attacks"] = ["gm"]
    read_study(study)


ATTACKS = [
    {**GM, "surrogate": ["base"], "adaptation": {"random_noise": {"distribution": "uniform"}}},
    adaptive("adaptive", published=[{"table": 5, "row": "Sleeper Agent | FRIENDS-B"}, {"table": 2}]),
    {**GM, "name": "bp", "method": "bullseye-polytope", "victims": ["transfer"], "setup": "a = b/c.json"},
    {**GM, "name": "pf", "method": "poison-frogs", "watermark": 0.3},
    {**GM, "name": "cp", "method": "convex-polytope"},
    {**GM, "name": "mp", "method": "metapoison", "recolor": {"grid": 4}},
    {**SLEEPER, "patch": {"place": "bottom-right"}, "source_class": 1, "target_class": 2},
    {**IMPORTED, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.2]},
]


def test_every_kind_of_attack_survives_the_command_line() -> None:
    study = changed("attacks", value=ATTACKS)
    study["victims"].append(TRANSFER)
    noisy = {"apply": [{"method": "random-noise", "distribution": "gaussian"}], "name": "noisy"}
    study["surrogates"].append({**study["surrogates"][0], **noisy})
    read = read_study(study)
    assert Study.model_validate(parse(spec(**read.model_dump(mode="json")))) == read
    for attack in read.attacks:
        strings = spec(attack=attack.model_dump(mode="json"))
        assert type(attack).model_validate(parse(strings)["attack"]) == attack


DEFENSES: list[dict[str, Any]] = [
    {"name": "clean", "poisoned": False},
    {"name": "none", "published": "baseline"},
    {"name": "every-filter", "attacks": ["gm"], "apply": [
        {"method": "activation-clustering", "reduce": "ica"}, {"method": "deep-knn", "k": 3, "rule": "paper"},
        {"method": "l2-centroid"}, {"method": "one-class-svm", "gamma": 0.5}, {"method": "random-filter"},
        {"method": "spectral-signatures"}, {"method": "friendly-noise"},
    ]},
    {"name": "strip", "apply": [{"method": "strip", "convention": "blend", "alpha": 0.5, "network": "every-filter"}],
     "attacks": ["gm"]},
    {"name": "neural-cleanse", "apply": [{"method": "neural-cleanse", "clean_share": 1}]},
    {"name": "abl", "apply": [{"method": "abl"}, {"method": "adversarial-training"}]},
    {"name": "dp-sgd", "apply": [{"method": "dp-sgd", "delta": 1e-5}, {"method": "random-noise",
     "distribution": "uniform"}]},
    {"name": "others", "apply": [{"method": "epic", "stop_after": 9}, {"method": "gradient-shaping"},
     {"method": "adversarial-poisoning"}, {"method": "strong-augmentation", "kind": "mixup", "ways": 3},
     {"method": "early-stopping"}]},
    {"name": "squeezed", "apply": [{"method": "dilution", "share": 0.3}, {"method": "grayscale"}, {"method": "jpeg"}]},
]  # fmt: skip


def test_every_kind_of_defense_survives_the_command_line() -> None:
    study = changed("defenses", value=DEFENSES)
    with pytest.raises(SettingsError, match=r"defense 'others' stops early.*set dataset\.validation"):
        read_study(study)
    study["dataset"]["validation"] = {"share": 0.1}
    read = read_study(study)
    assert Study.model_validate(parse(spec(**read.model_dump(mode="json")))) == read
    named = {defense["method"] for row in DEFENSES for defense in row.get("apply", ())}
    known = Study.model_json_schema()["$defs"]["Row"]["properties"]["apply"]["items"]["discriminator"]["mapping"]
    assert named == set(known)


# --- files that an attack reads -------------------------------------------------------------------------------------


def test_every_file_of_a_folder_of_poisons_counts(tmp_path: Path) -> None:
    inner = tmp_path / "7" / "inner"
    inner.mkdir(parents=True)
    (inner / "b.png").touch()
    (tmp_path / "7" / "a.png").touch()
    imported = Imported(name="im", path=str(tmp_path / "{seed}"))
    assert list(imported.files(7)) == [tmp_path / "7" / "a.png", inner / "b.png"]
    (tmp_path / "8").mkdir()
    for seed in (8, 9):
        with pytest.raises(SettingsError, match=rf"'im': there is no file or folder of poisons at .*/{seed}: check"):
            imported.files(seed)


def test_a_mistake_in_a_subset_of_rows_is_named_by_its_keys() -> None:
    attack = {"name": "im", "method": "imported", "path": "x", "rows": {"last_per_clas": 200}}
    with pytest.raises(SettingsError) as caught:
        read_study(changed("attacks", value=[attack]))
    assert "unknown key 'attacks.0.rows.last_per_clas' (did you mean 'last_per_class'?)" in str(caught.value)


@pytest.mark.parametrize(
    ("attack", "key"),
    [({**GM, "setup": "{place}"}, "setup"), ({**SLEEPER, "patch": {"image": "{place}"}}, "patch.image")],
)
def test_a_file_that_an_attack_names_must_exist(attack: dict[str, Any], key: str, tmp_path: Path) -> None:
    place = tmp_path / "file"
    filled = json.loads(json.dumps(attack).replace("{place}", str(place)))
    read = read_study(changed("attacks", value=[filled])).attacks[0]
    with pytest.raises(SettingsError, match=rf"attack '{attack['name']}': {key}: there is no file .*/file: check"):
        read.files(0)
    place.touch()
    assert list(read.files(0)) == [place]
    assert list(read_study(changed("attacks", value=[GM])).attacks[0].files(0)) == []


# --- rows -----------------------------------------------------------------------------------------------------------


FRIENDLY = {"method": "friendly-noise"}
BERNOULLI = {"method": "random-noise", "distribution": "bernoulli"}


@pytest.mark.parametrize(
    ("settings", "recipe"),
    [
        ({}, {"epochs": 5}),
        ({"interval": 50}, {"epochs": 40}),
        ({"interval": 4, "stop_after": 8}, {"epochs": 40}),
        ({"drop_after": 11}, {"epochs": 12}),
        ({"drop_after": 3}, {"epochs": 9, "milestones": [2]}),
    ],
)
def test_epic_that_never_selects_is_refused(settings: dict[str, Any], recipe: dict[str, Any]) -> None:
    values = changed("defenses", 1, "apply", value=[{"method": "epic", **settings}])
    values["victims"][0]["recipe"] = recipe
    text = complaint(values)
    for word in ("defense 'friends'", "victim 'scratch'", "nothing would ever be dropped", "lower drop_after"):
        assert word in text


@pytest.mark.parametrize(
    ("epochs", "settings", "refused"),
    [(5, {}, True), (6, {}, False), (4, {"warmup_epochs": 3}, False), (5, {"copies": 1}, False)],
)
def test_maxup_that_never_begins_is_refused(epochs: int, settings: dict[str, Any], refused: bool) -> None:
    maxup = {"method": "strong-augmentation", "kind": "mixup", "copies": 4, **settings}
    values = changed("defenses", 1, "apply", value=[maxup])
    values["victims"][0]["recipe"] = {"epochs": epochs}
    if not refused:
        read_study(values)
        return
    text = complaint(values)
    assert "defense 'friends': warmup_epochs 5 is not below the 5 epochs of victim 'scratch'" in text
    assert text.endswith("so there would only ever be one copy: lower it")


MIXUP = {"method": "strong-augmentation", "kind": "mixup"}
DP, ABL, EPIC = {"method": "dp-sgd"}, {"method": "abl"}, {"method": "epic"}
POISONING, SHAPING = {"method": "adversarial-poisoning"}, {"method": "gradient-shaping"}
KNN, L2, BY_CHANCE = {"method": "deep-knn"}, {"method": "l2-centroid"}, {"method": "random-filter"}
STRIP, CLEANSE = {"method": "strip"}, {"method": "neural-cleanse"}
NONE: dict[str, Any] = {"name": "none"}


def with_rows(*rows: dict[str, Any], **sections: Any) -> dict[str, Any]:
    """A study with ``rows``, all compared with the row none where it is one of them, and other ``sections``."""
    compare = [row["name"] for row in rows if row["name"] == "none"]
    return changed("defenses", value=list(rows)) | {"compare": compare} | sections


def applying(*defenses: dict[str, Any], **others: Any) -> dict[str, Any]:
    """The row under test."""
    return {"name": "row", "apply": list(defenses), **others}


@pytest.mark.parametrize(
    ("apply", "filters", "training", "detector"),
    [
        ([], [], [], None),
        ([KNN], ["deep-knn"], [], None),
        ([KNN, L2, KNN], ["deep-knn", "l2-centroid", "deep-knn"], [], None),
        ([KNN, FRIENDLY, BERNOULLI], ["deep-knn"], ["friendly-noise", "random-noise"], None),
        ([BY_CHANCE, EPIC, MIXUP], ["random-filter"], ["epic", "strong-augmentation"], None),
        ([BY_CHANCE, DP], ["random-filter"], ["dp-sgd"], None),
        ([BERNOULLI, BERNOULLI, ABL], [], ["random-noise", "random-noise", "abl"], None),
        ([STRIP], [], [], "strip"),
        ([CLEANSE], [], [], "neural-cleanse"),
    ],
)
def test_what_a_row_is_made_of(
    apply: list[dict[str, Any]], filters: list[str], training: list[str], detector: str | None
) -> None:
    row = read_study(with_rows(NONE, applying(*apply))).defense("row")
    assert [defense.method for defense in row.filters] == filters
    assert [defense.method for defense in row.training] == training
    assert (row.detector and row.detector.method) == detector
    assert row.inspects_row == bool(filters or detector)
    assert row.per_example == ("dp-sgd" in training)
    assert (row.friendly is not None) == ("friendly-noise" in training)


@pytest.mark.parametrize(
    ("apply", "problem"),
    [
        ([FRIENDLY, KNN], "filters act before the training, so list them first"),
        ([KNN, BERNOULLI, KNN], "filters act before the training, so list them first"),
        ([KNN, {**L2, "network": "other"}], "its filters must look at one and the same network"),
        ([{**KNN, "network": "other"}, KNN], "its filters must look at one and the same network"),
        ([STRIP, FRIENDLY], "strip examines the finished victim of another row, so it stands alone; name that row in"),
        ([KNN, CLEANSE], "neural-cleanse examines the finished victim of another row, so it stands alone; name that"),
        ([STRIP, CLEANSE], "strip examines the finished victim of another row, so it stands alone; name that row in"),
        ([STRIP, STRIP], "strip examines the finished victim of another row, so it stands alone; name that row in"),
        ([FRIENDLY, BERNOULLI, FRIENDLY], "friendly-noise is listed twice: list it once"),
        ([MIXUP, {**MIXUP, "kind": "cutout"}], "strong-augmentation is listed twice: list it once"),
        ([ABL, ABL], "abl is listed twice: list it once"),
        ([DP, DP], "dp-sgd is listed twice: list it once"),
        ([L2, DP], "dp-sgd does not go with l2-centroid: its privacy guarantee needs a fixed training set, and "),
        ([BY_CHANCE, KNN, DP], "dp-sgd does not go with deep-knn: its privacy guarantee needs a fixed training set"),
    ],
)
def test_what_cannot_stand_together(apply: list[dict[str, Any]], problem: str) -> None:
    text = complaint(with_rows(NONE, {"name": "other"}, applying(*apply)))
    assert text.startswith("config: defenses.2: defense 'row'")
    assert problem in text
    # One problem.
    assert text.count("defense 'row'") == 1


@pytest.mark.parametrize(
    ("defense", "words"),
    [
        ({**KNN, "k": 0}, "defenses.1.apply.0.k: Input should be greater than 0, not 0"),
        ({**KNN, "netwrk": "none"}, "unknown key 'defenses.1.apply.0.netwrk' (did you mean 'network'?)"),
        ({**KNN, "clean_share": 0.1}, "unknown key 'defenses.1.apply.0.clean_share'"),
        ({**L2, "fraction": 1}, "defenses.1.apply.0.fraction: Input should be less than 1, not 1"),
        (
            {"method": "activation-clustering", "network": "none", "dims": 5},
            "defenses.1.apply.0: dims: 5 does nothing without a projection: set reduce to pca or ica",
        ),
        ({**STRIP, "clean_share": 0}, "defenses.1.apply.0.clean_share: Input should be greater than 0, not 0"),
        (
            {**STRIP, "convention": "blend"},
            "defenses.1.apply.0: strip: a blend of alpha 1 leaves nothing of the input: give one below 1, as 0.5",
        ),
        (
            {**EPIC, "stop_after": 5},
            "defenses.1.apply.0: stop_after (5) leaves no epoch from drop_after (5) on: raise it",
        ),
    ],
)
def test_impossible_settings_of_a_defense(defense: dict[str, Any], words: str) -> None:
    text = complaint(with_rows(NONE, applying(defense)))
    assert words in text
    assert ";" not in text


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("first", "second", "why"),
    [
        (DP, MIXUP, "gradients of their own"),
        (DP, SHAPING, "both clip and add noise"),
        (DP, EPIC, "privacy"),
        (DP, ABL, "privacy"),
        (DP, POISONING, "the others of its batch"),
        (ABL, EPIC, "both decide which examples are left"),
        (ABL, MIXUP, "labels that are not mixed"),
    ],
)
def test_defenses_that_clash_in_whatever_order(
    first: dict[str, Any], second: dict[str, Any], why: str, turned: bool
) -> None:
    pair = [second, first] if turned else [first, second]
    text = complaint(with_rows(NONE, applying(BERNOULLI, *pair)))
    assert text.startswith("config: defenses.1: defense 'row': ")
    assert f"{first['method']} does not go with {second['method']}" in text
    assert why in text


# --- whose network a filter or a detector looks at -------------------------------------------------------------------


def looking(name: str, at: str, method: dict[str, Any] = KNN, **others: Any) -> dict[str, Any]:
    return {"name": name, "apply": [{**method, "network": at}], **others}


TWO = {"attacks": [GM, {**GM, "name": "other"}]}


@pytest.mark.parametrize(
    ("study", "problem"),
    [
        (with_rows(NONE, looking("a", "magic")), "of 'magic', which is not one of ['none', 'a']"),
        (with_rows(NONE, looking("a", "magic", STRIP)), "of 'magic', which is not one of ['none', 'a']"),
        (
            with_rows(NONE, {"name": "s", "apply": [STRIP]}, looking("a", "s")),
            "of 's', which trains none of its own: name a row that does",
        ),
        (
            with_rows(NONE, {"name": "s", "apply": [STRIP]}, looking("a", "s", CLEANSE)),
            "of 's', which trains none of its own: name a row that does",
        ),
        (
            with_rows(NONE, looking("a", "none", poisoned=False)),
            "of 'none', but only one of the two is trained on poisoned data",
        ),
        (
            with_rows({"name": "clean", "poisoned": False}, looking("a", "clean", STRIP)),
            "of 'clean', but only one of the two is trained on poisoned data",
        ),
        (
            with_rows({**NONE, "attacks": ["gm"]}, looking("a", "none"), **TWO),
            "of 'none', which does not face attack 'other'",
        ),
        (
            with_rows({**NONE, "attacks": ["gm"]}, looking("a", "none", CLEANSE, attacks=["other"]), **TWO),
            "of 'none', which does not face attack 'other'",
        ),
        (with_rows(NONE, looking("a", "a")), "of 'a', which in the end waits for 'a' itself"),
        (with_rows(looking("a", "b"), looking("b", "a")), "of 'b', which in the end waits for 'a' itself"),
        (
            with_rows(looking("a", "b"), looking("b", "c"), looking("c", "a")),
            "of 'b', which in the end waits for 'a' itself",
        ),
    ],
)
def test_networks_that_a_row_cannot_look_at(study: dict[str, Any], problem: str) -> None:
    assert complaint(study) == f"config: defense 'a' looks at the network {problem}"


def test_a_row_looks_at_the_first_that_all_are_compared_with() -> None:
    rows = [NONE, {"name": "other"}, {"name": "a", "apply": [KNN]}]
    study = read_study(with_rows(*rows, compare=["other", "none"]))
    assert study.network_of(study.defense("a")) == "other"
    text = complaint(with_rows(*rows, compare=[]))
    assert text == "config: defense 'a' looks at no network: give it one, or name a row in compare"
    text = complaint(with_rows(*rows, compare=["magic"]))
    assert text == (
        "config: compare names defense 'magic': name one of ['none', 'other', 'a'], or none with compare: []"
    )


def test_filters_may_look_at_a_surrogate() -> None:
    study = read_study(with_rows({"name": "a", "apply": [{**KNN, "surrogate": "base"}]}))
    row = study.defense("a")
    assert (row.inspected_surrogate, row.inspects_row, study.network_of(row)) == ("base", False, None)
    assert study.members("base", 0) == 1
    text = complaint(with_rows({"name": "a", "apply": [{**KNN, "surrogate": "magic"}]}))
    assert text == "config: defense 'a' looks at surrogate 'magic', which is not one of ['base']"
    text = complaint(with_rows(NONE, {"name": "a", "apply": [{**KNN, "surrogate": "base", "network": "none"}]}))
    assert text == "config: defenses.1.apply.0: deep-knn looks at one network: give either network or surrogate"


def test_deep_knn_has_one_number_of_neighbours() -> None:
    text = complaint(with_rows(NONE, {"name": "a", "apply": [{**KNN, "k": 5, "expected": 0.1, "factor": 3}]}))
    assert text == "config: defenses.1.apply.0: k: 5 is the number of neighbours: leave expected and factor out, or k"
    assert read_study(with_rows(NONE, {"name": "a", "apply": [{**KNN, "expected": 0.1, "factor": 2}]}))


def test_victims_of_one_attack() -> None:
    two = changed("victims", value=[*BASE["victims"], TRANSFER])
    two["attacks"][0]["victims"] = ["scratch", "transfer"]
    study = read_study(two)
    assert [(victim.name, row.name) for _, victim, row in study.meetings()] == [
        (victim, row) for victim in ("scratch", "transfer") for row in ("none", "friends")
    ]
    two["victims"][1]["fine_tune_per_class"] = 3
    assert "its victims differ in fine_tune_per_class" in complaint(two)
    two["attacks"][0]["victims"] = ["scratch", "scratch"]
    assert "attacks.0.victims: lists a name twice" in complaint(two)


def test_a_fault_further_on_is_reported_where_it_is() -> None:
    """The first row leads to a fault of the second, but is none itself."""
    text = complaint(with_rows(looking("a", "b"), looking("b", "magic")))
    assert text == "config: defense 'b' looks at the network of 'magic', which is not one of ['a', 'b']"
    text = complaint(with_rows(looking("a", "b"), looking("b", "c"), looking("c", "b")))
    assert text == "config: defense 'b' looks at the network of 'c', which in the end waits for 'b' itself"


@pytest.mark.parametrize(
    "study",
    [
        # A chain, in whatever order, of a filter whose network is a filtered victim.
        with_rows(looking("c", "b"), looking("b", "a"), looking("a", "none"), NONE),
        with_rows(NONE, looking("a", "none"), looking("b", "a"), looking("s", "b", STRIP), looking("t", "b", STRIP)),
        # Of control rows.
        with_rows({"name": "clean", "poisoned": False}, looking("a", "clean", poisoned=False)),
        with_rows({"name": "clean", "poisoned": False}, looking("a", "clean", STRIP, poisoned=False)),
        # The row looked at may face more attacks.
        with_rows(NONE, looking("a", "none", attacks=["other"]), **TWO),
        with_rows({**NONE, "attacks": ["gm"]}, looking("a", "none", attacks=["gm"]), {"name": "b"}, **TWO),
        # A victim with group norm has features, too.
        with_rows({"name": "dp", "apply": [DP]}, looking("a", "dp"), looking("s", "dp", CLEANSE)),
    ],
)
def test_networks_that_a_row_can_look_at(study: dict[str, Any]) -> None:
    read_study(study)


# --- which row meets which attack ------------------------------------------------------------------------------------


def test_a_row_faces_all_attacks_or_those_it_names() -> None:
    rows = [NONE, {"name": "one", "attacks": ["other"]}, {"name": "both", "attacks": ["other", "gm"]}]
    study = read_study(with_rows(*rows, **TWO))
    met = [(attack.name, row.name) for attack, _, row in study.meetings()]
    assert met == [("gm", "none"), ("gm", "both"), ("other", "none"), ("other", "one"), ("other", "both")]


@pytest.mark.parametrize(
    ("attacks", "words"),
    [
        (["gm", "magic"], "defense 'row' faces attack 'magic', which is not one of ['gm', 'other']"),
        ([], "defenses.1.attacks: Tuple should have at least 1 item"),
        ("gm", "defenses.1.attacks: must be a list, such as [gm], not 'gm'"),
        (["Bad Name"], "defenses.1.attacks.0: "),
    ],
)
def test_attacks_that_a_row_cannot_face(attacks: Any, words: str) -> None:
    assert words in complaint(with_rows(NONE, applying(attacks=attacks), **TWO))


def test_an_attack_that_meets_no_row_is_refused() -> None:
    rows = [{**NONE, "attacks": ["gm"]}, {"name": "a", "attacks": ["gm"]}]
    text = complaint(with_rows(*rows, **TWO))
    assert text == "config: attack 'other' meets no defense: add a row, such as none"


def test_only_rows_that_meet_a_victim_must_suit_it() -> None:
    """``def_epoch`` 20 is beyond the 20 epochs of the victim of gm, but the row does not face it."""
    other = {**BASE["victims"][0], "name": "longer", "recipe": {"epochs": 21}}
    sections = {"attacks": [GM, {**GM, "name": "other", "victims": ["longer"]}], "victims": [*BASE["victims"], other]}
    late = {**FRIENDLY, "def_epoch": 20}
    read_study(with_rows(NONE, applying(late, attacks=["other"]), **sections))
    assert "'scratch'" in complaint(with_rows(NONE, applying(late), **sections))


# --- gradients per example -------------------------------------------------------------------------------------------


def pretrained(scenario: str, batch_norm: str = "eval", **model: Any) -> dict[str, Any]:
    """A study whose only victim is pretrained and trained with DP-SGD."""
    study = with_rows(NONE, applying(DP))
    study["surrogates"][0]["model"] |= model
    study["victims"] = [{**TRANSFER, "scenario": scenario, "batch_norm": batch_norm}]
    return study


@pytest.mark.parametrize(
    "study",
    [
        with_rows(NONE, applying(DP)),
        pretrained("transfer"),
        pretrained("transfer", norm="group"),
        pretrained("transfer", "train", norm="group"),
        pretrained("fine-tune", norm="group"),
        # Without batch norm there is nothing to replace.
        pretrained("fine-tune", name="lenet"),
        pretrained("transfer", "train", name="alexnet"),
        # What does not meet it does not matter.
        with_rows(
            NONE,
            applying(DP, attacks=["other"]),
            attacks=[{**GM, "victims": ["transfer"]}, {**GM, "name": "other", "victims": ["scratch"]}],
            victims=[*BASE["victims"], {**TRANSFER, "scenario": "fine-tune"}],
        ),
    ],
)
def test_victims_with_a_gradient_per_example(study: dict[str, Any]) -> None:
    read_study(study)


@pytest.mark.parametrize("study", [pretrained("transfer", "train"), pretrained("fine-tune")])
def test_batch_norm_in_a_pretrained_victim_has_no_gradient_per_example(study: dict[str, Any]) -> None:
    assert complaint(study) == (
        "config: defense 'row' needs a gradient per example, which batch norm in victim 'transfer' does not have: "
        "pretrain a network with norm: group"
    )
    study["defenses"].pop()
    read_study(study)


def test_batch_norm_in_a_donor_of_friendly_noise_has_no_gradient_per_example() -> None:
    def lent(**model: str) -> dict[str, Any]:
        return with_rows(NONE, applying({**FRIENDLY, "donor": model}, DP))

    assert complaint(lent(name="small-resnet")) == (
        "config: defense 'row' needs a gradient per example, which batch norm in the donor of its friendly noise does "
        "not have: choose a network with norm: group in donor"
    )
    assert "choose a network with norm: group in donor" in complaint(lent(name="vgg19"))
    read_study(lent(name="small-resnet", norm="group"))
    read_study(lent(name="lenet"))


@pytest.mark.parametrize("name", ["vgg19", "densenet121", "lenet"])
def test_networks_whose_batch_norm_stays_have_no_gradient_per_example(name: str) -> None:
    study = with_rows(NONE, applying(DP), victims=[{**BASE["victims"][0], "model": {"name": name}}])
    if name == "lenet":  # has no norm at all
        read_study(study)
        return
    assert complaint(study) == (
        "config: defense 'row' needs a gradient per example, which batch norm in victim 'scratch' does not have: "
        "choose a network with norm: group"
    )


def test_group_norm_is_built_into_victims_from_scratch_alone() -> None:
    victims = [
        {"name": "wide", "model": {"name": "resnet18", "dropout": 0.1}},
        {"name": "plain", "model": {"name": "lenet"}},
        TRANSFER,
    ]
    rows = [NONE, applying(DP), {"name": "mixup", "apply": [MIXUP]}]
    study = read_study(with_rows(*rows, victims=victims))
    wide, plain, transfer = study.victims
    private = study.defense("row")
    assert study.model_of(wide, private).model_dump() == {"name": "resnet18", "dropout": 0.1, "norm": "group"}
    for victim, row in [(wide, None), (wide, study.defense("none")), (wide, study.defense("mixup"))]:
        assert study.model_of(victim, row) == wide.model
    # Nothing to regroup.
    assert study.model_of(plain, private) == plain.model
    # It begins as the surrogate, so it has its layers.
    assert study.model_of(transfer, private) == study.surrogate("base").model
    assert getattr(study.model_of(transfer, private), "norm", None) == "batch"


# --- landscapes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("defense", [STRIP, CLEANSE, DP])
def test_landscapes_compare_victims_with_one_network(defense: dict[str, Any]) -> None:
    study = with_rows(NONE, applying(defense), figures={"landscape": {"victims": ["none", "row"]}})
    text = complaint(study)
    assert text.startswith("config: figures.landscape.victims names defense 'row', whose network is ")
    assert text.endswith(": name a row that trains on the attack's own poisons")
    study["defenses"][1]["apply"] = [KNN, FRIENDLY]
    assert read_study(study).landscape_victims("gm") == ["none", "row"]


def test_landscapes_of_an_attack_compare_the_rows_that_face_it() -> None:
    rows = [{"name": "friendly", "attacks": ["other"]}, {"name": "bernoulli", "attacks": ["gm"]}, NONE]
    study = with_rows(*rows, **TWO)
    assert read_study(study).landscape_victims("gm") == []
    study["figures"] = {"landscape": {"victims": ["bernoulli", "none"]}}
    drawn = {attack: read_study(study).landscape_victims(attack) for attack in ("gm", "other")}
    assert drawn == {"gm": ["bernoulli", "none"], "other": ["none"]}


# --- figures of filters ---------------------------------------------------------------------------------------------


def view(defense: str = "row", **changes: Any) -> dict[str, Any]:
    networks = [{"victim": "scratch", "defense": defense}]
    return {"name": "near", "attack": "gm", "networks": networks, **changes}


def bars(**changes: Any) -> dict[str, Any]:
    return {"attack": "gm", "defenses": ["none", "row"], **changes}


OF_K = {"ablations": [{"name": "of-k", "defense": "row", "method": "deep-knn", "vary": {"k": [3, 5]}}]}


def test_views_and_bars_of_rows_that_face_the_attack() -> None:
    figures = {"features": [view(), view("none", name="other")], "by_victim": [bars(table=3, rows={"scratch": "Net"})]}
    figures["ablations"] = [{"name": "of-k", "table": 4}]
    study = read_study(with_rows(NONE, applying(KNN), figures=figures, **OF_K))
    assert [each.networks[0].defense for each in study.figures.features] == ["row", "none"]
    # A variant of an ablation is a row, too.
    read_study(with_rows(NONE, applying(KNN), figures={"features": [view("of-k-3")]}, **OF_K))


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"features": [view(attack="magic")]}, "features 'near' names attack 'magic', which is not one of ['gm']"),
        ({"features": [view("magic")]}, "features 'near' names defense 'magic', which is not one of ['none', 'row',"),
        ({"features": [view(networks=[{"victim": "x", "defense": "none"}])]}, "names victim 'x', which is not one of"),
        ({"features": [view("strip")]}, "defense 'strip', whose network is another row's: name a row that trains on"),
        ({"features": [view("clean")]}, "defense 'clean', which is trained on clean data: name a row"),
        ({"features": [view("private")]}, "defense 'private', whose network is built in another way: name a row"),
        ({"features": [view("diluted")]}, "defense 'diluted', which gives some poisons back clean: name a row"),
        ({"features": [view("none", draw=["filtered-images"])]}, "no row with a filter: filtered-images has nothing"),
        ({"features": [view(), view()]}, "figures.features repeats near"),
        ({"features": [view(draw=["map"])]}, "figures.features.0.draw.0"),
        ({"by_victim": [bars(defenses=["magic"])]}, "by_victim of attack 'gm' names defense 'magic'"),
        ({"by_victim": [bars(attack="magic")]}, "figures.by_victim names attack 'magic'"),
        ({"by_victim": [bars(rows={"x": "Net"})]}, "by_victim of attack 'gm' names victim 'x'"),
        ({"by_victim": [bars(), bars()]}, "figures.by_victim repeats gm"),
        ({"ablations": [{"name": "magic", "table": 4}]}, "figures.ablations names ablation 'magic'"),
    ],
)
def test_impossible_figures_of_filters_are_one_line(figures: dict[str, Any], words: str) -> None:
    others = [
        {"name": "strip", "apply": [STRIP]},
        {"name": "clean", "poisoned": False},
        {"name": "private", "apply": [DP]},
        {"name": "diluted", "apply": [{"method": "dilution", "share": 0.5}]},
    ]
    assert words in complaint(with_rows(NONE, applying(KNN), *others, figures=figures, **OF_K))


def test_published_bars_need_a_paper() -> None:
    study = with_rows(NONE, applying(KNN), figures={"by_victim": [bars(table=3)]})
    del study["paper"]
    assert "figures name a published table: name the paper, a folder of reference/" in complaint(study)


# --- any rule --------------------------------------------------------------------------------------------------------


def test_several_problems_are_all_said() -> None:
    study = changed("attacks", 0, "eps", value=-1)
    study["threads"] = 0
    text = complaint(study)
    assert "attacks.0.eps" in text
    assert "threads" in text


@pytest.mark.parametrize(
    "place", [("victims", 0, "recipe", "lr"), ("victims", 0, "recipe", "weight_decay"), ("attacks", 0, "tau")]
)
def test_infinite_values_are_refused(place: tuple[str | int, ...]) -> None:
    assert str(place[-1]) in complaint(changed(*place, value=float("inf")))


def test_a_base_that_is_no_name_is_refused() -> None:
    complaint(changed("victims", 0, "recipe", "base", value=["friends-paper"]))


def test_poisons_of_test_images_are_as_many_as_a_class_has_of_these() -> None:
    def study(budget: float, **more: Any) -> dict[str, Any]:
        attack = {"name": "fc", "method": "feature-collision", "surrogate": "base", "budget": budget, **more}
        return changed("attacks", value=[attack]) | {"dataset": {**BASE["dataset"], "test_size": 50}}

    text = complaint(study(0.1))
    assert "'fc': budget 0.1 asks for 20 poisons, but a class has only 5 test images" in text
    read_study(study(float(text.rpartition(" at most ")[2])))
    read_study(study(0.1, bases="train"))
    many = study(0.15)
    many["dataset"]["test_size"] = 300
    read_study(many)


def test_the_advised_budget_works() -> None:
    study = changed("dataset", "train_size", value=205)
    study["attacks"][0]["budget"] = 0.2
    advised = float(complaint(study).rsplit(" ", 1)[1])
    study["attacks"][0]["budget"] = advised
    read_study(study)


# --- recipes --------------------------------------------------------------------------------------------------------


def test_published_recipes() -> None:
    paper = NamedRecipe(base="friends-paper")
    assert (paper.epochs, paper.milestones, paper.decay_norm_and_bias) == (80, (30, 50, 70), False)
    assert (paper.lr, paper.momentum, paper.nesterov, paper.weight_decay, paper.batch_size) == (
        0.1,
        0.9,
        True,
        5e-4,
        128,
    )
    assert (paper.augmentation.kind, paper.augmentation.pixels, paper.augmentation.flip) == ("shift", 4, True)
    released = NamedRecipe(base="friends-released")
    assert (released.epochs, released.milestones) == (40, None)
    transfer = NamedRecipe(base="friends-transfer")
    assert (transfer.epochs, transfer.milestones) == (40, (15, 25, 35))
    epic = NamedRecipe(base="epic")
    assert (epic.milestones, epic.augmentation.kind) == ((30, 50, 70), "crop")
    for name in PUBLISHED:
        black = name in ("poisoning-benchmark", "learned-faster")
        assert NamedRecipe(base=name).augmentation.padding == ("black" if black else "mean")
        assert ("padding" in NamedRecipe(base=name).told()["augmentation"]) == black
    brew = NamedRecipe(base="witches-brew")
    assert (brew.epochs, brew.decay_norm_and_bias) == (40, True)


@pytest.mark.parametrize("name", PUBLISHED)
def test_own_values_win_over_the_base(name: str) -> None:
    base, own = NamedRecipe(base=name), NamedRecipe(base=name, lr=0.05, batch_size=64)
    assert (own.lr, own.batch_size) == (0.05, 64)
    assert own.model_dump(exclude={"lr", "batch_size"}) == base.model_dump(exclude={"lr", "batch_size"})


def test_a_part_of_the_bases_augmentation_can_be_changed() -> None:
    own = NamedRecipe(base="epic", augmentation={"pixels": 2}).augmentation
    assert (own.kind, own.pixels) == ("crop", 2)


def test_a_recipe_survives_the_command_line() -> None:
    study = read_study(changed("victims", 0, "recipe", value={"base": "epic", "lr": 0.05}))
    recipe = study.victims[0].recipe
    told = spec(recipe=recipe.told("base"))
    again = Recipe.model_validate(parse(told)["recipe"])
    assert spec(recipe=again.told()) == told


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
