"""What a table says in a sentence: the numbers in it, against numbers worked out by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pandas as pd
import pytest
from made import COMPARE, MEASURES, VICTIM, trial

from poisonlab.config.measures import ACCURACY, ADVERSARIAL_CONFIDENCE, SUCCESS
from poisonlab.evaluation.findings import (
    ablation_changes,
    ablation_finding,
    inside_findings,
    paired_findings,
    results_findings,
)
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.trials import Trial


def trials(defense: str, successes: list[float], accuracy: float = 0.9, attack: str = "gm", **more: Any) -> list[Trial]:
    return [trial(attack, defense, seed, value, accuracy, **more) for seed, value in enumerate(successes)]


NONE, FRIENDS = trials("none", [1, 1, 1, 0], 0.92), trials("friends-bernoulli", [0, 0, 0, 0], 0.905)


def wilson(successes: int, n: int) -> str:
    z, p = 1.959963984540054, successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return f"poison success {100 * p:.1f} [{100 * (centre - half):.1f}, {100 * (centre + half):.1f}] %"


def findings(*rows: list[Trial], **more: Any) -> list[str]:
    results = tidy_results([trial for row in rows for trial in row], MEASURES, COMPARE, **more)
    return results_findings(results, MEASURES, COMPARE)


def test_a_study_is_the_rows_compared_with_and_the_best_of_the_others() -> None:
    others = [trials("d", [1, 0, 0, 0]), trials("e", [1, 1, 0, 0]), trials("f", [0, 0, 0, 1], 0.95)]
    assert findings(NONE, *others, FRIENDS) == [
        f"gm: none, {wilson(3, 4)}, test accuracy 92.0 % (n = 4); "
        f"friends-bernoulli, {wilson(0, 4)}, test accuracy 90.5 % (n = 4); "
        # Of equal ones, the most accurate first.
        "least of the other 3 rows, poison success 25.0 % (f at 95.0 %, d at 90.0 % test accuracy); "
        # Wilson's interval of 3 in 4 begins at 30.1 %, and those of 0, 1 and 2 in 4 end at 49.0, 69.9 and 85.0 %.
        "4 of 4 defended rows' intervals of poison success overlap that of none."
    ]


def test_rows_that_are_told_apart_do_not_overlap() -> None:
    (text,) = findings(trials("none", [1.0] * 6), trials("d", [0.0] * 6))
    assert text.endswith("; 0 of 1 defended rows' intervals of poison success overlap that of none.")


def test_the_control_is_no_defense() -> None:
    clean = trials("clean", [0, 0, 0, 0], 0.95, control=True)
    (alone,), (text,) = findings(NONE), findings(NONE, clean)
    control = f"clean (control), {wilson(0, 4)}, test accuracy 95.0 % (n = 4)."
    assert text == f"{alone[:-1]}; {control}"
    assert findings(clean) == [f"gm: {control}"]


def test_names_are_what_the_reader_is_told() -> None:
    results = tidy_results([*NONE, *trials("d", [0, 0, 0, 0])], MEASURES, ["none"])
    (text,) = results_findings(results, MEASURES, ["none"], str.upper)
    assert text.startswith("gm: NONE, ")
    assert "(D at 90.0 % test accuracy)" in text


def test_not_more_than_four_rows_are_named() -> None:
    rows = [trials(f"d{number}", [0, 0]) for number in range(7)]
    (text,) = findings(*rows)
    named = ", ".join(f"d{number} at 90.0 %" for number in range(4))
    assert text == f"gm: least of the 7 rows, poison success 0.0 % ({named} and 3 more test accuracy)."


def test_a_best_row_of_other_seeds_than_the_undefended_one_says_of_how_many() -> None:
    """The best of four rows with one seed is best by that seed, too, whatever the defense does."""
    rows = [trials("d", [0]), trials("e", [0, 0, 0, 0], 0.8), trials("f", [0, 1])]
    (text,) = findings(NONE, *rows)
    assert "least of the other 3 rows, poison success 0.0 % (d (n = 1) at 90.0 %, e at 80.0 % test accuracy)" in text
    # Nobody ran the undefended row: most rows have as many seeds as any.
    (alone,) = findings(*rows)
    assert "(d (n = 1) at 90.0 %, e at 80.0 % test accuracy)" in alone


def test_means_that_differ_by_rounding_are_equally_good() -> None:
    """0.1 + 0.2 + 0 and 0.3 + 0 + 0 are the same number of images."""
    rows = [trials(name, rates, attack="sa", targets=10) for name, rates in (("d", [0.1, 0.2, 0]), ("e", [0.3, 0, 0]))]
    (text,) = findings(*rows)
    assert "least of the 2 rows, poison success 10.0 % (d at 90.0 %, e at 90.0 % test accuracy)" in text


def test_a_row_without_the_last_measure_has_a_dash() -> None:
    bare = [replace(each, measures={"success": 0.0}) for each in trials("d", [0, 0, 0, 0])]
    (text,) = findings(NONE, bare)
    assert "the other row, poison success 0.0 % (d at – test accuracy)" in text
    assert "nan" not in text


def test_each_attack_and_victim_has_a_sentence_if_it_was_run() -> None:
    other = trials("none", [0, 0, 1], attack="bp")
    second = trials("none", [1, 1], victim="second")
    expected = [("later", VICTIM, "none"), ("bp", VICTIM, "none"), ("gm", VICTIM, "none"), ("gm", VICTIM, "d")]
    measures = {**MEASURES, "later": MEASURES["gm"]}
    results = tidy_results([*NONE, *other, *second], measures, COMPARE, expected=expected)
    texts = results_findings(results, measures, COMPARE)
    assert [text.split(":")[0] for text in texts] == ["bp", f"gm on {VICTIM}", "gm on second"]
    assert [wilson(1, 3) in texts[0], wilson(3, 4) in texts[1], wilson(2, 2) in texts[2]] == [True] * 3
    # A row that nobody has run is none of the others.
    assert "other" not in texts[1]
    nothing = tidy_results([], measures, COMPARE, expected=expected)
    assert results_findings(nothing, measures, COMPARE) == []


def changes(*rows: list[Trial]) -> list[str]:
    results = tidy_results([trial for row in rows for trial in row], MEASURES, COMPARE)
    return paired_findings(results, MEASURES, COMPARE)


def costs(*rows: list[Trial]) -> list[str]:
    """What the sentences say of test accuracy."""
    return [text.partition("of test accuracy, ")[2] for text in changes(*rows)]


def with_accuracies(defense: str, accuracies: dict[int, float], **more: Any) -> list[Trial]:
    return [trial("gm", defense, seed, 0.0, accuracy, **more) for seed, accuracy in accuracies.items()]


def test_a_cost_is_paired_by_seed_and_told_for_each_row_that_is_compared_with() -> None:
    none = with_accuracies("none", {0: 0.90, 1: 0.50, 2: 0.70})
    friends = with_accuracies("friends-bernoulli", {0: 0.87, 1: 0.48, 2: 0.69, 7: 0.1})
    clean = with_accuracies("clean", {1: 0.53}, control=True)
    half = 100 * 4.30265273 * 0.01 / math.sqrt(3)
    cost = f"-2.0 [{-2 - half:+.1f}, {-2 + half:+.1f}]"
    alone = with_accuracies("d", {0: 0.87, 1: 0.49, 2: 0.71})
    other = f"-1.0 [{-1 - 2 * half:+.1f}, {-1 + 2 * half:+.1f}]"
    gain = f"+1.0 [{1 - half:+.1f}, {1 + half:+.1f}]"
    # One pair has no interval, so that the control is not told.
    (first,) = costs(none, friends, clean)
    assert first == f"friends-bernoulli {cost} (n = 3)."
    assert costs(none, friends, clean, alone) == [f"{first[:-1]}, d {other}.", f"d {gain}."]


def with_confidences(defense: str, confidences: list[float], **more: Any) -> list[Trial]:
    return [
        replace(each, measures={**each.measures, "adversarial_confidence": confidence})
        for each, confidence in zip(trials(defense, [0.0] * len(confidences), **more), confidences, strict=True)
    ]


def test_a_change_of_confidence_has_the_p_of_its_permutation_test() -> None:
    none = with_confidences("none", [0.9, 0.8, 0.7, 0.9, 0.1, 0.6])
    friends = with_confidences("friends-bernoulli", [0.1, 0.1, 0.2, 0.2, 0.0, 0.1])
    d = with_confidences("d", [0.2, 0.9, 0.1, 0.9, 0.2])
    clean = with_confidences("clean", [0.1] * 6, control=True)
    against_none, against_friends = (text.partition("; ")[0] for text in changes(none, friends, d, clean))
    # All six differences to friends-bernoulli fall: 2 of 64 patterns of signs, doubled by Holm. d falls by 0.7 and
    # 0.6, rises by 0.1 twice and stays once: 8 of the 16 patterns of those that differ come to 1.1 or more.
    assert against_none == (
        "gm: change against none, paired by seed, in points: of adversarial confidence, "
        f"friends-bernoulli -55.0 (p {2 * 2 / 64:.3f}), d -22.0 (n = 5, p {8 / 16:.3f}), clean -56.7"
    )
    # 1.9 in all, of which one 0.1 may fall for 1.7: 3 of 32 patterns to each side.
    assert against_friends == (
        "gm: change against friends-bernoulli, paired by seed, in points: of adversarial confidence, "
        f"d +34.0 (n = 5, p {6 / 32:.3f})"
    )


def test_of_many_rows_those_told_apart_alone_are_named() -> None:
    others = [with_accuracies(f"d{number}", {0: 0.899, 1: 0.901}) for number in range(7)]
    near = with_accuracies("near", dict.fromkeys(range(4), 0.92))
    friends = with_accuracies("friends-bernoulli", {0: 0.904, 1: 0.906, 2: 0.904, 3: 0.906})
    first, second = changes(NONE, friends, near, *others)
    # Pairs 0.1 from their mean: t(3) times 0.1 / sqrt(3), and with two of them t(1) times 0.1.
    few, two = 3.18244631 * 0.1 / math.sqrt(3), 12.7062047 * 0.1
    several = ", ".join(f"d{number} -2.0 [{-2 - two:.1f}, {-2 + two:.1f}]" for number in range(7))
    told = f"friends-bernoulli -1.5 [{-1.5 - few:.1f}, {-1.5 + few:.1f}], {several}"
    assert f"of test accuracy 8 of 9 told apart, {told}." in first
    assert f"near +1.5 [{1.5 - few:+.1f}, {1.5 + few:+.1f}]" in second
    assert costs(NONE, *others)[0].count("[") == 7


def test_of_many_rows_those_whose_confidence_is_told_apart_are_named() -> None:
    start, falls = [0.9] * 9, [0.1, 0.2, 0.15, 0.3, 0.25, 0.4, 0.35, 0.45, 0.05]
    every = with_confidences("every", [one - fall for one, fall in zip(start, falls, strict=True)])
    nearly = with_confidences("nearly", [*(one - fall for one, fall in zip(start[1:], falls, strict=False)), 0.95])
    others = [with_confidences(f"d{number}", start) for number in range(7)]
    told = changes(with_confidences("none", start), every, nearly, *others)[0].partition("; ")[0]
    # All signs alike are 2 of 512 patterns, times 9 rows. In the other row the smallest change rises: 4 patterns, times
    # 8 rows, are more than 5 %.
    assert 9 * 2 / 512 < 0.05 < 8 * 4 / 512
    assert told.endswith(f"of adversarial confidence 1 of 9 told apart, every -25.0 (p {9 * 2 / 512:.3f})")


def test_a_change_that_is_equal_with_every_seed_has_no_interval_and_is_not_told_apart() -> None:
    """Two falls of 2 points, which are equal by chance as accuracies are of some thousand images."""
    assert costs(NONE, trials("d", [0, 0])) == ["d -2.0 (n = 2)."]
    many = [trials(f"d{number}", [0, 0]) for number in range(9)]
    assert costs(NONE, *many) == [""]
    assert "of test accuracy 0 of 9 told apart." in changes(NONE, *many)[0]


def test_a_cost_without_an_interval_is_not_told() -> None:
    assert costs(NONE) == costs(trials("none", [1]), trials("d", [0])) == []


def test_where_high_is_good_the_best_row_is_the_highest() -> None:
    some = [
        Trial("none", VICTIM, defense, 0, {"peak_accuracy": peak, "first_epoch": 2.0, "accuracy": 0.5})
        for defense, peak in (("none", 0.25), ("d", 0.75), ("e", 0.5))
    ]
    (text,) = findings(some)
    assert "; most of the other 2 rows, peak accuracy 75.0 % (d at 50.0 % test accuracy)." in text
    assert "success" not in text
    # One seed of a value has no interval that could overlap.
    assert "overlap" not in text


def test_published_values_in_our_intervals_are_counted() -> None:
    # Wilson's interval of 3 in 4 is [0.30, 0.95], of 0 in 4 [0, 0.49]; accuracies hardly vary.
    published = {
        ("gm", VICTIM, "none"): {"success": 0.9, "accuracy": 0.92},
        ("gm", VICTIM, "friends-bernoulli"): {"success": 0.6, "accuracy": 0.7},
        ("gm", VICTIM, "d"): {"success": 0.1},
    }
    apart = [
        replace(each, measures={**each.measures, "accuracy": each.measures["accuracy"] + 0.001 * each.seed})
        for each in [*NONE, *FRIENDS]
    ]
    (text,) = findings(apart, trials("d", [0, 0, 0, 0]), published=published)
    assert text.endswith(
        "; 2 of 3 published values of poison success lie in our intervals; "
        "1 of 2 published values of test accuracy lie in our intervals."
    )
    assert "published" not in findings(NONE)[0]


def test_values_without_a_verdict_are_not_counted() -> None:
    words = "published values of poison success lie in our intervals"
    assert inside_findings(SUCCESS, [True, None, False, math.nan]) == [f"1 of 2 {words}"]
    assert inside_findings(ACCURACY, [None, math.nan]) == []


# --- ablations ------------------------------------------------------------------------------------------------------


def compared(*lines: tuple[str, Any, int, float, float, float], attack: str = "gm") -> pd.DataFrame:
    """Row, value of lr, n, success, accuracy and corrected p."""
    names = ["row", "lr", "n", "success", "accuracy", "p_holm"]
    return pd.DataFrame(lines, columns=names).astype({"lr": object}).assign(attack=attack, victim=VICTIM)


def found(table: pd.DataFrame, settings: list[str]) -> list[str]:
    own = dict.fromkeys(table["attack"], (SUCCESS, ACCURACY))
    return ablation_finding(table, own, settings, "none")


NAN = math.nan


def test_an_ablation_is_its_best_and_worst_values() -> None:
    table = compared(
        ("none", None, 3, 1.0, 0.99, 0.01),
        ("a", 10.0, 3, 0.5, 0.91, 0.25),
        ("b", 100.0, 3, 0.75, 0.88, NAN),
        ("c", 1e-5, 3, 0.25, 0.9, 0.125),
        ("d", 7.0, 0, NAN, NAN, NAN),
    )
    assert found(table, ["lr"]) == [
        "gm: poison success from 25.0 % (lr 1e-05) to 75.0 % (lr 100), test accuracy from 88.0 % (lr 100) to 91.0 % "
        "(lr 10); smallest corrected p of poison success against the study's own row 0.125."
    ]


def test_an_end_of_other_seeds_than_the_undefended_row_says_of_how_many() -> None:
    lines = ("a", 10.0, 3, 0.5, 0.91, NAN), ("b", 20.0, 1, 0.25, 0.88, NAN)
    seldom = "from 25.0 % (lr 20, n = 1) to 50.0 % (lr 10), test accuracy from 88.0 % (lr 20, n = 1) to 91.0 % (lr 10)."
    undefended = ("none", None, 3, 1.0, 0.99, NAN)
    for table in (compared(*lines), compared(undefended, *lines)):
        assert found(table, ["lr"]) == [f"gm: poison success {seldom}"]
    (text,) = found(compared(("none", None, 9, 1.0, 0.99, NAN), *lines), ["lr"])
    assert "from 25.0 % (lr 20, n = 1) to 50.0 % (lr 10, n = 3)" in text
    assert found(compared(undefended), ["lr"]) == []


def changes_of(count: int) -> list[str]:
    """The first variant's accuracy lies 3 to 1 points lower on the same seeds, the others' intervals hold 0; its
    confidence alone is told apart, too."""
    table = compared(*((f"v{i}", float(i), 6, 0.5, 0.9, NAN) for i in range(count)), ("none", None, 6, 1.0, 0.9, NAN))
    table["accuracy_less_own"] = [-0.02, *[0.01] * count]
    table["accuracy_less_own_low"] = [-0.03, *[-0.01] * count]
    table["accuracy_less_own_high"] = [-0.01, *[0.03] * count]
    table["accuracy_less_own_n"] = [6, *[4] * count]
    table["adversarial_confidence_less_own"] = [-0.5, *[-0.25] * count]
    table["adversarial_confidence_less_own_n"] = 6
    table["adversarial_confidence_p_holm"] = [0.03, *[0.06] * count]
    return ablation_changes(table, {"gm": (SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY)}, ["lr"], "attack")


def test_an_ablation_tells_the_change_on_the_same_seeds() -> None:
    against = "gm: change against the study's own attack, paired by seed, in points"
    assert changes_of(2) == [
        f"{against}: of adversarial confidence, lr 0 -50.0 (p 0.030), lr 1 -25.0 (p 0.060); "
        "of test accuracy, lr 0 -2.0 [-3.0, -1.0], lr 1 +1.0 [-1.0, +3.0] (n = 4)."
    ]
    # Of many variants those alone that differ.
    assert changes_of(9) == [
        f"{against}: of adversarial confidence 1 of 9 told apart, lr 0 -50.0 (p 0.030); "
        "of test accuracy 1 of 9 told apart, lr 0 -2.0 [-3.0, -1.0]."
    ]


def test_an_ablation_without_pairs_tells_no_change() -> None:
    table = compared(("a", 10.0, 1, 0.0, 0.9, NAN))
    assert ablation_changes(table, {"gm": (SUCCESS, ACCURACY)}, ["lr"]) == []
    unpaired = table.assign(**{f"accuracy_less_own{end}": NAN for end in ("", "_low", "_high", "_n")})
    assert ablation_changes(unpaired, {"gm": (SUCCESS, ACCURACY)}, ["lr"]) == []


def test_an_ablation_that_changes_nothing_says_so() -> None:
    table = compared(("a", 10.0, 1, 0.0, 0.9, NAN), ("b", 20.0, 1, 0.0, 0.9, NAN))
    assert found(table, ["lr"]) == ["gm: poison success 0.0 % throughout, test accuracy 90.0 % throughout."]


def test_an_ablation_of_a_filter_says_what_it_drops() -> None:
    table = compared(("a", 1.0, 1, 0.0, 0.9, NAN), ("b", 2.0, 1, 0.0, 0.9, NAN), ("c", 3.0, 1, 0.0, 0.9, NAN))
    table = table.assign(poisons_found=[0.5, 0.25, NAN], clean_dropped=[4e-5, 4e-5, NAN], matthews=NAN)
    (text,) = found(table, ["lr"])
    assert text.endswith(
        "test accuracy 90.0 % throughout, poisons found from 25 % (lr 2) to 50 % (lr 1), clean dropped 0.004 % "
        "throughout."
    )


def test_a_tiny_p_is_not_zero() -> None:
    table = compared(("a", 10.0, 30, 1.0, 0.9, 1e-6), ("b", 20.0, 30, 0.0, 0.9, NAN))
    assert found(table, ["lr"])[0].endswith("own row < 0.001.")


def test_an_ablation_of_two_settings_names_both() -> None:
    table = compared(("a", 10.0, 1, 0.0, 0.8, NAN), ("b", 20.0, 1, 1.0, 0.9, NAN)).assign(norm=["l1", "linf"])
    assert found(table, ["lr", "norm"]) == [
        "gm: poison success from 0.0 % (lr 10, norm l1) to 100.0 % (lr 20, norm linf), test accuracy from 80.0 % "
        "(lr 10, norm l1) to 90.0 % (lr 20, norm linf)."
    ]


def test_each_attack_of_an_ablation_has_a_sentence_if_it_was_run() -> None:
    parts = [
        compared(("a", 10.0, 1, 0.0, 0.8, NAN), attack="second"),
        compared(("a", 10.0, 0, NAN, NAN, NAN), attack="never"),
        compared(("none", None, 1, 1.0, 0.8, NAN), attack="undefended"),
        compared(("a", True, 1, 0.5, 0.8, NAN), ("b", False, 1, 0.0, 0.8, NAN), attack="first"),
    ]
    texts = found(pd.concat(parts, ignore_index=True), ["lr"])
    assert [text.split(":")[0] for text in texts] == ["second", "first"]
    assert "from 0.0 % (lr false) to 50.0 % (lr true)" in texts[1]
    assert found(parts[1], ["lr"]) == []


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_ends_are_found_wherever_they_stand(shift: float) -> None:
    """Whatever the row labels of the table are, as after a filter."""
    values = [0.25, 0.0 + shift / 2, 0.375, 0.5]
    lines = [(f"r{place}", place, 1, value, 0.9, NAN) for place, value in enumerate(values)]
    table = compared(*lines).iloc[::-1]
    least = min(range(4), key=lambda place: values[place])
    (text,) = found(table, ["lr"])
    assert f"from {100 * values[least]:.1f} %" in text
    assert "to 50.0 % (lr 3)" in text
