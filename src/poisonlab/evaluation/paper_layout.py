"""The published tables in their own layout: every line of the paper, ours beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from poisonlab.errors import SettingsError
from poisonlab.evaluation.choosing import Claim, Line
from poisonlab.evaluation.layouts import interval_text, p_text, published_text
from poisonlab.evaluation.published import SETTINGS
from poisonlab.evaluation.results import REFERENCE_ROW, tidy_results
from poisonlab.evaluation.trials import Trial

COLUMNS = (
    *("row", "defense", "attack", "our_defense", "n"),
    *("success", "success_low", "success_high", "published_success", "success_inside"),
    *("accuracy", "accuracy_low", "accuracy_high", "published_accuracy", "accuracy_inside"),
    *("p_best_holm", "relative_time", "published_minutes"),
)


def compare(
    published: pd.DataFrame,
    trials: Sequence[Trial],
    lines: Sequence[Line],
    claims: Sequence[Claim],
) -> pd.DataFrame:
    """Every line of one published table, with our result where there is one.

    Args:
        published: one table's numbers (see ``published``).
        trials: ours.
        lines: the rows of our study, run or not.
        claims: which attack stands for which published lines; of several the first counts.

    Returns:
        One row per published line, in the paper's order, then our rows without a published line. Columns: ``COLUMNS``;
        proportions in [0, 1], ``relative_time`` to our undefended row, ``published_minutes`` as printed; nan where
        unknown, and n 0 where nothing was run. ``p_best_holm``: paired test against FRIENDS-B on the same seeds.

    Raises:
        SettingsError: a claim names a row that the table does not have.
    """
    rows = list(dict.fromkeys(published["row"]))
    for claim in claims:
        if claim.row is not None and claim.row not in rows:
            raise SettingsError(f"attack {claim.attack!r}: published row {claim.row!r} is not one of {rows}")
    results = tidy_results(trials, expected=[(line.attack, line.defense) for line in lines])
    own = {(str(line["attack"]), str(line["defense"])): line for line in results.to_dict("records")}
    result = []
    used = set()
    for row, defense in dict.fromkeys(zip(published["row"], published["defense"], strict=True)):
        attack = next((claim.attack for claim in claims if claim.row in (None, row)), None)
        ours = next((line.defense for line in lines if (line.attack, line.called) == (attack, defense)), None)
        known = published[(published["row"] == row) & (published["defense"] == defense)]
        values = dict(zip(known["column"], known["value"], strict=True))
        used.add((attack, ours))
        result.append(
            {
                "row": row,
                "defense": defense,
                "published_success": values.get("Poison Acc", math.nan) / 100,
                "published_accuracy": values.get("Test Acc", math.nan) / 100,
                "published_minutes": values.get("Time", math.nan),
                **_ours(own, attack, ours),
            }
        )
    whole = {claim.attack for claim in claims if claim.row is None}
    result.extend(
        {"row": "", "defense": line.defense, **_ours(own, line.attack, line.defense)}
        for line in lines
        if line.attack in whole and (line.attack, line.defense) not in used
    )
    return _inside(pd.DataFrame(result, columns=COLUMNS))


def _ours(own: Mapping[tuple[str, str], Mapping[Any, Any]], attack: str | None, defense: str | None) -> dict[str, Any]:
    if attack is None or defense is None:
        return {"attack": attack or "", "our_defense": "", "n": 0}
    line = own[attack, defense]
    base = own[attack, REFERENCE_ROW]["seconds"] if (attack, REFERENCE_ROW) in own else math.nan
    names = ("success", "success_low", "success_high", "accuracy", "accuracy_low", "accuracy_high", "p_best_holm")
    return {
        "attack": attack,
        "our_defense": defense,
        "n": int(line["n"]),
        **{name: line[name] for name in names},
        "relative_time": line["seconds"] / base,
    }


def _inside(table: pd.DataFrame) -> pd.DataFrame:
    for name in ("success", "accuracy"):
        low, value, high = table[f"{name}_low"], table[f"published_{name}"], table[f"{name}_high"]
        known = low.notna() & value.notna()
        table[f"{name}_inside"] = ((low <= value) & (value <= high)).where(known, None)
    return table


def paper_layout(compared: pd.DataFrame) -> pd.DataFrame:
    """The comparison as text, in percent; defenses stand side by side where the paper has several in a row."""
    beside = compared[compared["row"] != ""].duplicated("row").any()
    return _side_by_side(compared) if beside else _one_below_another(compared)


def _one_below_another(compared: pd.DataFrame) -> pd.DataFrame:
    rows = zip(compared["row"], compared["defense"], strict=True)
    attacks = compared["attack"][compared["attack"] != ""].nunique()
    columns: dict[str, Any] = {
        "Attack": compared["attack"] if attacks > 1 else "",
        "Defense": [_plain(row) if row else f"{mine} (ours)" for row, mine in rows],
        "n": compared["n"].astype(str),
        **_numbers(compared),
        "p (Holm)": [p_text(value) for value in compared["p_best_holm"]],
    }
    # Times differ from run to run, so they stand only where the paper has some.
    minutes = compared["published_minutes"]
    if minutes.notna().any():
        columns["Time"] = ["" if math.isnan(value) else f"{value:.1f}x" for value in compared["relative_time"]]
        columns["Published time"] = ["" if math.isnan(value) else _hours(value) for value in minutes]
    return pd.DataFrame(columns)


def _side_by_side(compared: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for row, group in compared[compared["row"] != ""].groupby("row", sort=False):
        line: dict[str, str] = {"Attack": "", "Row": _plain(str(row))}
        for place, (_, cell) in enumerate(group.iterrows()):
            numbers = {"n": [str(cell["n"])], **_numbers(group.iloc[[place]])}
            defense = _TITLES.get(str(cell["defense"]), str(cell["defense"]))
            line |= {f"{defense}: {name}": values[0] for name, values in numbers.items()}
        lines.append(line)
    return pd.DataFrame(lines).fillna("")


_TITLES = {"none": "Undefended", "friends-bernoulli": "FRIENDS-B"}


def _plain(row: str) -> str:
    """A row's name without the mark that also parts the columns of a Markdown table."""
    return row.replace(" | ", ", ")


def _numbers(compared: pd.DataFrame) -> dict[str, list[str]]:
    titles = {"success": "Poison Acc.", "accuracy": "Test Acc."}
    columns: dict[str, list[str]] = {}
    for name, title in titles.items():
        columns[title] = [
            interval_text(*values)
            for values in zip(compared[name], compared[f"{name}_low"], compared[f"{name}_high"], strict=True)
        ]
        columns[f"Published {title}"] = [
            published_text(value, inside)
            for value, inside in zip(compared[f"published_{name}"], compared[f"{name}_inside"], strict=True)
        ]
    return columns


def _hours(minutes: float) -> str:
    return f"{int(minutes) // 60} h {int(minutes) % 60:02d} min"


def table_notes(number: int, compared: pd.DataFrame) -> list[str]:
    """What a reader of the table must know."""
    notes = [
        f"Published: CIFAR-10, ResNet-18, {SETTINGS[number]}. Inside or outside: whether it lies in our 95 % interval "
        "(Wilson for successes, Student's t for means); it compares numbers, not experiments.",
        "–: not run, or not part of the study. p: paired test against FRIENDS-B on the same poisons, Holm-corrected.",
    ]
    if compared["published_minutes"].notna().any():
        notes.append("Time: ours relative to our undefended training; published: of one run on an NVIDIA A40.")
    if number == 1:
        notes.append("The printed +- of table 1 is p(1 - p)/sqrt(n), not a standard error, and is not repeated.")
    return notes
