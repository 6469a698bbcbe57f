"""What a defense's settings do: success and accuracy against one varied setting, or over two of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, NullFormatter, NullLocator
from pandas.api.types import is_numeric_dtype

from poisonlab.errors import DataError
from poisonlab.evaluation.ablation_layout import OUTCOMES
from poisonlab.evaluation.findings import ablation_finding
from poisonlab.evaluation.results import REFERENCE_ROW
from poisonlab.figures.style import PAGE_WIDTH, STYLED, label_of

_QUANTITIES = (("success", "poison success (%)"), ("accuracy", "test accuracy (%)"))
_ATTACK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#332288", "#7F7F7F")
_MARKERS = "osD^vPX*"
_DASHES = (0, (4, 2))
_STEP = 0.12
"""Between the points of two attacks at one name."""
_MAPS = {"success": "magma_r", "accuracy": "viridis"}
_LEGEND_COLUMNS = 4
_SPAN_OF_LOG = 8
"""Values that span more than this factor stand on a logarithmic axis."""


def read_ablation(path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table of an ablation (see ``compare_variants``) and the settings that vary in it.

    Raises:
        DataError: the file is missing, damaged, or another table.
    """
    try:
        # By default pandas would take a value called "none" or "null" for a missing one.
        kept: dict[str, Any] = {name: ["", "nan"] for name in OUTCOMES}
        table = pd.read_csv(path, keep_default_na=False, na_values=kept)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the workflow to make it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged (not CSV): delete it and run the workflow again") from error
    columns = list(table.columns)
    if columns[:2] != ["attack", "row"] or columns[-len(OUTCOMES) :] != list(OUTCOMES) or "own" not in columns:
        raise DataError(f"{path} holds no ablation: is it another table?")
    settings = columns[2 : columns.index("own")]
    if not 1 <= len(settings) <= 2:
        raise DataError(f"{path} must vary one setting or two, not {len(settings)}: make it again")
    if table.empty:
        raise DataError(f"{path} holds no line: run the workflow again")
    if bad := [name for name in OUTCOMES if not is_numeric_dtype(table[name])]:
        raise DataError(f"{path} is damaged ({bad[0]} is no number): delete it and run the workflow again")
    for name in settings:
        table[name] = [_text(value) for value in table[name]]
    return table.astype({"own": bool}), settings


def ablation_caption(table: pd.DataFrame, settings: Sequence[str]) -> str:
    """What the figure shows, in numbers."""
    what = " and ".join(settings)
    counts = sorted(set(table["n"].astype(int)))
    runs = f"n = {counts[0]}" if len(counts) == 1 else f"n = {counts[0]} to {counts[-1]}"
    shown = f"Poison success and test accuracy (%, 95 % intervals, {runs}) against {what}; "
    shown += "the study's own value is ringed" if len(settings) == 1 else "the study's own values are framed"
    own = [] if bool(table["own"].any()) else ["The study's own row is not among them."]
    return " ".join([f"{shown}.", *own, *ablation_finding(table, settings)])


@STYLED
def ablation(table: pd.DataFrame, settings: Sequence[str]) -> Figure:
    """Success and accuracy of every variant, with 95 % intervals, or as two maps where two settings vary.

    Args:
        table: see ``compare_variants``; rows with n 0 are left out.
        settings: the one or two columns that vary.

    Raises:
        DataError: no variant has been run.
    """
    run = table[table["n"] > 0]
    if not (run["row"] != REFERENCE_ROW).any():
        raise DataError("no variant of the ablation has been run: train its victims first")
    return _curves(run, settings[0]) if len(settings) == 1 else _maps(run, settings)


def _curves(run: pd.DataFrame, setting: str) -> Figure:
    attacks = list(dict.fromkeys(run["attack"]))
    entries = len(attacks) + bool((run["row"] == REFERENCE_ROW).any())
    height = 2.35 + 0.15 * -(-entries // _LEGEND_COLUMNS)
    figure = Figure(figsize=(PAGE_WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04))
    values = _values(run, setting)
    places = _places(values)
    for axes, (quantity, title) in zip(figure.subplots(1, 2), _QUANTITIES, strict=True):
        for number, attack in enumerate(attacks):
            style: dict[str, Any] = {"color": _ATTACK_COLOURS[number % 8], "marker": _MARKERS[number % 8]}
            # Names have room beside them, for the others' points.
            shift = 0.0 if _numeric(values) else _STEP * (number - (len(attacks) - 1) / 2)
            place_of = {value: place + shift for value, place in zip(values, places, strict=True)}
            _curve(axes, run[run["attack"] == attack], setting, place_of, quantity, attack, style)
        _axis(axes, values, places)
        axes.set(xlabel=setting, ylabel=title)
        axes.grid(axis="y")
    left = figure.axes[0]
    left.set_ylim(-4, 104)
    handles, labels = left.get_legend_handles_labels()
    if entries > len(attacks):
        handles.append(Line2D([], [], color="black", linestyle=_DASHES, linewidth=0.9))
        labels.append(label_of(REFERENCE_ROW).lower())
    figure.legend(handles, labels, loc="outside upper center", ncols=_LEGEND_COLUMNS)
    return figure


def _curve(
    axes: Axes,
    part: pd.DataFrame,
    setting: str,
    place_of: dict[str, float],
    quantity: str,
    attack: str,
    style: dict[str, Any],
) -> None:
    undefended = part[part["row"] == REFERENCE_ROW]
    if len(undefended):
        height = 100 * float(undefended[quantity].iloc[0])
        axes.axhline(height, color=style["color"], linestyle=_DASHES, linewidth=0.9)
    part = part[part["row"] != REFERENCE_ROW]
    middle, low, high = (100 * part[f"{quantity}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
    at = np.array([place_of[_text(value)] for value in part[setting]])
    order = np.argsort(at)
    # Without an interval (one seed) the bar has no length.
    below, above = np.nan_to_num(middle - low), np.nan_to_num(high - middle)
    axes.errorbar(
        at[order],
        middle[order],
        yerr=np.clip(np.stack([below, above])[:, order], 0, None),
        linestyle="solid" if _numeric(list(place_of)) else "none",
        markersize=4,
        capsize=2,
        elinewidth=0.8,
        label=attack,
        **style,
    )
    own = part["own"].to_numpy(dtype=bool)
    axes.plot(at[own], middle[own], "o", markersize=9, fillstyle="none", color="black", markeredgewidth=0.8)


def _maps(run: pd.DataFrame, settings: Sequence[str]) -> Figure:
    attacks = list(dict.fromkeys(run["attack"]))
    rows, columns = _values(run, settings[0]), _values(run, settings[1])
    height = (0.3 * len(rows) + 0.75) * len(attacks)
    figure = Figure(figsize=(PAGE_WIDTH, max(1.8, height)), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
    grid = figure.subplots(len(attacks), 2, squeeze=False)
    variants = run[run["row"] != REFERENCE_ROW]
    for column, (quantity, title) in enumerate(_QUANTITIES):
        low, high = (0.0, 100.0) if quantity == "success" else _accuracy_range(variants)
        for axes, attack in zip(grid[:, column], attacks, strict=True):
            part = variants[variants["attack"] == attack]
            drawn = _map(axes, part, settings, rows, columns, quantity, (low, high))
            axes.set_title(f"{attack}: {title}" if len(attacks) > 1 else title)
        figure.colorbar(drawn, ax=list(grid[:, column]), label=title, shrink=0.9, ticks=MaxNLocator(5))
    return figure


def _accuracy_range(variants: pd.DataFrame) -> tuple[float, float]:
    low, high = 100 * float(variants["accuracy"].min()), 100 * float(variants["accuracy"].max())
    return (low, high) if high > low else (low - 1, high + 1)


def _map(
    axes: Axes,
    part: pd.DataFrame,
    settings: Sequence[str],
    rows: list[str],
    columns: list[str],
    quantity: str,
    limits: tuple[float, float],
) -> Any:
    cells = np.full((len(rows), len(columns)), np.nan)
    for _, line in part.iterrows():
        row, column = rows.index(_text(line[settings[0]])), columns.index(_text(line[settings[1]]))
        cells[row, column] = 100 * line[quantity]
        if line["own"]:
            # Black is seen on light cells, and the white within it on dark ones.
            for colour, width in (("black", 2.8), ("white", 1.0)):
                look: dict[str, Any] = {"edgecolor": colour, "linewidth": width, "zorder": 3, "clip_on": False}
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, **look))
    drawn = axes.imshow(cells, cmap=_MAPS[quantity], vmin=limits[0], vmax=limits[1], aspect="auto")
    size = 7 if len(columns) <= 6 else 5.5
    for (row, column), value in np.ndenumerate(cells):
        dark = np.isfinite(value) and sum(drawn.cmap(drawn.norm(value))[:3]) < 1.5
        text = f"{value:.1f}" if np.isfinite(value) else "–"
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black", fontsize=size)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.set(xlabel=settings[1], ylabel=settings[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return drawn


def _values(run: pd.DataFrame, setting: str) -> list[str]:
    """The values of a setting as text, numbers ascending and names as they come."""
    values = list(dict.fromkeys(map(_text, run.loc[run["row"] != REFERENCE_ROW, setting])))
    return sorted(values, key=float) if _numeric(values) else values


def _text(value: object) -> str:
    """A value as in a config, wherever it comes from."""
    text = str(value)
    if text in ("True", "False"):
        return text.lower()
    return f"{float(text):g}" if _numeric([text]) and not text.lstrip("-").isdigit() else text


def _numeric(values: Sequence[str]) -> bool:
    try:
        return bool(np.isfinite([float(value) for value in values]).all())
    except ValueError:
        return False


def _places(values: Sequence[str]) -> list[float]:
    return [float(value) for value in values] if _numeric(values) else [float(place) for place in range(len(values))]


def _axis(axes: Axes, values: Sequence[str], places: Sequence[float]) -> None:
    if _numeric(values) and min(places) > 0 and max(places) / min(places) > _SPAN_OF_LOG:
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xticks(places, values)
    if not _numeric(values):
        axes.set_xlim(-0.6, len(values) - 0.4)
