"""The results table as dots with intervals: poison success and test accuracy of every defense."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator

from poisonlab.errors import DataError
from poisonlab.figures.style import PAGE_WIDTH, STYLED, colour_of, label_of
from poisonlab.figures.wording import listed, number, percent

_CONTROL, _UNDEFENDED = "clean", "none"
_NAMED = 3
_NUMBERS = ("n", "success", "success_low", "success_high", "accuracy", "accuracy_low", "accuracy_high")


def read_results(path: Path) -> pd.DataFrame:
    """The tidy results table: a row per attack and defense, proportions in [0, 1]; only rows all of whose victims
    ``diverged`` have none.

    Raises:
        DataError: the file is missing, not CSV, empty, or lacks a column.
    """
    try:
        # By default pandas would take a defense called "null" for a missing value.
        table = pd.read_csv(
            path,
            dtype={"attack": str, "defense": str},
            keep_default_na=False,
            na_values={name: ["", "nan", "NaN"] for name in _NUMBERS},
        )
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the workflow to make it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged (not CSV): delete it and run the workflow again") from error
    missing = [name for name in ("attack", "defense", *_NUMBERS) if name not in table.columns]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: is it another table?")
    if table.empty:
        raise DataError(f"{path} has no rows: evaluate the victims first")
    try:
        table = table.astype(dict.fromkeys(_NUMBERS, float))
    except ValueError as error:
        raise DataError(f"{path} holds text where numbers belong: delete it and run the workflow again") from error
    table = table.assign(diverged=table.get("diverged", 0))
    shown = table[~_lost(table)]
    if shown.empty:
        raise DataError(f"{path} has nothing to draw: all victims diverged")
    for name in ("n", "success", "accuracy"):
        if not np.isfinite(shown[name]).all():
            raise DataError(f"{path} has no {name} for some rows: evaluate the victims first")
    return table


def _lost(table: pd.DataFrame) -> pd.Series:
    """Rows all of whose victims diverged."""
    return (table["n"] == 0) & (table["diverged"] > 0)


@STYLED
def outcome(table: pd.DataFrame) -> Figure:
    """Poison success with its 95 % Wilson interval and test accuracy with its 95 % t interval, by defense.

    Args:
        table: a row per attack and defense with ``n`` and the proportions ``success``, ``success_low``,
            ``success_high``, ``accuracy``, ``accuracy_low``, ``accuracy_high`` in [0, 1]; bounds may be nan.

    Returns:
        The figure: a row of panels per attack, defenses in the table's order; nan intervals are left out, and rows all
        of whose victims diverged.
    """
    table = table[~_lost(table)]
    attacks = list(dict.fromkeys(table["attack"]))
    counts = sorted(set(table["n"].astype(int)))
    parts = [table[table["attack"] == attack] for attack in attacks]
    heights = [0.19 * len(part) + 0.22 for part in parts]
    figure = Figure(
        figsize=(PAGE_WIDTH, sum(heights) + 0.5 + 0.2 * (len(parts) - 1)),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04),
    )
    grid = figure.subplots(len(parts), 2, sharex="col", squeeze=False, height_ratios=heights)
    for attack, part, (left, right) in zip(attacks, parts, grid, strict=True):
        _dots(left, part, "success")
        _dots(right, part, "accuracy")
        labels = [
            label_of(name) + (f" (n = {n:.0f})" if len(counts) > 1 else "")
            for name, n in zip(part["defense"], part["n"], strict=True)
        ]
        left.set_yticks(range(len(part)), labels)
        right.set_yticks(range(len(part)), [""] * len(part))
        left.set_xlim(-3, 103)
        if len(parts) > 1:
            left.set_title(attack, loc="left", pad=3)
    runs = f", n = {counts[0]}" if len(counts) == 1 else ""
    grid[-1][0].set_xlabel(f"poison success (%), 95 % interval{runs}")
    grid[-1][1].set_xlabel(f"test accuracy (%), 95 % t interval{runs}")
    return figure


def outcome_caption(table: pd.DataFrame) -> str:
    """What ``outcome`` shows: per attack the undefended victims, the defended rows with least success, and FRIENDS.

    Args:
        table: as drawn.
    """
    lost, table = table[_lost(table)], table[~_lost(table)]
    attacks = list(dict.fromkeys(table["attack"]))
    sentences = [_attack_outcome(attack, table[table["attack"] == attack]) for attack in attacks]
    return (
        "Poison success (the share of targets that get the adversarial label) and test accuracy of every defense, with "
        "95 % intervals; n is the number of seeds, one victim each. " + " ".join(sentences)
    ) + "".join(f" {row['attack']} under {row['defense']}: all victims diverged." for _, row in lost.iterrows())


def _attack_outcome(attack: str, part: pd.DataFrame) -> str:
    rows = {str(row["defense"]): row for _, row in part.iterrows()}
    defended = [row for name, row in rows.items() if name not in (_CONTROL, _UNDEFENDED)]
    facts = []
    if _UNDEFENDED in rows:
        facts.append(f"undefended {_told(rows[_UNDEFENDED])}")
    if _CONTROL in rows:
        facts.append(f"control on clean data {_told(rows[_CONTROL])}")
    if defended:
        facts.append(_lowest(defended))
    if _UNDEFENDED in rows and defended:
        overlapping = sum(_overlap(row, rows[_UNDEFENDED]) for row in defended)
        facts.append(f"{overlapping} of the {len(defended)} defended rows' intervals overlap the undefended one")
    facts += [f"{label_of(name)} {_told(row)}" for name, row in rows.items() if name.startswith("friends")]
    counts = sorted(set(part["n"].astype(int)))
    runs = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    return f"{attack} ({runs}): {'; '.join(facts)}."


def _told(row: pd.Series) -> str:
    low, high = (100 * row["success_low"], 100 * row["success_high"])
    interval = f" [{number(low)}, {number(high)}]" if np.isfinite([low, high]).all() else ""
    return f"{percent(row['success'])}{interval} at {percent(row['accuracy'])} accuracy"


def _lowest(rows: Sequence[pd.Series]) -> str:
    """The least success and the rows that have it, the most accurate first."""
    least = min(row["success"] for row in rows)
    best = sorted((row for row in rows if row["success"] == least), key=lambda row: -row["accuracy"])
    names = [f"{label_of(str(row['defense']))} ({percent(row['accuracy'])} accuracy)" for row in best[:_NAMED]]
    more = [f"{len(best) - _NAMED} more"] if len(best) > _NAMED else []
    return f"the lowest success of a defended row is {percent(least)}, with {listed(names + more)}"


def _overlap(one: pd.Series, other: pd.Series) -> bool:
    """Whether the success intervals meet; without one, the value itself stands for it."""
    (low, high), (other_low, other_high) = (
        [row[name] if np.isfinite(row[name]) else row["success"] for name in ("success_low", "success_high")]
        for row in (one, other)
    )
    return bool(low <= other_high and other_low <= high)


def _dots(axes: Axes, part: pd.DataFrame, quantity: str) -> None:
    columns: Sequence[str] = (quantity, f"{quantity}_low", f"{quantity}_high")
    for place, (defense, *row) in enumerate(part[["defense", *columns]].itertuples(index=False)):
        value, low, high = (100 * float(number) for number in row)
        colour = colour_of(defense)
        if np.isfinite([low, high]).all():
            axes.plot([low, high], [place, place], color=colour, linewidth=1.4, solid_capstyle="butt")
        axes.plot(
            [value],
            [place],
            marker="o",
            markersize=4.5,
            color=colour,
            markeredgewidth=0,
            clip_on=False,
        )
    axes.set_ylim(len(part) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(6))
