"""The effect of a defense's or an attack's settings: measures against one varied setting, or as maps over two.

For a filter, the shares that it drops are shown as well, as in figure 2 of the deep k-NN paper over k.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
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
from numpy.typing import NDArray

from poisonlab.config.measures import CLEAN_DROPPED, OF_FILTERS, POISONS_FOUND, Measure
from poisonlab.config.types import Name, PositiveInt
from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.choosing import AttackMeasures, Measures
from poisonlab.evaluation.findings import ablation_finding, named
from poisonlab.evaluation.layouts import who
from poisonlab.evaluation.published import published
from poisonlab.figures.reading import Inputs, read_table
from poisonlab.figures.style import PAGE_WIDTH, STYLED, empty, fitted, in_legend, label_of, legend_size
from poisonlab.figures.wording import INTERVALS, Beside, listed, scale_of, seeds, shown, title_of

_ATTACK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#332288", "#7F7F7F")
_MARKERS = "osD^vPX*"
_DASHES = (0, (4, 2))
_STEP = 0.12
"""Distance between the points of two attacks at one name."""
_MAPS = {"lower": "magma_r", "higher": "viridis"}
"""Colour maps by the good direction of a measure."""
_LEGEND_COLUMNS = 4
_PANELS_IN_ROW = 3
_MAPS_IN_ROW = 2
"""Maps in a row, if they are wider than narrow ones."""
_NARROW = 3
"""Columns of a map that is so narrow that as many maps as curves fit a row."""
_NAME = 1.2
"""Inches of a name beside an axis before it wraps."""
_DIGITS, _DIGITS_OF_MAPS = 72, 54
"""Digits that fit side by side below a row of panels, or of maps with their scales."""
_PUBLISHED = "published"
_SPAN_OF_LOG = 8
"""Values that span more than this factor get a logarithmic axis."""


class Spec(Beside):
    """Settings of the figure."""

    title: str = ""
    """The sentence on what is varied."""
    measures: tuple[AttackMeasures, ...]
    compare: tuple[Name, ...] = ()
    """The first is the undefended row."""
    table: PositiveInt | None = None
    """The published table with numbers of the same variants, by its number."""
    attack: Name | None = None
    """The attack that is varied, in an ablation of an attack; each row then has a curve."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``table`` (the ablation's, CSV) and ``published`` (numbers of a paper, CSV)."""
    measures: Measures = {each.attack: each.measures for each in spec.measures}
    undefended = spec.compare[0] if spec.compare and spec.attack is None else None
    table, varied = read_ablation(inputs["table"][0], measures, spec.attack)
    if spec.attack is not None:
        measures = dict.fromkeys(table["attack"], measures[spec.attack])
    begin = spec.begin + (f"{spec.title} " if spec.title else "")
    known = {} if spec.table is None else read_published(inputs["published"][0], spec.table, varied[0])
    if not (table.loc[table["row"] != undefended, "n"] > 0).any():
        return empty(), begin + " ".join(_left_out(table, varied, undefended))
    figure = ablation(table, varied, measures, undefended, known)
    caption = ablation_caption(table, varied, measures, undefended, "row" if spec.attack is None else "attack")
    also = f" {published_sentence(table, measures, varied[0], known)}" if known else ""
    return figure, begin + caption + also


def read_ablation(path: Path, measures: Measures, attack: str | None = None) -> tuple[pd.DataFrame, list[str]]:
    """The table of an ablation (see ``compare_variants``) and the settings that vary in it.

    In an ablation of an ``attack``, rows and attacks are exchanged.

    Raises:
        DataError: the file is missing, damaged, or of another table.
    """
    text = ("attack", "victim", "row") if attack is None else ("defense", "victim", "attack")
    names = [measure.name for measure in _drawn(measures.values() if attack is None else [measures[attack]])]
    numbers = ["n", *(f"{name}{end}" for name in names for end in ("", "_low", "_high")), "p_holm"]
    table = read_table(path, text, numbers, ("own",))
    if attack is not None:
        table = table.rename(columns={"defense": "attack", "attack": "row"})
    columns = list(table.columns)
    settings = columns[columns.index("row") + 1 : columns.index("own")]
    if not 1 <= len(settings) <= 2:
        raise DataError(f"{path} must vary one setting or two, not {len(settings)}: make it again")
    named = dict.fromkeys(table["attack"] if attack is None else ())
    if unknown := [name for name in named if name not in measures]:
        raise DataError(f"{path} has the attack {unknown[0]}, which has no measures here: is it another study's table?")
    for name in settings:
        table[name] = [_text(value) for value in table[name]]
    try:
        # An empty field is nan, because a row may drop nothing.
        shares = {name: pd.to_numeric(table[name].replace("", np.nan)).astype(float) for name in _shares(table)}
    except ValueError as error:
        raise DamagedError(path, "text where numbers belong") from error
    return table.astype({"own": bool}).assign(**shares), settings


def _shares(table: pd.DataFrame) -> dict[str, Measure]:
    """The measures of dropped images that the table has."""
    return {measure.name: measure for measure in OF_FILTERS if measure.name in table}


def _panels(run: pd.DataFrame, measures: Measures) -> list[Measure]:
    """The measures of the attacks, then those of dropped images."""
    return [*_drawn([measures[attack] for attack in dict.fromkeys(run["attack"])]), *_shares(run).values()]


Published = Mapping[str, Mapping[str, float]]
"""Published numbers by measure and by the value of the setting."""


def read_published(path: Path, table: int, setting: str) -> Published:
    """The published numbers of rows with names ``<setting> = <value>``.

    Raises:
        DataError: the table is missing or malformed, or has no such row.
    """
    numbers = published(path)
    found: dict[str, dict[str, float]] = {}
    for row, measure, value in numbers.loc[numbers["table"] == table, ["row", "measure", "value"]].to_numpy():
        name, _, at = str(row).partition(" = ")
        if name == setting:
            found.setdefault(str(measure), {})[_text(at)] = float(value)
    if not found:
        raise DataError(
            f"{path} has no row of table {table} that is called '{setting} = …': correct the table's number"
        )
    return found


def published_sentence(table: pd.DataFrame, measures: Measures, setting: str, known: Published) -> str:
    """Published numbers beside ours, for the values that both have: those that are drawn."""
    several = who(table).nunique() > 1
    told = table.assign(whose=" of " + who(table).map(_called) if several else "")
    parts = [
        f"{measure.called}{row['whose']} at {setting} {row[setting]}: {shown(measure, row[measure.name])}, published "
        f"{shown(measure, known[measure.name][row[setting]])}"
        for measure in _panels(table, measures)
        for _, row in told[told[measure.name].notna() & told[setting].isin(known.get(measure.name, {}))].iterrows()
    ]
    if not parts:
        return "The published numbers are of other values than ours, and are not drawn."
    return f"Beside the published numbers (hollow diamonds): {'; '.join(parts)}."


def _drawn(measures: Iterable[Sequence[Measure]]) -> list[Measure]:
    """The attacks' main measures, then their last ones."""
    own = list(measures)
    return list({measure.name: measure for end in (0, -1) for each in own for measure in [each[end]]}.values())


def ablation_caption(
    table: pd.DataFrame,
    settings: Sequence[str],
    measures: Measures,
    undefended: str | None = None,
    own_line: str = "row",
) -> str:
    """The caption: what the figure shows, in numbers."""
    what = " and ".join(settings)
    attacks = [measures[attack] for attack in dict.fromkeys(table["attack"])]
    drawn = listed([measure.called for measure in _drawn(attacks)])
    if shares := _shares(table):
        drawn = f"{drawn}; {listed([measure.called for measure in shares.values()])}, means over seeds"
    intervals = f", with {INTERVALS}" if len(settings) == 1 else ""
    run, left = table["n"] > 0, _left_out(table, settings, undefended)
    begin = f"{drawn[:1].upper()}{drawn[1:]} ({seeds(list(table.loc[run, 'n']))}) against {what}{intervals}; "
    begin += "the study's own value is ringed" if len(settings) == 1 else "the study's own values are framed"
    own = [] if bool(table["own"].any()) else [f"The study's own {own_line} is not among them."]
    findings = ablation_finding(table, measures, settings, undefended, own_line, _called)
    return " ".join([f"{begin}.", *own, *findings, *left])


def _left_out(table: pd.DataFrame, settings: Sequence[str], undefended: str | None) -> list[str]:
    """The sentence about rows in which no victim has an outcome; empty if there are none."""
    rows = []
    for _, line in table.assign(who=who(table).map(_called))[table["n"] == 0].iterrows():
        at = ", ".join(f"{name} {line[name]}" for name in settings)
        rows.append(f"{line['who']} " + (f"under {undefended}" if line["row"] == undefended else f"at {at}"))
    return [f"Left out, as no victim has an outcome: {named(rows)}."] if rows else []


@STYLED
def ablation(
    table: pd.DataFrame,
    settings: Sequence[str],
    measures: Measures,
    undefended: str | None = None,
    known: Published | None = None,
) -> Figure:
    """Measures of every variant, with 95 % intervals, or as maps where two settings vary.

    Args:
        table: see ``compare_variants``; rows with n 0 are left out, but some variant has victims.
        settings: the one or two columns that vary.
        measures: each attack's measures; the first and the last are drawn, and the dropped shares that the table has.
        undefended: name of the undefended row.
        known: published numbers beside those of a single setting.
    """
    run = table[table["n"] > 0]
    run = run.assign(who=who(run), base=run["row"] == undefended)
    return _curves(run, settings[0], measures, known or {}) if len(settings) == 1 else _maps(run, settings, measures)


def _curves(run: pd.DataFrame, setting: str, measures: Measures, known: Published) -> Figure:
    attacks = list(dict.fromkeys(run["who"]))
    entries = [_called(attack) for attack in attacks] + [_PUBLISHED] * bool(known)
    entries += [label_of(name).lower() for name in run.loc[run["base"], "row"].iloc[:1]]
    legend_columns, lines = legend_size([in_legend(each, PAGE_WIDTH) for each in entries], PAGE_WIDTH, _LEGEND_COLUMNS)
    panels = _panels(run, measures)
    columns = min(len(panels), _PANELS_IN_ROW)
    rows = -(-len(panels) // columns)
    values = _values(run, setting)
    digits = _DIGITS / columns
    below = 0.0 if _numeric(values) else _below(values, _evenly(values, digits))
    height = 0.35 + (2.0 + below) * rows + 0.15 * lines
    figure = Figure(figsize=(PAGE_WIDTH, height), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04))
    places = _places(values)
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, measure in zip(grid, panels, strict=False):
        for number, attack in enumerate(attacks):
            style: dict[str, Any] = {
                "color": _ATTACK_COLOURS[number % 8],
                "marker": _MARKERS[(number + number // 8) % 8],
            }
            # Between names there is room for the points of other attacks.
            shift = 0.0 if _numeric(values) else _STEP * (number - (len(attacks) - 1) / 2)
            place_of = {value: place + shift for value, place in zip(values, places, strict=True)}
            _curve(axes, _of(run, measure, measures, attack), setting, place_of, measure, attack, style)
        _published(axes, known.get(measure.name, {}), dict(zip(values, places, strict=True)), measure)
        _axis(axes, values, places, digits)
        axes.set(xlabel=setting, ylabel=title_of(measure))
        axes.grid(axis="y")
        if _on_whole_scale(measure):
            axes.set_ylim(-4, 104)
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    found = dict(pair for axes in figure.axes for pair in zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    if _PUBLISHED in found:
        found[_PUBLISHED] = found.pop(_PUBLISHED)
    labels, handles = list(found), list(found.values())
    if run["base"].any():
        handles.append(Line2D([], [], color="black", linestyle=_DASHES, linewidth=0.9))
        labels.append(label_of(run.loc[run["base"], "row"].iloc[0]).lower())
    labels = [in_legend(label, PAGE_WIDTH) for label in labels]
    figure.legend(handles, labels, loc="outside upper center", ncols=legend_columns)
    return figure


def _published(axes: Axes, known: Mapping[str, float], place_of: Mapping[str, float], measure: Measure) -> None:
    shown = [(place_of[value], scale_of(measure) * number) for value, number in known.items() if value in place_of]
    if shown:
        look: dict[str, Any] = {"marker": "D", "markersize": 5.5, "fillstyle": "none", "color": "black"}
        axes.plot(*np.array(shown).T, linestyle="none", markeredgewidth=1.0, label=_PUBLISHED, zorder=4, **look)


def _curve(
    axes: Axes,
    part: pd.DataFrame,
    setting: str,
    place_of: dict[str, float],
    measure: Measure,
    attack: str,
    style: dict[str, Any],
) -> None:
    factor = scale_of(measure)
    undefended = part[part["base"] & part[measure.name].notna()]
    if len(undefended):
        height = factor * float(undefended[measure.name].iloc[0])
        axes.axhline(height, color=style["color"], linestyle=_DASHES, linewidth=0.9)
    part = part[~part["base"]]
    if part.empty:
        return
    # Dropped shares have no interval.
    columns = [part.get(f"{measure.name}{end}", part[measure.name]) for end in ("", "_low", "_high")]
    middle, low, high = (factor * column.to_numpy(dtype=np.float64) for column in columns)
    at = np.array([place_of[_text(value)] for value in part[setting]])
    order = np.argsort(at)
    # Without an interval (one seed), the error bar has no length.
    below, above = np.nan_to_num(middle - low), np.nan_to_num(high - middle)
    axes.errorbar(
        at[order],
        middle[order],
        yerr=np.clip(np.stack([below, above])[:, order], 0, None),
        linestyle="solid" if _numeric(list(place_of)) else "none",
        markersize=4,
        capsize=2,
        elinewidth=0.8,
        label=_called(attack),
        **style,
    )
    own = part["own"].to_numpy(dtype=bool)
    ring: dict[str, Any] = {"markersize": 9, "fillstyle": "none", "color": "black", "markeredgewidth": 0.8}
    if own.any():
        # Not clipped, so that the ring is whole at the end of the scale, too.
        axes.plot(at[own], middle[own], "o", clip_on=False, **ring)


def _of(run: pd.DataFrame, measure: Measure, measures: Measures, attack: str) -> pd.DataFrame:
    """The rows of one attack (and victim); none if the attack lacks the measure."""
    part = run[run["who"] == attack]
    own = measures[str(part["attack"].iloc[0])]
    return part if measure in OF_FILTERS or measure.name in (own[0].name, own[-1].name) else part[:0]


def _on_whole_scale(measure: Measure) -> bool:
    """Whether the axis shows the whole scale: for measures that should be low, and for poisons found. Dropped clean
    images are too few for it."""
    return measure == POISONS_FOUND or ((measure.unit, measure.better) == ("%", "lower") and measure != CLEAN_DROPPED)


def _maps(run: pd.DataFrame, settings: Sequence[str], measures: Measures) -> Figure:
    """A map for each attack and measure; an attack's maps continue in further rows if the page is too narrow."""
    attacks = list(dict.fromkeys(run["who"]))
    panels = _panels(run, measures)
    values = _values(run, settings[0]), _values(run, settings[1])
    rows = -(-len(panels) // (_PANELS_IN_ROW if len(values[1]) <= _NARROW else _MAPS_IN_ROW))
    columns = -(-len(panels) // rows)
    apart = _evenly(values[1], _DIGITS_OF_MAPS / columns)
    height = (0.3 * len(values[0]) + 0.75 + _below(values[1], apart)) * rows * len(attacks)
    height += 0.15 * len(attacks) if len(attacks) > 1 else 0
    figure = Figure(figsize=(PAGE_WIDTH, max(1.8, height)), layout=ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.05))
    grid = figure.subplots(rows * len(attacks), columns, squeeze=False).reshape(len(attacks), -1)
    for own, attack in zip(grid, attacks, strict=True):
        if len(attacks) > 1:
            # The attack's name is a line above the first title, so that it can be as long as the page is wide.
            own[0].set_title(fitted(_called(attack), PAGE_WIDTH - 1, 8) + "\n", loc="left")
        for axes, measure in itertools.zip_longest(own, panels):
            part = run[:0] if measure is None else _of(run, measure, measures, attack)
            if part.empty:
                axes.set_axis_off()
                continue
            limits = (0.0, 100.0) if _on_whole_scale(measure) else _range(run[~run["base"]], measure)
            shown = _map(axes, part[~part["base"]], settings, values, measure, limits)
            _ticks(axes, range(len(values[1])), values[1], apart)
            axes.set_title(title_of(measure))
            figure.colorbar(shown, ax=axes, shrink=0.9, ticks=MaxNLocator(5))
    return figure


def _range(variants: pd.DataFrame, measure: Measure) -> tuple[float, float]:
    """The smallest and the largest value of a measure; 0 and 1 if no variant has it."""
    low, high = (scale_of(measure) * float(end) for end in (variants[measure.name].min(), variants[measure.name].max()))
    if np.isnan(low):
        return 0.0, 1.0
    return (low, high) if high > low else (low - 1, high + 1)


def _map(
    axes: Axes,
    part: pd.DataFrame,
    settings: Sequence[str],
    values: tuple[list[str], list[str]],
    measure: Measure,
    limits: tuple[float, float],
) -> Any:
    rows, columns = values
    cells = np.full((len(rows), len(columns)), np.nan)
    for _, line in part.iterrows():
        row, column = rows.index(_text(line[settings[0]])), columns.index(_text(line[settings[1]]))
        cells[row, column] = scale_of(measure) * line[measure.name]
        if line["own"]:
            # The black frame is visible on light cells, the white one within it on dark cells.
            for colour, width in (("black", 2.8), ("white", 1.0)):
                look: dict[str, Any] = {"edgecolor": colour, "linewidth": width, "zorder": 3, "clip_on": False}
                axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, **look))
    drawn = axes.imshow(cells, cmap=_MAPS[measure.better], vmin=limits[0], vmax=limits[1], aspect="auto")
    size = 7 if len(columns) <= 6 else 5.5
    for (row, column), value in np.ndenumerate(cells):
        dark = np.isfinite(value) and sum(drawn.cmap(drawn.norm(value))[:3]) < 1.5
        axes.text(
            column,
            row,
            _cell_text(value, measure),
            ha="center",
            va="center",
            color="white" if dark else "black",
            fontsize=size,
        )
    axes.set_yticks(range(len(rows)), [fitted(name, _NAME, 7) for name in rows])
    axes.set(xlabel=settings[1], ylabel=settings[0])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return drawn


def _cell_text(value: float, measure: Measure) -> str:
    """A value as short as a cell: one decimal, two without a unit; a small share is not shown as 0."""
    if not np.isfinite(value):
        return "–"
    return f"{value:.2f}" if measure.unit == "" else f"{value:.1g}" if 0 < value < 0.05 else f"{value:.1f}"


def _called(whose: str) -> str:
    """An attack and its victim, or, in an ablation of an attack, a row and its victim, for readers."""
    name = re.split("[ ,]", whose, maxsplit=1)[0]
    return label_of(name) + whose.removeprefix(name)


def _values(run: pd.DataFrame, setting: str) -> list[str]:
    """The values of a setting as text: numbers ascending, names in order of appearance."""
    values = list(dict.fromkeys(map(_text, run.loc[~run["base"], setting])))
    return sorted(values, key=float) if _numeric(values) else values


def _text(value: object) -> str:
    """A value as text as in a config, whatever its type."""
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


def _axis(axes: Axes, values: Sequence[str], places: Sequence[float], digits: float) -> None:
    sizes = [abs(place) for place in places if place]
    if _numeric(values) and max(sizes, default=0) > _SPAN_OF_LOG * min(sizes, default=0):
        # Zero is drawn a decade before the smallest value.
        axes.set_xscale("log") if min(places) > 0 else axes.set_xscale("symlog", linthresh=min(sizes))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    if not _numeric(values):
        axes.set_xlim(-0.6, len(values) - 0.4)
    at = axes.xaxis.get_transform().transform(np.array(places))
    apart = np.diff(at) / (np.ptp(at) or 1) * digits if _numeric(values) else _evenly(values, digits)
    _ticks(axes, places, values, apart)


def _evenly(names: Sequence[str], digits: float) -> NDArray[np.float64]:
    """Distances of evenly spaced names below an axis, in digits."""
    return np.full(len(names) - 1, digits / len(names))


def _below(labels: Sequence[str], apart: NDArray[np.float64]) -> float:
    """Inches that labels at these distances (in digits) take below an axis if two overlap, so that all are turned; else
    0."""
    wide = np.array([len(label) for label in labels])
    longest = max(len(line) for label in labels for line in fitted(label, _NAME, 7).splitlines())
    return 0.045 * longest if (apart < (wide[1:] + wide[:-1]) / 2 + 0.5).any() else 0.0


def _ticks(axes: Axes, at: Sequence[float], labels: Sequence[str], apart: NDArray[np.float64]) -> None:
    if _below(labels, apart):
        turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        axes.set_xticks(at, [fitted(label, _NAME, 7) for label in labels], **turned)
    else:
        axes.set_xticks(at, labels)
