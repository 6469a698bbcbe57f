"""What a table says in a sentence: the numbers in it, against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import pytest

from poisonlab.evaluation.findings import ablation_finding, inside_findings, results_findings
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.trials import Trial


def trials(defense: str, successes: list[float], accuracy: float = 0.9, attack: str = "gm") -> list[Trial]:
    return [Trial(attack, defense, seed, value, 0.5, accuracy, 1.0) for seed, value in enumerate(successes)]


NONE, FRIENDS = trials("none", [1, 1, 1, 0], 0.92), trials("friends-bernoulli", [0, 0, 0, 0], 0.905)


def wilson(successes: int, n: int) -> str:
    z, p = 1.959963984540054, successes / n
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    return f"{100 * p:.1f} [{100 * (centre - half):.1f}, {100 * (centre + half):.1f}] % success"


def findings(*rows: list[Trial], **more: Any) -> list[str]:
    return results_findings(tidy_results([trial for row in rows for trial in row], **more), [("gm", "clean")])


def test_a_study_is_undefended_training_friends_b_and_the_best_of_the_others() -> None:
    others = [trials("d", [1, 0, 0, 0]), trials("e", [1, 1, 0, 0]), trials("f", [0, 0, 0, 1])]
    assert findings(NONE, *others, FRIENDS) == [
        f"gm: undefended, {wilson(3, 4)} at 92.0 [92.0, 92.0] % accuracy (n = 4); "
        f"under FRIENDS-B, {wilson(0, 4)} at 90.5 [90.5, 90.5] % accuracy (n = 4); "
        "least of the other 3 rows, 25.0 % (d, f)."
    ]


def test_the_control_is_no_defense() -> None:
    clean = trials("clean", [0, 0, 0, 0])
    assert findings(NONE, clean) == findings(NONE)
    assert findings(clean) == ["gm: only the control has been run."]


def test_one_other_row_is_named() -> None:
    (text,) = findings(NONE, trials("d", [1, 1, 0, 0]))
    assert text.endswith("; the other row, 50.0 % (d).")


def test_not_more_than_four_rows_are_named() -> None:
    rows = [trials(f"d{number}", [0, 0]) for number in range(7)]
    (text,) = findings(*rows[:4])
    assert text.endswith("least of the other 4 rows, 0.0 % (d0, d1, d2, d3).")
    (text,) = findings(*rows)
    assert text.endswith("least of the other 7 rows, 0.0 % (d0, d1, d2, d3 and 3 more).")


def test_each_attack_has_a_sentence_if_it_was_run() -> None:
    other = trials("none", [0, 0, 1], attack="bp")
    expected = [("later", "none"), ("bp", "none"), ("gm", "none"), ("gm", "d")]
    texts = findings(NONE, other, expected=expected)
    assert [text.split(":")[0] for text in texts] == ["bp", "gm"]
    assert [wilson(1, 3) in texts[0], wilson(3, 4) in texts[1]] == [True, True]
    # A row that nobody has run is none of the others.
    assert "other" not in texts[1]
    assert findings(expected=expected) == []


def test_published_values_in_our_intervals_are_counted() -> None:
    # Wilson's interval of 3 in 4 is [0.30, 0.95], of 0 in 4 [0, 0.49]; accuracies do not vary.
    published = {
        ("gm", "none"): {"success": 0.9, "accuracy": 0.92},
        ("gm", "friends-bernoulli"): {"success": 0.6, "accuracy": 0.7},
        ("gm", "d"): {"success": 0.1},
    }
    (text,) = findings(NONE, FRIENDS, trials("d", [0, 0, 0, 0]), published=published)
    assert text.endswith(
        "; 2 of 3 published successes lie in our intervals; 1 of 2 published accuracies lie in our intervals."
    )
    assert "published" not in findings(NONE)[0]


def test_values_without_a_verdict_are_not_counted() -> None:
    table = pd.DataFrame({"success_inside": [True, None, False, math.nan], "accuracy_inside": [None] * 4}, dtype=object)
    assert inside_findings(table, "success_inside") == ["1 of 2 published successes lie in our intervals"]
    table["accuracy_inside"] = [False, None, None, None]
    assert inside_findings(table, "success_inside")[1] == "0 of 1 published accuracies lie in our intervals"


# --- ablations ------------------------------------------------------------------------------------------------------


def compared(*lines: tuple[str, Any, int, float, float, float], attack: str = "gm") -> pd.DataFrame:
    """Row, value of lr, n, success, accuracy and corrected p."""
    names = ["row", "lr", "n", "success", "accuracy", "p_success_holm"]
    return pd.DataFrame(lines, columns=names).astype({"lr": object}).assign(attack=attack)


NAN = math.nan


def test_an_ablation_is_its_best_and_worst_values() -> None:
    table = compared(
        ("none", None, 3, 1.0, 0.99, 0.01),
        ("a", 10.0, 3, 0.5, 0.91, 0.25),
        ("b", 100.0, 3, 0.75, 0.88, NAN),
        ("c", 1e-5, 3, 0.25, 0.9, 0.125),
        ("d", 7.0, 0, NAN, NAN, NAN),
    )
    assert ablation_finding(table, ["lr"]) == [
        "gm: poison success from 25.0 % (lr 1e-05) to 75.0 % (lr 100), test accuracy from 88.0 % (lr 100) to 91.0 % "
        "(lr 10); smallest corrected p against the study's own row 0.125."
    ]


def test_an_ablation_that_changes_nothing_says_so() -> None:
    table = compared(("a", 10.0, 1, 0.0, 0.9, NAN), ("b", 20.0, 1, 0.0, 0.9, NAN))
    assert ablation_finding(table, ["lr"]) == ["gm: poison success 0.0 % throughout, test accuracy 90.0 % throughout."]


def test_a_tiny_p_is_not_zero() -> None:
    table = compared(("a", 10.0, 30, 1.0, 0.9, 1e-6), ("b", 20.0, 30, 0.0, 0.9, NAN))
    assert ablation_finding(table, ["lr"])[0].endswith("own row < 0.001.")


def test_an_ablation_of_two_settings_names_both() -> None:
    table = compared(("a", 10.0, 1, 0.0, 0.8, NAN), ("b", 20.0, 1, 1.0, 0.9, NAN)).assign(norm=["l1", "linf"])
    assert ablation_finding(table, ["lr", "norm"]) == [
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
    texts = ablation_finding(pd.concat(parts, ignore_index=True), ["lr"])
    assert [text.split(":")[0] for text in texts] == ["second", "first"]
    assert "from 0.0 % (lr false) to 50.0 % (lr true)" in texts[1]
    assert ablation_finding(parts[1], ["lr"]) == []


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_ends_are_found_wherever_they_stand(shift: float) -> None:
    """Whatever the row labels of the table are, as after a filter."""
    values = [0.25, 0.0 + shift / 2, 0.375, 0.5]
    lines = [(f"r{place}", place, 1, value, 0.9, NAN) for place, value in enumerate(values)]
    table = compared(*lines).iloc[::-1]
    least = min(range(4), key=lambda place: values[place])
    (text,) = ablation_finding(table, ["lr"])
    assert f"from {100 * values[least]:.1f} %" in text
    assert "to 50.0 % (lr 3)" in text
