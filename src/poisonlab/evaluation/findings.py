"""What a table says, in a sentence of numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from poisonlab.evaluation.layouts import interval_text, p_text, value_text
from poisonlab.evaluation.results import BEST_ROW, REFERENCE_ROW


def results_findings(results: pd.DataFrame, controls: Iterable[tuple[str, str]]) -> list[str]:
    """One sentence per attack that has results.

    Args:
        results: tidy (see ``tidy_results``).
        controls: pairs (attack, defense) that are trained on clean data.
    """
    known = results[results["n"] > 0]
    hidden = set(controls)
    return [
        _attack_finding(str(attack), part[[(attack, name) not in hidden for name in part["defense"]]])
        for attack, part in known.groupby("attack", sort=False)
    ]


def _attack_finding(attack: str, part: pd.DataFrame) -> str:
    sentences = []
    undefended = part[part["defense"] == REFERENCE_ROW]
    if len(undefended):
        sentences.append(f"undefended, {_outcome(undefended.iloc[0])}")
    friends = part[part["defense"] == BEST_ROW]
    if len(friends):
        sentences.append(f"under FRIENDS-B, {_outcome(friends.iloc[0])}")
    others = part[~part["defense"].isin([REFERENCE_ROW, BEST_ROW])]
    if len(others):
        least = others["success"].min()
        names = others.loc[others["success"] == least, "defense"]
        which = f"least of the other {len(others)} rows" if len(others) > 1 else "the other row"
        sentences.append(f"{which}, {100 * least:.1f} % ({_named(names)})")
    sentences += inside_findings(part)
    return f"{attack}: {'; '.join(sentences)}." if sentences else f"{attack}: only the control has been run."


def inside_findings(table: pd.DataFrame, success: str = "published_success_inside") -> list[str]:
    """How many published values lie in our intervals; nothing where none is compared."""
    parts = []
    for what, column in (("successes", success), ("accuracies", success.replace("success", "accuracy"))):
        verdicts = [bool(value) for value in table[column] if value is not None and not pd.isna(value)]
        if verdicts:
            parts.append(f"{sum(verdicts)} of {len(verdicts)} published {what} lie in our intervals")
    return parts


def ablation_finding(compared: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """The best and the worst value of each attack, by success and accuracy (see ``compare_variants``)."""
    result = []
    for attack, part in compared[(compared["n"] > 0) & (compared["row"] != REFERENCE_ROW)].groupby(
        "attack", sort=False
    ):
        ends = []
        for name, title in (("success", "poison success"), ("accuracy", "test accuracy")):
            low, high = part.iloc[int(part[name].argmin())], part.iloc[int(part[name].argmax())]
            ends.append(
                f"{title} from {100 * low[name]:.1f} % ({_at(low, settings)}) to {100 * high[name]:.1f} % "
                f"({_at(high, settings)})"
                if low[name] < high[name]
                else f"{title} {100 * low[name]:.1f} % throughout"
            )
        known = part["p_success_holm"].dropna()
        tests = f"; smallest corrected p against the study's own row {p_text(known.min())}" if len(known) else ""
        result.append(f"{attack}: {', '.join(ends)}{tests}.")
    return result


def _at(line: pd.Series, settings: Sequence[str]) -> str:
    return ", ".join(f"{name} {value_text(line[name])}" for name in settings)


def _outcome(line: pd.Series) -> str:
    success = interval_text(line["success"], line["success_low"], line["success_high"])
    accuracy = interval_text(line["accuracy"], line["accuracy_low"], line["accuracy_high"])
    return f"{success} % success at {accuracy} % accuracy (n = {line['n']})"


def _named(names: Iterable[str], most: int = 4) -> str:
    listed = list(names)
    more = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {more} more" if more > 0 else "")
