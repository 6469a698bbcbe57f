"""Ablations: which rows they become, what these are called, and every ablation that is refused."""

from __future__ import annotations

import copy
import itertools
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poisonlab.config.ablations import Ablation, variants
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.rows import Row
from poisonlab.config.study import Study, read_study
from poisonlab.config.types import Name
from poisonlab.errors import SettingsError
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse

FRIENDLY = {"method": "friendly-noise", "lr": 100, "def_epoch": 5}
BERNOULLI = {"method": "random-noise", "distribution": "bernoulli", "mu": 8}
MATCHING = {"method": "gradient-matching", "surrogate": "base", "budget": 0.05}
BASE: dict[str, Any] = {
    "study": "tiny",
    "paper": "friends",
    "compare": ["none"],
    "dataset": {"source": "digits-on-photos", "train_size": 200, "test_size": 50},
    "seeds": [0, 1],
    "surrogates": [{"name": "base", "model": {"name": "small-resnet"}, "recipe": {"epochs": 10}}],
    "attacks": [{"name": "gm", **MATCHING}, {"name": "other", **MATCHING}],
    "victims": [{"name": "scratch", "model": {"name": "resnet18"}, "recipe": {"epochs": 20}}],
    "defenses": [
        {"name": "none"},
        {"name": "friends", "published": "friends-bernoulli", "apply": [FRIENDLY, BERNOULLI]},
        {"name": "filtered", "apply": [{"method": "deep-knn"}, FRIENDLY]},
        {"name": "strip", "attacks": ["gm"], "apply": [{"method": "strip", "count": 5}]},
        {"name": "twice", "apply": [BERNOULLI, {**BERNOULLI, "mu": 4}]},
    ],
}
LR = {"name": "lr", "defense": "friends", "method": "friendly-noise", "vary": {"lr": [10, 100, 50]}}
ROWS = [row["name"] for row in BASE["defenses"]]


def config(*ablations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {**copy.deepcopy(BASE), "ablations": list(ablations), **more}


def complaint(values: dict[str, Any]) -> str:
    with pytest.raises(SettingsError) as caught:
        read_study(values)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("config: ")
    assert "Value error" not in text
    return text.removeprefix("config: ")


def added(study: Study) -> list[str]:
    """The rows that the ablations add."""
    names = [row.name for row in study.rows]
    assert names[: len(ROWS)] == ROWS == [row.name for row in study.defenses]
    return names[len(ROWS) :]


def met(study: Study) -> list[tuple[str, str]]:
    return [(attack.name, row.name) for attack, _, row in study.meetings()]


# --- which rows -----------------------------------------------------------------------------------------------------


def test_without_ablations_the_rows_are_the_defenses() -> None:
    study = read_study(config())
    assert study.rows == study.defenses
    assert study.variants == ()


def test_every_value_is_a_row_but_the_rows_own() -> None:
    study = read_study(config(LR))
    assert added(study) == ["lr-10", "lr-50"]
    assert [(variant.values, variant.row.name, variant.own) for variant in study.variants] == [
        ({"lr": 10}, "lr-10", False),
        ({"lr": 100}, "friends", True),
        ({"lr": 50}, "lr-50", False),
    ]
    assert {variant.ablation for variant in study.variants} == {"lr"}
    own = study.variants[1].row
    assert own == study.defense("friends")
    assert own.published == "friends-bernoulli"


def test_a_variant_is_the_row_but_for_what_varies() -> None:
    row = read_study(config(LR)).defense("lr-10")
    assert row.apply == (FriendlyNoise(lr=10), RandomNoise(distribution="bernoulli", mu=8))
    # It is no line of the paper.
    assert row.published is None
    assert (row.poisoned, row.attacks) == (True, None)


def test_combinations_stand_in_the_order_of_the_config() -> None:
    vary = {"lam": [1, 10], "lr": [50, 100]}
    study = read_study(config({**LR, "name": "search", "vary": vary}))
    assert [(variant.row.name, variant.own) for variant in study.variants] == [
        ("search-1-50", False),
        ("friends", True),
        ("search-10-50", False),
        ("search-10-100", False),
    ]
    assert [list(variant.values) for variant in study.variants] == [["lam", "lr"]] * 4
    noises = [variant.row.friendly for variant in study.variants]
    assert [(noise.lam, noise.lr) for noise in noises if noise] == list(itertools.product((1, 10), (50, 100)))


def test_several_ablations_follow_one_another() -> None:
    norm = {**LR, "name": "norm", "vary": {"norm": ["linf", "l2"]}}
    mu = {"name": "mu", "defense": "friends", "method": "random-noise", "vary": {"mu": [2.5]}}
    assert added(read_study(config(norm, LR, mu))) == ["norm-linf", "lr-10", "lr-50", "mu-2.5"]


def test_variants_face_the_attacks_of_the_row() -> None:
    study = read_study(config(LR))
    pairs = [pair for pair in met(study) if pair[1] in (*added(study), "friends")]
    assert pairs == [(attack, row) for attack in ("gm", "other") for row in ("friends", "lr-10", "lr-50")]
    strip = {"name": "count", "defense": "strip", "method": "strip", "vary": {"count": [4]}}
    assert [pair for pair in met(read_study(config(strip))) if pair[1] == "count-4"] == [("gm", "count-4")]


def test_variants_may_face_fewer_attacks_but_the_row_faces_its_own() -> None:
    pairs = met(read_study(config({**LR, "attacks": ["other"]})))
    assert [attack for attack, row in pairs if row == "lr-10"] == ["other"]
    assert [attack for attack, row in pairs if row == "friends"] == ["gm", "other"]


def test_filters_and_detectors_are_varied_too() -> None:
    knn = {"name": "knn", "defense": "filtered", "method": "deep-knn", "vary": {"k": [3]}}
    count = {"name": "count", "defense": "strip", "method": "strip", "vary": {"count": [4, 5]}}
    study = read_study(config(knn, count))
    assert added(study) == ["knn-3", "count-4"]
    (filter_,) = study.defense("knn-3").filters
    assert filter_.model_dump()["k"] == 3
    assert study.defense("knn-3").friendly == FriendlyNoise()
    detector = study.defense("count-4").detector
    assert detector is not None
    assert detector.model_dump()["count"] == 4
    # They look at the same network as the row.
    assert [study.network_of(study.defense(name)) for name in ("knn-3", "count-4")] == ["none", "none"]


def test_a_detector_may_look_at_other_rows_and_is_checked_like_any() -> None:
    ablation = {"name": "at", "defense": "strip", "method": "strip", "vary": {"network": ["friends", "none"]}}
    assert read_study(config(ablation)).defense("at-friends").network == "friends"
    ablation["vary"] = {"network": ["nobody"]}
    assert "defense 'at-nobody' looks at the network of 'nobody', which is not one of" in complaint(config(ablation))


def test_values_are_written_as_the_setting_has_them() -> None:
    """Text that is a number, as YAML takes 1e6 for, and whole numbers of a setting with fractions are that number."""
    study = read_study(config({**LR, "vary": {"lr": ["1e6", 1e-5, 2.50, 7, 100.0]}}))
    assert added(study) == ["lr-1e06", "lr-1e-05", "lr-2.5", "lr-7"]
    assert [variant.values["lr"] for variant in study.variants] == [1e6, 1e-5, 2.5, 7, 100]
    assert [variant.own for variant in study.variants] == [False] * 4 + [True]


def test_yes_or_no_is_a_value() -> None:
    clip = {"name": "clip", "defense": "friends", "method": "random-noise", "vary": {"clip": [True, False]}}
    study = read_study(config(clip))
    assert added(study) == ["clip-true"]
    assert [variant.values for variant in study.variants] == [{"clip": True}, {"clip": False}]
    noise = study.defense("clip-true").apply[1]
    assert isinstance(noise, RandomNoise)
    assert noise.clip is True


VALUES = {
    "lr": st.one_of(st.integers(1, 10**9), st.floats(1e-12, 1e12)),
    "lam": st.floats(0, 1e8),
    "norm": st.sampled_from(["l1", "l2", "linf"]),
    "def_epoch": st.integers(0, 19),
}


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_expansion_is_the_product_and_names_are_file_names(data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=2, unique=True))
    vary = {name: data.draw(st.lists(VALUES[name], min_size=1, max_size=3, unique_by=float_or_text)) for name in chosen}
    base = Row(name="friends", apply=(FriendlyNoise(), RandomNoise(distribution="uniform")))
    ablation = Ablation(name="a.b", defense="friends", method="friendly-noise", vary=vary)
    found = variants(ablation, base)
    wanted = list(itertools.product(*vary.values()))
    assert [tuple(variant.values.values()) for variant in found] == wanted
    plain = {"lr": 100.0, "lam": 1.0, "norm": "l2", "def_epoch": 5}
    for variant, values in zip(found, wanted, strict=True):
        same = all(plain[name] == value for name, value in zip(vary, values, strict=True))
        assert variant.own == same == (variant.row is base)
        expected = FriendlyNoise(**dict(zip(vary, values, strict=True)))
        assert variant.row.apply == (expected, base.apply[1])
        assert re.fullmatch(r"[a-z0-9][a-z0-9.-]{0,59}", variant.row.name), Name
        assert variant.row.name.startswith("friends" if same else "a.b-")


def float_or_text(value: float | str) -> float | str:
    return value if isinstance(value, str) else float(value)


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (
            {"defense": "friend"},
            "ablation 'lr' varies defense 'friend', which is not one of "
            "['none', 'friends', 'filtered', 'strip', 'twice']",
        ),
        (
            {"method": "random"},
            "ablation 'lr': row 'friends' must apply 'random' once, not 0 times; it applies "
            "['friendly-noise', 'random-noise']",
        ),
        (
            {"defense": "twice", "method": "random-noise", "vary": {"mu": [1]}},
            "ablation 'lr': row 'twice' must apply 'random-noise' once, not 2 times; it applies "
            "['random-noise', 'random-noise']",
        ),
        (
            {"method": "random-noise"},
            "ablation 'lr' varies 'lr', which is no setting of random-noise: choose of ['clip', 'distribution', 'mu']",
        ),
        (
            {"method": "random-noise", "vary": {"method": ["friendly-noise"]}},
            "ablation 'lr' varies 'method', which is no setting of random-noise: choose of "
            "['clip', 'distribution', 'mu']",
        ),
        ({"vary": {"lr": [10, -1]}}, "ablation 'lr': lr: Input should be greater than 0, not -1"),
        ({"vary": {"norm": ["l3"]}}, "ablation 'lr': norm: Input should be 'l1', 'l2' or 'linf', not 'l3'"),
        ({"vary": {"steps": [1.5]}}, "ablation 'lr': steps: Input should be a valid integer, got a number with a "
                                     "fractional part, not 1.5"),
        ({"vary": {"lr": ["nan"]}}, "ablation 'lr': lr: Input should be a finite number, not 'nan'"),
        ({"attacks": ["gm", "no"]}, "ablation 'lr' faces attack 'no', which is not one of ['gm', 'other']"),
        (
            {"defense": "strip", "method": "strip", "attacks": ["other"], "vary": {"count": [4]}},
            "ablation 'lr': row 'strip' does not face attack 'other'",
        ),
        ({"vary": {"lr": [10, 50, 10]}}, "ablation 'lr' repeats lr 10.0"),
        ({"vary": {"lr": [10, 10.0]}}, "ablation 'lr' repeats lr 10.0"),
        # Once more the row's own value, which is never run again.
        ({"vary": {"lr": [100, 100.0]}}, "ablation 'lr' repeats lr 100.0"),
        ({"vary": {"lam": [1, 2, 1], "norm": ["l1"]}}, "ablation 'lr' repeats lam 1.0, norm l1"),
        # Other numbers, but the same name.
        ({"vary": {"lr": [1.0000001, 1.0000002]}}, "defenses and ablations repeats lr-1"),
        (
            {"name": "a" * 58, "vary": {"lr": [10]}},
            f"ablation '{'a' * 58}': name: String should have at most 60 characters, not '{'a' * 58}-10'",
        ),
        (
            {"vary": {"def_epoch": [20]}},
            "defense 'lr-20': def_epoch 20 is not below the 20 epochs of victim 'scratch', so the noise would never "
            "be used",
        ),
    ],
)  # fmt: skip
def test_impossible_ablations_are_one_line(change: dict[str, Any], text: str) -> None:
    assert complaint(config({**LR, **change})) == text


@pytest.mark.parametrize(
    ("change", "place", "words"),
    [
        ({"vary": {"lr": [1], "lam": [2], "zeta": [3]}}, "ablations.0.vary:", "at most 2 items"),
        ({"vary": {}}, "ablations.0.vary:", "at least 1 item"),
        ({"vary": {"lr": []}}, "ablations.0.vary.lr:", "at least 1 item"),
        ({"vary": {"lr": 10}}, "ablations.0.vary.lr:", "not 10"),
        ({"vary": {"lr": [[1, 2]]}}, "ablations.0.vary.lr.0:", "finite number, a text, true or false"),
        ({"vary": {"lr": [1, None]}}, "ablations.0.vary.lr.1:", "not None"),
        ({"vary": {"lr": [float("inf")]}}, "ablations.0.vary.lr.0:", "not inf"),
        ({"attacks": []}, "ablations.0.attacks:", "at least 1 item"),
        ({"name": "A b"}, "ablations.0.name:", "not 'A b'"),
        ({"varies": 1}, "unknown key 'ablations.0.varies'", "did you mean 'vary'?"),
    ],
)
def test_a_malformed_ablation_is_one_problem_at_its_key(change: dict[str, Any], place: str, words: str) -> None:
    text = complaint(config({**LR, **change}))
    assert text.startswith(place)
    assert words in text
    assert ";" not in text


def test_a_variant_keeps_the_rules_of_every_row() -> None:
    """Two filters of a row look at one and the same network."""
    filters = [{"method": "deep-knn"}, {"method": "l2-centroid"}]
    values = config({"name": "at", "defense": "both", "method": "deep-knn", "vary": {"network": ["friends"]}})
    values["defenses"].append({"name": "both", "apply": filters})
    text = "ablation 'at': defense 'at-friends': its filters must look at one and the same network"
    assert complaint(values) == text


def test_a_variant_keeps_the_rules_between_settings() -> None:
    both = {"convention": ["blend"], "alpha": [1]}
    text = complaint(config({"name": "a", "defense": "strip", "method": "strip", "vary": both}))
    assert text == "ablation 'a': strip: a blend of alpha 1 leaves nothing of the input: give one below 1, as 0.5"


@pytest.mark.parametrize(
    ("ablations", "defenses", "repeated"),
    [
        ([LR, {**LR, "vary": {"lam": [3]}}], [], "ablations repeats lr"),
        ([LR], [{"name": "lr-50"}], "defenses and ablations repeats lr-50"),
        (
            [{**LR, "name": "a", "vary": {"lr": [1], "lam": [2]}}, {**LR, "name": "a-1", "vary": {"lr": [2]}}],
            [],
            "defenses and ablations repeats a-1-2",
        ),
    ],
)
def test_no_two_rows_have_a_name(
    ablations: list[dict[str, Any]], defenses: list[dict[str, Any]], repeated: str
) -> None:
    assert complaint(config(*ablations, defenses=[*BASE["defenses"], *defenses])) == repeated


@pytest.mark.parametrize("name", ["a-ablation-x", "a-ablation-", "a-ablation-b-c", "so-far-ablation-x"])
def test_a_study_is_not_called_like_the_table_of_anothers_ablation(name: str) -> None:
    text = complaint(config(study=name))
    assert text.startswith(f"study '{name}' must not end in '-ablation-")
    for fine in ("ablation-x", "a-ablation", "a-ablations-x"):
        assert read_study(config(study=fine)).study == fine


# --- friendly noise of another network ------------------------------------------------------------------------------

DONOR = {"name": "lent", "attacks": ["gm"], "apply": [{**FRIENDLY, "donor": {"name": "alexnet"}}]}
TRANSFER = {"name": "transfer", "scenario": "transfer", "pretrained": "base", "recipe": {"epochs": 20}}
UNTRAINED = (
    "the donor of friendly noise would be untrained, because victim 'transfer' gets its noise after 0 epochs: set "
    "def_epoch_pretrained above 0"
)


def lent(**changes: Any) -> dict[str, Any]:
    row = {**DONOR, "apply": [{**DONOR["apply"][0], **changes}]}
    return config(victims=[TRANSFER], defenses=[*BASE["defenses"], row])


def test_a_donor_that_nobody_has_trained_is_refused() -> None:
    assert complaint(lent()) == f"defense 'lent': {UNTRAINED}"
    friendly = read_study(lent(def_epoch_pretrained=1)).defense("lent").friendly
    assert friendly is not None
    assert friendly.begins("transfer") == 1


def test_a_donor_of_a_victim_from_scratch_is_trained_or_asked_for_untrained() -> None:
    for begin in (0, 5):
        values = config(defenses=[*BASE["defenses"], {**DONOR, "apply": [{**DONOR["apply"][0], "def_epoch": begin}]}])
        assert read_study(values).defense("lent").friendly is not None


def test_an_ablation_may_not_untrain_the_donor() -> None:
    values = lent(def_epoch_pretrained=2)
    values["ablations"] = [
        {"name": "a", "defense": "lent", "method": "friendly-noise", "vary": {"def_epoch_pretrained": [2, 0]}}
    ]
    assert complaint(values) == f"defense 'a-0': {UNTRAINED}"


def begins(vary: str, **more: Any) -> dict[str, Any]:
    ablation = {"name": "a", "defense": "friends", "method": "friendly-noise", "vary": {vary: [1, 2]}}
    scratch = BASE["victims"][0]
    attacks = [{**BASE["attacks"][0], "victims": ["scratch"]}, {**BASE["attacks"][1], "victims": ["transfer"]}]
    return config({**ablation, **more}, victims=[scratch, TRANSFER], attacks=attacks)


@pytest.mark.parametrize(
    ("varied", "other", "victim", "attack", "scenario"),
    [
        ("def_epoch", "def_epoch_pretrained", "transfer", "other", "transfer"),
        ("def_epoch_pretrained", "def_epoch", "scratch", "gm", "from-scratch"),
    ],
)
def test_noise_may_not_begin_at_epochs_that_a_victim_does_not_look_at(
    varied: str, other: str, victim: str, attack: str, scenario: str
) -> None:
    text = (
        f"ablation 'a' varies {varied}, which does nothing to victim {victim!r} of attack {attack!r} ({scenario}): "
        f"vary {other}, or list attacks of other victims"
    )
    assert complaint(begins(varied)) == text
    study = read_study(begins(varied, attacks=["gm" if attack == "other" else "other"]))
    begun = {row.friendly.begins("transfer" if victim == "scratch" else "from-scratch") for row in study.rows
             if row.friendly is not None and row.name.startswith("a-")}  # fmt: skip
    assert begun == {1, 2}


# --- ablations of an attack -------------------------------------------------------------------------------------------

EPS = {"name": "eps", "attack": "gm", "defenses": ["none", "friends"], "vary": {"eps": [4, 16, 8]}}


def crafted(study: Study) -> list[str]:
    """The attacks that the ablations add."""
    names = [attack.name for attack in study.every_attack]
    assert names[:2] == ["gm", "other"] == [attack.name for attack in study.attacks]
    return names[2:]


def test_every_value_is_an_attack_but_the_attacks_own() -> None:
    study = read_study(config(EPS))
    assert crafted(study) == ["eps-4", "eps-8"]
    assert added(study) == []
    assert [(each.values, each.attack.name, each.own, each.listed) for each in study.attack_variants] == [
        ({"eps": 4}, "eps-4", False, False),
        ({"eps": 16}, "gm", True, True),
        ({"eps": 8}, "eps-8", False, False),
    ]
    own = {"name": "eps-4", "eps": 4.0}
    assert study.attack("eps-4") == study.attack("gm").model_copy(update=own)


def test_variants_of_an_attack_meet_the_rows_that_the_ablation_names() -> None:
    pairs = met(read_study(config(EPS, LR)))
    assert [pair for pair in pairs if pair[0].startswith("eps")] == [
        (attack, row) for attack in ("eps-4", "eps-8") for row in ("none", "friends")
    ]
    # What the study's own attacks meet is left as it is.
    assert [pair for pair in pairs if not pair[0].startswith("eps")] == met(read_study(config(LR)))


def test_an_attack_of_the_study_stands_for_a_variant() -> None:
    more = [*BASE["attacks"], {"name": "weak", **MATCHING, "eps": 4, "seeds": [0]}]
    study = read_study(config(EPS, attacks=more))
    assert [each.attack.name for each in study.attack_variants] == ["weak", "gm", "eps-8"]
    assert [each.own for each in study.attack_variants] == [False, True, False]
    assert [attack.name for attack in study.every_attack] == ["gm", "other", "weak", "eps-8"]
    # One on another victim does not.
    victims = [*BASE["victims"], {**BASE["victims"][0], "name": "second"}]
    study = read_study(config(EPS, attacks=[*more[:2], {**more[2], "victims": ["second"]}], victims=victims))
    assert [each.attack.name for each in study.attack_variants] == ["eps-4", "gm", "eps-8"]
    # Beside an equal one that stands before it, the varied attack is still the study's own.
    study = read_study(config({**EPS, "attack": "other"}))
    assert [each.attack.name for each in study.attack_variants] == ["eps-4", "other", "eps-8"]


def test_variants_have_no_published_numbers_and_seeds_of_their_own() -> None:
    published = [{"name": "gm", **MATCHING, "published": [{"table": 1}], "seeds": [1]}, BASE["attacks"][1]]
    study = read_study(config(EPS, attacks=published))
    assert (study.attack("eps-4").published, study.attack("eps-4").seeds) == ((), (1,))
    study = read_study(config({**EPS, "seeds": [1, 7]}))
    assert study.seeds_of(study.attack("eps-4")) == (1,)
    assert study.seeds_of(study.attack("gm")) == (0, 1)
    # No seeds that the varied attack does not run with: they would have no pairs.
    study = read_study(config({**EPS, "seeds": [0, 1]}, attacks=published))
    assert study.seeds_of(study.attack("eps-4")) == (1,)


def test_surrogates_of_variants_are_trained_for_them() -> None:
    study = read_study(config({**EPS, "vary": {"ensemble": [1, 3]}, "seeds": [1]}))
    assert [study.members("base", seed) for seed in (0, 1)] == [1, 3]


def test_two_settings_of_an_attack_are_combined() -> None:
    study = read_study(config({**EPS, "vary": {"derivative": ["exact", "differences"], "eps": [16, 4]}}))
    assert [each.attack.name for each in study.attack_variants] == [
        *("gm", "eps-exact-4", "eps-differences-16", "eps-differences-4"),
    ]


def test_words_that_no_name_may_hold_can_vary() -> None:
    """Some words of settings have an underscore, and classes of the user's own may have any name."""
    attacks = [{"name": "gm", "method": "badnets", "target_class": "Cat (Felis_catus)"}]
    vary = {"target_class": ["Cat (Felis_catus)", "Big Dog", "2"]}
    ablation = {"name": "to", "attack": "gm", "defenses": ["none"], "vary": vary}
    study = read_study(config(ablation, attacks=attacks))
    assert [(each.attack.name, each.values["target_class"]) for each in study.attack_variants] == [
        *(("gm", "Cat (Felis_catus)"), ("to-big-dog", "Big Dog"), ("to-2", "2")),
    ]
    twice = config({**ablation, "vary": {"target_class": ["big dog", "Big Dog"]}}, attacks=attacks)
    assert complaint(twice) == "attacks and ablations repeats to-big-dog"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"defense": "friends"}, "ablation 'eps': name what is varied, as defense (a row) or as attack, and not both"),
        ({"attack": None}, "ablation 'eps': name what is varied, as defense (a row) or as attack, and not both"),
        ({"defenses": None}, "ablation 'eps' varies attack 'gm': add defenses, the rows that meet the variants"),
        ({"method": "friendly-noise"}, "ablation 'eps' varies attack 'gm': leave out method, of defenses only"),
        ({"attacks": ["gm"]}, "ablation 'eps' varies attack 'gm': leave out attacks, of defenses only"),
        ({"attack": "no"}, "ablation 'eps' varies attack 'no', which is not one of ['gm', 'other']"),
        ({"defenses": ["no"]}, f"ablation 'eps' names defense 'no', which is not one of {ROWS}"),
        ({"vary": {"eps": [-1]}}, "ablation 'eps': eps: Input should be greater than 0, not -1"),
        ({"vary": {"eps": [4, 4.0]}}, "ablation 'eps' repeats eps 4.0"),
        ({"vary": {"eps": [0.5]}}, "ablation 'eps': attack 'gm': eps 0.5 is less than one level"),
        ({"vary": {"surrogate": ["no"]}}, "attack 'eps-no' names surrogate 'no', which is not one of ['base']"),
        ({"vary": {"budget": [0.5]}}, "attack 'eps-0.5': budget 0.5 asks for 100 poisons, but a class has only 20"),
        ({"seeds": [5]}, "attack 'eps-4': none of its seeds [5] is one of the study's [0, 1]"),
        ({"name": "gm", "vary": {"eps": [4]}, "attack": "other"}, None),
        (
            {"attack": "other", "defenses": ["strip"]},
            "ablation 'eps' names defense 'strip', which does not face attack 'other': leave one of them out",
        ),
        (
            {"defenses": ["filtered"]},
            "ablation 'eps' names defense 'filtered', which looks at the network of 'none': name both",
        ),
    ],
)  # fmt: skip
def test_impossible_ablations_of_attacks_are_one_line(change: dict[str, Any], text: str | None) -> None:
    wrong = config({key: value for key, value in {**EPS, **change}.items() if value is not None})
    if text is None:
        assert crafted(read_study(wrong)) == ["gm-4"]
    else:
        assert complaint(wrong).removeprefix("ablations.0: ").startswith(text)


@pytest.mark.parametrize("setting", ["name", "method", "victims", "seeds", "published", "no"])
def test_what_no_attack_varies(setting: str) -> None:
    text = complaint(config({**EPS, "vary": {setting: ["x"]}}))
    assert text.startswith(f"ablation 'eps' varies {setting!r}, which is no setting of gradient-matching: choose of [")
    assert "'eps'" in text.partition("choose of")[2]
    assert "'seeds'" not in text.partition("choose of")[2]


def test_an_attack_with_the_name_of_a_variant_is_refused() -> None:
    attacks = [*BASE["attacks"], {"name": "eps-4", **MATCHING}]
    assert complaint(config(EPS, attacks=attacks)) == "attacks and ablations repeats eps-4"


def test_an_ablation_of_a_defense_has_no_fields_of_the_other_kind() -> None:
    assert complaint(config({**LR, "seeds": [0]})) == (
        "ablations.0: ablation 'lr' varies defense 'friends': leave out seeds, of attacks only"
    )
    bare = {key: value for key, value in LR.items() if key != "method"}
    assert complaint(config(bare)) == (
        "ablations.0: ablation 'lr' varies defense 'friends': add method, which of the row's defenses has the settings"
    )


def test_a_row_that_an_equal_attack_does_not_meet_is_named() -> None:
    attacks = [*BASE["attacks"], {"name": "weak", **MATCHING, "eps": 4}]
    defenses = [*BASE["defenses"], {"name": "few", "attacks": ["gm"]}]
    text = complaint(config({**EPS, "defenses": ["none", "few"]}, attacks=attacks, defenses=defenses))
    assert text == "ablation 'eps' names defense 'few', which does not face attack 'weak': leave one of them out"


def test_a_table_tells_of_the_noises_of_its_own_rows_alone() -> None:
    def scale(*defenses: str) -> str:
        graph = Graph(read_study(config({**EPS, "defenses": list(defenses)})))
        return " ".join(parse(graph.job("ablation", {"scope": "", "ablation": "eps"}).settings)["scale"])

    assert "noise" not in scale("none")
    assert "Friendly noise: " in scale("none", "friends")
    assert "Random noise: mu 8." in scale("none", "friends")
