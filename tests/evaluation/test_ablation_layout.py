"""Tables of ablations: which trials a line is made of, what it is compared with, how values are written."""

from __future__ import annotations

import math
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made import MEASURES, stage, trial
from made import line as line_of
from scipy import stats
from sklearn.metrics import matthews_corrcoef

from poisonlab.evaluation.ablation_layout import (
    AblationTable,
    VariantOf,
    compare_variants,
    exchanged,
    readable_variants,
)
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.layouts import latex, markdown, value_text
from poisonlab.evaluation.trials import Trial

SEEDS = tuple(range(6))


def line(defense: str, attack: str = "gm") -> dict[str, Any]:
    return line_of(attack, defense, SEEDS)


def trials(defense: str, failures: int, accuracy: float = 0.9, attack: str = "gm", count: int = 6) -> list[Trial]:
    """The attack fails with the first so many seeds."""
    return [trial(attack, defense, seed, float(seed >= failures), accuracy + seed / 1000) for seed in range(count)]


def variant(row: str, own: bool = False, **values: Any) -> VariantOf:
    return VariantOf(row=row, values=values, own=own)


LINES = [line("none"), line("friends"), line("lr-10"), line("lr-50")]
VARIANTS = [variant("lr-10", lr=10.0), variant("friends", own=True, lr=100.0), variant("lr-50", lr=50.0)]
TRIALS = [*trials("none", 0), *trials("lr-50", 3, 0.8), *trials("friends", 6), *trials("lr-10", 1, count=4)]


def compare(
    trials: list[Trial], lines: list[dict[str, Any]], variants: list[VariantOf], base: str, settings: list[str]
) -> pd.DataFrame:
    return compare_variants(trials, stage(lines), variants, base, settings)


def readable(table: pd.DataFrame, settings: list[str]) -> pd.DataFrame:
    return readable_variants(table, MEASURES, settings, "none")


def by_row(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {str(each["row"]): each for each in table.to_dict("records")}


def test_a_line_per_value_in_the_order_of_the_values_below_undefended_training() -> None:
    table = compare(TRIALS, LINES, VARIANTS, "friends", ["lr"])
    names = ("success", "adversarial_confidence", "accuracy")
    intervals = [f"{name}{end}" for name in names for end in ("", "_low", "_high", "_n")]
    ends = {"adversarial_confidence": ("", "_n"), "accuracy": ("", "_low", "_high", "_n")}
    changes = [f"{name}_less_own{end}" for name, each in ends.items() for end in each]
    tests = ["p", "p_holm", "adversarial_confidence_p", "adversarial_confidence_p_holm"]
    assert list(table.columns) == ["attack", "victim", "row", "lr", "own", "n", *intervals, *tests, *changes]
    assert table["row"].tolist() == ["none", "lr-10", "friends", "lr-50"]
    assert table["lr"].tolist() == [None, 10, 100, 50]
    assert table["own"].tolist() == [False, False, True, False]
    assert table["n"].tolist() == [6, 4, 6, 6]
    assert table["success"].tolist() == [1, 0.75, 0, 0.5]
    assert table["accuracy"].tolist() == pytest.approx([0.9025, 0.9015, 0.9025, 0.8025])


def test_all_are_tested_against_the_studys_row() -> None:
    found = by_row(compare(TRIALS, LINES, VARIANTS, "friends", ["lr"]))
    # Where friends fails always, those that differ fall one way: 2 / 2^k of 6, 3 and 3 (of four shared) seeds.
    raw = {"none": 2 / 64, "lr-10": 2 / 8, "lr-50": 2 / 8}
    for name, value in raw.items():
        assert found[name]["p"] == pytest.approx(value)
    corrected = {name: found[name]["p_holm"] for name in raw}
    assert corrected == pytest.approx({"none": 3 * 2 / 64, "lr-10": 0.5, "lr-50": 0.5})
    assert math.isnan(found["friends"]["p"])


def test_values_have_their_mean_change_against_the_studys_row_on_the_same_seeds() -> None:
    moved = [
        replace(each, measures={**each.measures, "accuracy": 0.8 + each.seed**2 / 1000}) for each in trials("a", 0)
    ]
    variants = [*VARIANTS, variant("a", lr=5.0)]
    found = by_row(compare([*TRIALS, *moved], [*LINES, line("a")], variants, "friends", ["lr"]))
    differences = [-0.1 + (seed**2 - seed) / 1000 for seed in SEEDS]
    interval = stats.t.interval(0.95, 5, loc=np.mean(differences), scale=stats.sem(differences))
    changes = [found["a"][f"accuracy_less_own{end}"] for end in ("", "_low", "_high", "_n")]
    assert changes == pytest.approx([np.mean(differences), *interval, 6])
    assert found["lr-10"]["accuracy_less_own_n"] == 4
    assert math.isnan(found["friends"]["accuracy_less_own"])


def test_the_studys_row_is_compared_with_also_where_its_value_is_not_among_those_varied() -> None:
    table = compare(TRIALS, LINES, [VARIANTS[0], VARIANTS[2]], "friends", ["lr"])
    assert table["row"].tolist() == ["none", "lr-10", "lr-50"]
    assert not table["own"].any()
    assert by_row(table)["lr-50"]["p"] == pytest.approx(2 / 8)


def test_each_attack_has_its_own_lines_and_tests() -> None:
    lines = [*LINES, line("friends", "bp"), line("lr-10", "bp")]
    more = [*trials("friends", 0, attack="bp"), *trials("lr-10", 6, attack="bp")]
    table = compare([*more, *TRIALS], lines, VARIANTS, "friends", ["lr"])
    assert list(zip(table["attack"], table["row"], strict=True))[4:] == [("bp", "lr-10"), ("bp", "friends")]
    first, second = (by_row(table[table["attack"] == attack]) for attack in ("gm", "bp"))
    assert second["lr-10"]["p_holm"] == pytest.approx(2 / 64)
    assert first["none"]["p_holm"] == pytest.approx(6 / 64)


def test_the_mean_over_victims_is_compared_too() -> None:
    lines = [line_of("gm", row, SEEDS, victim) for victim in ("one", "two") for row in ("friends", "lr-10")]
    found = [
        trial("gm", row, seed, float(row == "lr-10" and (victim == "one" or seed < 3)), 0.9, victim=victim)
        for victim in ("one", "two")
        for row in ("friends", "lr-10")
        for seed in SEEDS
    ]
    variants = [variant("friends", own=True, lr=100.0), variant("lr-10", lr=10.0)]
    table = compare_variants(found, stage(lines, mean_over_victims=True), variants, "friends", ["lr"])
    mean = by_row(table[table["victim"] == "mean"])
    assert mean["lr-10"]["success"] == pytest.approx((3 * 1 + 3 * 0.5) / 6)
    # Six differences, all one way; with one victim McNemar's has six pairs, with the other three.
    assert mean["lr-10"]["p"] == pytest.approx(2 / 64)
    alone = {victim: by_row(table[table["victim"] == victim])["lr-10"]["p"] for victim in ("one", "two")}
    assert alone == pytest.approx({"one": 2 / 64, "two": 2 / 8})


def test_what_nobody_has_run_has_a_line() -> None:
    table = compare(TRIALS[:6], LINES, VARIANTS, "friends", ["lr"])
    assert table["n"].tolist() == [6, 0, 0, 0]
    shown = readable(table, ["lr"])
    assert shown["lr"].tolist() == ["(no defense)", "10", "100", "50"]
    assert shown["Poison success [95 % CI]"].tolist()[1:] == ["–"] * 3
    assert "nan" not in (markdown(shown) + latex(shown)).lower()


@pytest.mark.parametrize(
    ("values", "written", "shown"),
    [
        ([5, 10], ["5", "10"], ["5", "10"]),
        ([2.5, 10.0], ["2.5", "10.0"], ["2.5", "10"]),
        ([1e-5, 1e6], ["1e-05", "1000000.0"], ["1e-05", "1e+06"]),
        ([True, False], ["True", "False"], ["true", "false"]),
        (["l1", "none"], ["l1", "none"], ["l1", "none"]),
    ],
)
def test_values_stay_what_they_are_beside_the_row_without_one(
    values: list[Any], written: list[str], shown: list[str]
) -> None:
    lines = [line("none"), line("a"), line("b")]
    variants = [variant(name, x=value) for name, value in zip("ab", values, strict=True)]
    table = compare(trials("a", 0), lines, variants, "a", ["x"])
    text = pd.read_csv(StringIO(table.to_csv(index=False)), dtype=str, keep_default_na=False)
    assert text["x"].tolist() == ["", *written]
    assert readable(table, ["x"])["x"].tolist() == ["(no defense)", *shown]


def test_readable_numbers() -> None:
    shown = readable(compare(TRIALS, LINES, VARIANTS, "friends", ["lr"]), ["lr"])
    assert set(shown["Attack"]) == {""}
    assert shown["n"].tolist() == ["6", "4", "6", "6"]
    assert shown["p (Holm)"].tolist() == ["0.094", "0.500", "", "0.500"]
    assert shown[""].tolist() == ["", "", "the study's", ""]
    # Wilson's interval of 0 in 6 ends at z^2 / (6 + z^2).
    assert shown["Poison success [95 % CI]"][2] == f"0.0 [0.0, {100 * 3.8414588 / 9.8414588:.1f}]"
    assert shown["Test accuracy [95 % CI]"][3].startswith("80.2 [")


def test_two_settings_have_a_column_each() -> None:
    variants = [variant("a", own=True, lr=1.0, norm="l2"), variant("b", lr=2.0, norm="l1")]
    table = compare(trials("a", 0), [line("none"), line("a"), line("b")], variants, "a", ["norm", "lr"])
    shown = readable(table, ["norm", "lr"])
    assert list(shown.columns)[:4] == ["Attack", "norm", "lr", "n"]
    assert shown["norm"].tolist() == ["(no defense)", "l2", "l1"]
    assert shown["lr"].tolist() == ["", "1", "2"]


def test_nothing_is_written_for_no_value() -> None:
    assert [value_text(value) for value in (None, math.nan, 0, 0.0, False, "")] == ["", "", "0", "0", "false", ""]


def test_variants_of_a_filter_have_what_they_drop() -> None:
    random = np.random.default_rng(0)
    poisoned = np.arange(60) < 12
    masks = {
        ("lr-10", seed): random.random(60) < np.where(poisoned, 0.7, 0.2) for seed in range(3)
    } | {("friends", seed): np.zeros(60, dtype=bool) for seed in range(3)}  # fmt: skip
    done = []
    for (row, seed), dropped in masks.items():
        counts = [int((a & b).sum()) for a in (dropped, ~dropped) for b in (poisoned, ~poisoned)]
        found = Detection(
            poisons_dropped=counts[0], clean_dropped=counts[1], poisons_kept=counts[2], clean_kept=counts[3]
        )
        done.append(trial("gm", row, seed, 0.0, found=found))
    table = by_row(compare(done, LINES[:3], VARIANTS[:2], "friends", ["lr"]))
    filtered = [masks["lr-10", seed] for seed in range(3)]
    expected = np.mean([matthews_corrcoef(poisoned, dropped) for dropped in filtered])
    assert table["lr-10"]["matthews"] == pytest.approx(expected)
    assert table["lr-10"]["poisons_found"] == pytest.approx(np.mean([each[:12].mean() for each in filtered]))
    assert table["lr-10"]["clean_dropped"] == pytest.approx(np.mean([each[12:].mean() for each in filtered]))
    # A variant that drops nothing has found nothing, which is not unknown.
    assert (table["friends"]["poisons_found"], table["friends"]["clean_dropped"]) == (0, 0)
    assert math.isnan(table["friends"]["matthews"])
    assert math.isnan(table["none"]["poisons_found"])
    shown = readable(compare(done, LINES[:3], VARIANTS[:2], "friends", ["lr"]), ["lr"])
    assert shown["Clean dropped"].tolist()[0] == ""
    assert shown["Clean dropped"].tolist()[2] == "0 %"
    # A control has no poisons of which a share could be found.
    control = [replace(each, found=Detection(0, 0, 0, 60)) if each.defense == "friends" else each for each in done]
    table = by_row(compare(control, LINES[:3], VARIANTS[:2], "friends", ["lr"]))
    assert math.isnan(table["friends"]["poisons_found"])
    assert table["friends"]["clean_dropped"] == 0
    # A training set that is poisoned whole has no clean ones, whatever another attack's has.
    whole = [replace(each, attack="bp", found=Detection(5, 55, 0, 0)) for each in done]
    lines = [*LINES[:3], *(line(each["defense"], "bp") for each in LINES[:3])]
    shown = compare([*done, *whole], lines, VARIANTS[:2], "friends", ["lr"])
    assert shown[shown["attack"] == "bp"].iloc[1:]["clean_dropped"].isna().all()
    assert shown[shown["attack"] == "gm"].iloc[1:]["clean_dropped"].notna().all()


def test_a_mean_over_victims_shows_no_shares_of_dropped_images() -> None:
    """They are of one training set each; 0 would say that nothing was found."""
    found = {"friends": Detection(0, 5, 0, 45), "lr-10": Detection(4, 1, 5, 40)}
    victims = ("one", "two")
    lines = [line_of("gm", row, SEEDS, victim) for victim in victims for row in found]
    done = [
        trial("gm", row, seed, 0.0, victim=victim, found=own)
        for victim in victims
        for row, own in found.items()
        for seed in SEEDS
    ]
    variants = [variant("friends", own=True, lr=100.0), variant("lr-10", lr=10.0)]
    table = compare_variants(done, stage(lines, mean_over_victims=True), variants, "friends", ["lr"])
    mean = table["victim"] == "mean"
    assert table.loc[mean, ["poisons_found", "clean_dropped"]].isna().all(axis=None)
    assert table.loc[~mean, "poisons_found"].tolist() == pytest.approx([0, 0.8, 0, 0.8])


def of_attack(lines: list[dict[str, Any]]) -> AblationTable:
    measures = [
        {"attack": name, "measures": [each.model_dump() for each in MEASURES["gm"]]} for name in ("gm", "eps-4")
    ]
    more = {"name": "eps", "title": "", "attack": "gm", "method": "gradient-matching", "settings": ["eps"]}
    variants = [
        {"row": "eps-4", "values": {"eps": 4.0}, "own": False},
        {"row": "gm", "values": {"eps": 8.0}, "own": True},
    ]
    values = {"description": "", "lines": lines, "measures": measures, "compare": ["none"], "variants": variants}
    return AblationTable.model_validate({**values, **more})


def test_variants_of_an_attack_are_compared_with_it_under_each_row() -> None:
    lines = [line(row, attack) for attack in ("gm", "eps-4") for row in ("none", "friends")]
    done = [*trials("none", 0), *trials("friends", 4), *trials("none", 5, attack="eps-4")]
    stage, turned = exchanged(of_attack(lines), [*done, *trials("friends", 6, attack="eps-4", count=5)])
    table = compare_variants(turned, stage, stage.variants, "gm", ["eps"])
    assert list(zip(table["attack"], table["row"], table["eps"], table["own"], strict=True)) == [
        ("none", "eps-4", 4.0, False),
        ("none", "gm", 8.0, True),
        ("friends", "eps-4", 4.0, False),
        ("friends", "gm", 8.0, True),
    ]
    assert table["success"].tolist() == pytest.approx([1 / 6, 1, 0, 2 / 6])
    assert table["n"].tolist() == [6, 6, 5, 6]
    # Five seeds differ undefended, all one way; under the defense the variant lacks seed 5, and seed 4 alone differs.
    assert table["p_holm"].tolist() == pytest.approx([2 / 32, math.nan, 1.0, math.nan], nan_ok=True)
    assert "poisons_found" not in table
    shown = readable_variants(table, stage.by_attack, ["eps"], None)
    assert shown["Attack"].tolist() == ["none", "none", "friends", "friends"]
    assert shown["eps"].tolist() == ["4", "8", "4", "8"]


def test_of_an_attack_s_ablation_only_rows_that_drop_images_show_shares() -> None:
    """Undefended training looks for no poisons, so that it has not found 0 % of them."""
    found = {"none": Detection(0, 12, 0, 48), "knn": Detection(6, 6, 12, 36)}
    lines = [line(row, attack) for attack in ("gm", "eps-4") for row in found]
    done = [trial(attack, row, 0, 0.0, found=found[row]) for attack in ("gm", "eps-4") for row in found]
    stage, turned = exchanged(of_attack(lines), done)
    table = compare_variants(turned, stage, stage.variants, "gm", ["eps"])
    assert table["attack"].tolist() == ["none", "none", "knn", "knn"]
    assert table["poisons_found"].tolist() == pytest.approx([math.nan, math.nan, 0.5, 0.5], nan_ok=True)
    assert table["clean_dropped"].tolist() == pytest.approx([math.nan, math.nan, 0.25, 0.25], nan_ok=True)
