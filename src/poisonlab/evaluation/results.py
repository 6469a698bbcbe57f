"""From the victims' metrics to one tidy row per attack and defense."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

import pandas as pd

from poisonlab.evaluation.intervals import Interval, holm, mcnemar_exact, mean_t, paired_permutation, wilson
from poisonlab.evaluation.trials import Trial

COLUMNS = (
    *("attack", "defense", "n", "diverged", "success", "success_low", "success_high", "untriggered_success"),
    *("adversarial_confidence", "accuracy", "accuracy_low", "accuracy_high", "accuracy_change", "p_success"),
    "p_best",
    *("poisons_found", "clean_dropped", "precision", "matthews", "false_alarms", "privacy_epsilon"),
    *("published_success", "published_success_inside", "published_accuracy", "published_accuracy_inside", "seconds"),
)

REFERENCE_ROW = "none"
"""The row every other row is compared with, seed by seed."""

BEST_ROW = "friends-bernoulli"
"""The defense that the others are compared with, likewise."""


def tidy_results(
    trials: Sequence[Trial],
    published: Mapping[tuple[str, str], Mapping[str, float]] | None = None,
    expected: Sequence[tuple[str, str]] = (),
    reference_row: str = REFERENCE_ROW,
) -> pd.DataFrame:
    """One row per attack and defense, in the order of ``expected`` and then of first appearance.

    Columns: ``attack, defense, n``; ``diverged``, how many victims are left out because their training diverged;
    ``success`` with its 95 % interval (``success_low, success_high``: Wilson's where each trial is a yes or no,
    Student's t cut to [0, 1] where it is a rate over triggered images);
    ``untriggered_success`` (mean, of attacks with a trigger); ``adversarial_confidence`` (mean); ``accuracy`` with its
    t interval, cut likewise; ``p_success``, of the paired test against the undefended row on the same seeds (exact
    McNemar, or a paired permutation test of rates), and ``p_success_holm``, corrected over the attack's rows;
    ``p_best`` and ``p_best_holm``, the same test against the row ``BEST_ROW``; ``accuracy_change``, the paired mean
    difference to the undefended row; of what was dropped ``poisons_found`` (recall), ``clean_dropped`` (share of the
    clean examples), ``precision`` and ``matthews``, means over seeds; ``false_alarms`` (mean); ``privacy_epsilon``
    (largest); ``published_success, published_accuracy`` and whether each lies in our interval; ``seconds``, the mean
    cost, the only column that differs between two runs of the same study.

    Args:
        trials: one per victim.
        published: ``success`` and ``accuracy`` in [0, 1] per (attack, defense), where a paper gives them.
        reference_row: the row that every other one is compared with, seed by seed; "the undefended row" above.
        expected: pairs (attack, defense) that have a row even without a trial; its n is 0, and its numbers are nan.
    """
    failed = Counter((trial.attack, trial.defense) for trial in trials if trial.failed)
    done = [trial for trial in trials if not trial.failed]
    table = pd.DataFrame([vars(trial) for trial in done], columns=[field.name for field in fields(Trial)])
    pairs = dict.fromkeys([*expected, *((trial.attack, trial.defense) for trial in trials)])
    rows = []
    for attack, defense in pairs:
        group = table[(table["attack"] == attack) & (table["defense"] == defense)]
        if group.empty:
            # Without None, pandas would turn the others' None into nan.
            verdicts = {"published_success_inside": None, "published_accuracy_inside": None}
            who = {"attack": attack, "defense": defense, "n": 0, "diverged": failed[attack, defense]}
            rows.append({**who, **verdicts})
            continue
        success = _success_interval(group)
        accuracy = _within(mean_t(list(group["accuracy"])))
        reference = table[(table["attack"] == attack) & (table["defense"] == reference_row)]
        best = table[(table["attack"] == attack) & (table["defense"] == BEST_ROW)]
        known = (published or {}).get((attack, defense), {})
        rows.append(
            {
                "attack": attack,
                "defense": defense,
                "n": len(group),
                "diverged": failed[attack, defense],
                **_named("success", success),
                "untriggered_success": group["untriggered_success"].mean(),
                "adversarial_confidence": group["adversarial_confidence"].mean(),
                **_named("accuracy", accuracy),
                "accuracy_change": _paired_change(group, reference, "accuracy"),
                "p_success": _paired_p(group, reference) if _is_tested(defense, group, reference_row) else math.nan,
                "p_best": _paired_p(group, best) if _is_tested(defense, group, BEST_ROW) else math.nan,
                **_dropped(group),
                "false_alarms": group["false_alarms"].mean(),
                "privacy_epsilon": group["privacy_epsilon"].max(),
                **_beside("success", success, known),
                **_beside("accuracy", accuracy, known),
                "seconds": group["seconds"].mean(),
            }
        )
    results = pd.DataFrame(rows, columns=COLUMNS)
    for name in ("p_success", "p_best"):
        corrected = results.groupby("attack", sort=False)[name].transform(
            lambda values: pd.Series(holm(list(values)), index=values.index)
        )
        results.insert(list(results.columns).index(name) + 1, f"{name}_holm", corrected)
    return results


def _is_tested(defense: str, group: pd.DataFrame, reference_row: str) -> bool:
    return defense != reference_row and not bool(group["control"].any())


def _success_interval(group: pd.DataFrame) -> Interval:
    successes = list(group["success"])
    if not _is_rate(group) and all(value in (0.0, 1.0) for value in successes):
        return wilson(int(sum(successes)), len(successes))
    return _within(mean_t(successes))


def _within(rate: Interval) -> Interval:
    """An interval cut to [0, 1]; nan bounds stay."""
    return Interval(rate.estimate, max(0.0, rate.low), min(1.0, rate.high), rate.n) if rate.n > 1 else rate


def _is_rate(group: pd.DataFrame) -> bool:
    return bool(group["untriggered_success"].notna().any())


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.estimate, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _beside(name: str, interval: Interval, known: Mapping[str, float]) -> dict[str, Any]:
    value = known.get(name, math.nan)
    inside = None if math.isnan(value) or math.isnan(interval.low) else interval.contains(value)
    return {f"published_{name}": value, f"published_{name}_inside": inside}


def _pairs(group: pd.DataFrame, reference: pd.DataFrame, column: str) -> tuple[list[float], list[float]]:
    """Values on the seeds that both have."""
    both = group.merge(reference, on="seed", suffixes=("", "_reference"))
    return list(both[column]), list(both[f"{column}_reference"])


def _dropped(group: pd.DataFrame) -> dict[str, float]:
    """Means over the seeds on which they are defined; nan for a row that dropped nothing with any seed."""
    found = [each for each in group["found"] if each is not None]
    found = found if any(each.dropped for each in found) else []
    measures = {
        "poisons_found": [each.recall for each in found],
        "clean_dropped": [each.clean_loss for each in found],
        "precision": [each.precision for each in found],
        "matthews": [each.matthews for each in found],
    }
    defined = {name: [value for value in values if not math.isnan(value)] for name, values in measures.items()}
    return {name: sum(values) / len(values) if values else math.nan for name, values in defined.items()}


def _paired_change(group: pd.DataFrame, reference: pd.DataFrame, column: str) -> float:
    ours, theirs = _pairs(group, reference, column)
    return sum(a - b for a, b in zip(ours, theirs, strict=True)) / len(ours) if ours else math.nan


def _paired_p(group: pd.DataFrame, reference: pd.DataFrame) -> float:
    ours, theirs = _pairs(group, reference, "success")
    if not ours:
        return math.nan
    if not _is_rate(group) and all(value in (0.0, 1.0) for value in ours + theirs):
        return mcnemar_exact([bool(value) for value in ours], [bool(value) for value in theirs])
    return paired_permutation(ours, theirs)
