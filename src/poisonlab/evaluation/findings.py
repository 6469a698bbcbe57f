"""The findings of a table, in sentences of numbers: below tables, in the report and in captions of figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from poisonlab.config.measures import OF_FILTERS, Measure
from poisonlab.evaluation.choosing import Measures
from poisonlab.evaluation.intervals import Interval
from poisonlab.evaluation.layouts import (
    change_text,
    interval_text,
    number,
    p_text,
    share_text,
    value_text,
    who,
    with_unit,
)
from poisonlab.evaluation.results import further_probabilities

_NAMED = 4
_MANY = 8
_PAIRED = ", paired by seed, in points"
LEVEL = 0.05
_FEWEST = 6


def results_findings(
    results: pd.DataFrame,
    measures: Measures,
    compare: Sequence[str],
    called: Callable[[str], str] = str,
) -> list[str]:
    """One sentence per attack and victim that have results.

    Args:
        results: tidy (see ``tidy_results``), or at least attack, victim, defense, control, n, and each attack's first
            and last measure with their intervals.
        measures: each attack's measures, the main one first.
        compare: rows to name first; the first of these is undefended.
        called: gives a row's name for readers.
    """
    return [
        _finding(whose, part, measures[attack], compare, called)
        for whose, attack, part in _by_victim(results, results["n"] > 0)
    ]


def paired_findings(results: pd.DataFrame, measures: Measures, compare: Sequence[str]) -> list[str]:
    """The changes by each row on the same seeds: a sentence per attack, victim and row of ``compare``.

    Probabilities other than the main measure are compared, with the p of their test. So is the last measure, if it is a
    value in percent, with Student's interval of the paired differences. Of more than eight rows, only significant
    changes are named. Against later rows of ``compare``, neither the rows of ``compare`` nor controls are named.

    Args:
        results: tidy (see ``tidy_results``).
        measures: each attack's measures.
        compare: the rows that others are compared with.
    """
    sentences = []
    for whose, attack, part in _by_victim(results, results["n"] > 0):
        for place, other in enumerate(compare):
            rows = part
            if place:
                rows = part[~part["defense"].isin(compare) & ~part["control"].astype(bool)]
            told = [
                _changes(rows, measure, other, f"p_{other}_holm", lambda row: str(row["defense"]))
                for measure in _compared(measures[attack], measures[attack][-1:])
            ]
            if any(told):
                sentences.append(f"{whose}: change against {other}{_PAIRED}: {'; '.join(filter(None, told))}.")
    return sentences


def _compared(own: Sequence[Measure], values: Sequence[Measure]) -> list[Measure]:
    priced = [measure for measure in values if measure.kind == "value" and measure.unit == "%"]
    return [*further_probabilities(own), *priced]


def _changes(rows: pd.DataFrame, measure: Measure, other: str, p: str, called: Callable[[pd.Series], str]) -> str:
    """The changes of the rows that have pairs, or, of many rows, only of those told apart; empty without any."""
    less, p = f"{measure.name}_less_{other}", f"{measure.name}_{p}"
    paired = rows[rows[f"{less}_n"] > 1] if f"{less}_n" in rows else rows.iloc[:0]
    if paired.empty:
        return ""
    what = f"of {measure.called}"
    if (many := len(paired)) > _MANY:
        if measure.kind == "value":
            paired = paired[(paired[f"{less}_low"] > 0) | (paired[f"{less}_high"] < 0)]
        else:
            paired = paired[paired[p] < LEVEL]
        what += f" {len(paired)} of {many} told apart"
    return ", ".join([what, *(f"{called(row)} {_change(row, measure, less, p)}" for _, row in paired.iterrows())])


def _change(row: pd.Series, measure: Measure, less: str, p: str) -> str:
    """The paired change in points: of a value with its interval, of a probability with the corrected p of its test."""
    pairs = int(row[f"{less}_n"])
    notes = [] if pairs == row["n"] else [f"n = {pairs}"]
    if measure.kind == "value":
        change = change_text(Interval(row[less], row[f"{less}_low"], row[f"{less}_high"], pairs))
        notes = [f"n = {pairs}"] if pd.isna(row[f"{less}_low"]) else notes
    else:
        change = f"{100 * row[less]:+.1f}"
        tested = not pd.isna(row[p])
        # With so few pairs, p cannot be below the level.
        notes = [f"n = {pairs}"] if tested and pairs < _FEWEST else notes
        notes += [f"p {p_text(row[p])}"] if tested else []
    return change + (f" ({', '.join(notes)})" if notes else "")


def _by_victim(table: pd.DataFrame, shown: pd.Series[bool]) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """The shown rows of each attack and victim: their name, the attack, and the rows."""
    for name, part in table.assign(who=who(table))[shown].groupby("who", sort=False):
        yield str(name), str(part["attack"].iloc[0]), part


def _finding(
    whose: str, part: pd.DataFrame, measures: Sequence[Measure], compare: Sequence[str], called: Callable[[str], str]
) -> str:
    control = part["control"].astype(bool)
    poisoned = {str(row["defense"]): row for _, row in part[~control].iterrows()}
    sentences = [f"{called(name)}, {_outcome(poisoned[name], measures)}" for name in compare if name in poisoned]
    others = part[~control & ~part["defense"].isin(compare) & part[measures[0].name].notna()]
    if len(others):
        seeds = _seeds(part, "defense", next(iter(compare), None))
        sentences.append(_best(others, measures, called, seeds, "other " if sentences else ""))
    undefended = poisoned.get(compare[0]) if compare else None
    defended = [row for name, row in poisoned.items() if name != compare[0]] if compare else []
    # Neither a single seed nor equal seeds of a value have an interval.
    defended = [row for row in defended if not pd.isna(row[f"{measures[0].name}_low"])]
    if undefended is not None and not pd.isna(undefended[f"{measures[0].name}_low"]) and defended:
        count = sum(_overlap(row, undefended, measures[0].name) for row in defended)
        sentences.append(
            f"{count} of {len(defended)} defended rows' intervals of {measures[0].called} overlap that of "
            f"{called(compare[0])}"
        )
    for _, row in part[control].iterrows():
        name = called(row["defense"])
        sentences.append(f"{name}{'' if 'control' in name else ' (control)'}, {_outcome(row, measures)}")
    # Published values stand beside the hits, whose intervals differ where some seeds are no hits.
    whose_intervals = "our intervals" + (" of hits" if "hit_n" in part and (part["hit_n"] < part["n"]).any() else "")
    for measure in measures:
        sentences += inside_findings(measure, part.get(f"published_{measure.name}_inside", ()), whose_intervals)
    return f"{whose}: {'; '.join(sentences)}."


def _outcome(row: pd.Series, measures: Sequence[Measure]) -> str:
    shown = dict.fromkeys((measures[0], measures[-1]))
    numbers = [f"{measure.called} {_interval(row, measure)}" for measure in shown]
    return f"{', '.join(numbers)} (n = {int(row['n'])})"


def _interval(row: pd.Series, measure: Measure) -> str:
    text = interval_text(row[measure.name], row[f"{measure.name}_low"], row[f"{measure.name}_high"], measure.unit)
    return text if text == "–" else with_unit(text, measure.unit)


def _seeds(part: pd.DataFrame, rows: str, undefended: str | None) -> int:
    """How many seeds the undefended row has; without that row, the most that any row has."""
    own = part.loc[part[rows] == undefended, "n"]
    return int((own if len(own) else part["n"]).max())


def _if_other(row: pd.Series, seeds: int) -> str:
    """A row's number of seeds, if it is not ``seeds``: its numbers then come from other poisons, too."""
    return "" if row["n"] == seeds else f"n = {int(row['n'])}"


def _best(
    others: pd.DataFrame, measures: Sequence[Measure], called: Callable[[str], str], seeds: int, other: str
) -> str:
    """The best main measure among the rows outside ``compare``, and the rows that have it. ``seeds`` is the number of
    seeds of the undefended row; ``other`` tells these rows from those already named."""
    main, last = measures[0], measures[-1]
    lower = main.better == "lower"
    value = others[main.name].min() if lower else others[main.name].max()
    # Means of the same counts may differ by rounding.
    alike = np.isclose(others[main.name], value, rtol=0, atol=1e-9)
    best = others[alike].sort_values(last.name, ascending=last.better == "lower", kind="stable")
    names = [
        f"{called(row['defense'])}{f' ({unlike})' if (unlike := _if_other(row, seeds)) else ''} at "
        f"{_shown(row[last.name], last)}"
        for _, row in best.iterrows()
    ]
    several = f"{'least' if lower else 'most'} of the {other}{len(others)} rows"
    which = several if len(others) > 1 else f"the {other or 'only '}row"
    listed = named(names) + (f" {last.called}" if last != main else "")
    return f"{which}, {main.called} {_shown(value, main)} ({listed})"


def _shown(value: float, measure: Measure) -> str:
    """A value with its unit; a dash for nan, if no victim of the row has the measure."""
    return "–" if math.isnan(value) else with_unit(number(value, measure.unit), measure.unit)


def _overlap(one: pd.Series, other: pd.Series, name: str) -> bool:
    """Whether the intervals overlap."""
    low, high = f"{name}_low", f"{name}_high"
    return bool(one[low] <= other[high] and other[low] <= one[high])


def inside_findings(measure: Measure, verdicts: Iterable[object], intervals: str = "our intervals") -> list[str]:
    """How many published values lie in our intervals, by the verdict on each (None or nan: not compared); empty if none
    was compared."""
    known = [bool(verdict) for verdict in verdicts if isinstance(verdict, bool | np.bool_)]
    return [f"{sum(known)} of {len(known)} published values of {measure.called} lie in {intervals}"] if known else []


def ablation_finding(
    compared: pd.DataFrame,
    measures: Measures,
    settings: Sequence[str],
    undefended: str | None,
    own_line: str = "row",
    called: Callable[[str], str] = str,
) -> list[str]:
    """The smallest and largest value of each attack's first and last measure and of the dropped shares, and their
    variants (see ``compare_variants``). ``own_line`` is the word for the study's own one: row or attack. ``called``
    gives the name for readers of an attack and its victim."""
    result = []
    for whose, attack, every in _by_victim(compared, compared["n"] > 0):
        own, part, seeds = measures[attack], every[every["row"] != undefended], _seeds(every, "row", undefended)
        if part.empty:
            continue
        dropped = [measure for measure in OF_FILTERS if measure.name in part and part[measure.name].notna().any()]
        ends = [_ends(part, measure, settings, seeds) for measure in dict.fromkeys((own[0], own[-1], *dropped))]
        known = part["p_holm"].dropna()
        against = f"smallest corrected p of {own[0].called} against the study's own {own_line}"
        tests = f"; {against} {p_text(known.min())}" if len(known) else ""
        result.append(f"{called(whose)}: {', '.join(ends)}{tests}.")
    return result


def ablation_changes(
    compared: pd.DataFrame, measures: Measures, settings: Sequence[str], own_line: str = "row"
) -> list[str]:
    """The changes by each variant on the same seeds: a sentence per attack and victim, as in ``paired_findings`` (see
    ``compare_variants``). All values in percent are compared."""
    sentences = []
    for whose, attack, part in _by_victim(compared, compared["n"] > 0):
        variants = part[part[list(settings)].notna().all(axis=1)]
        told = [
            _changes(variants, measure, "own", "p_holm", lambda row: _at(row, settings))
            for measure in _compared(measures[attack], measures[attack])
        ]
        if any(told):
            against = f"the study's own {own_line}{_PAIRED}"
            sentences.append(f"{whose}: change against {against}: {'; '.join(filter(None, told))}.")
    return sentences


def _ends(part: pd.DataFrame, measure: Measure, settings: Sequence[str], seeds: int) -> str:
    known = part[part[measure.name].notna()]
    if known.empty:
        return f"{measure.called} not measured"
    low, high = known.iloc[int(known[measure.name].argmin())], known.iloc[int(known[measure.name].argmax())]
    shown = share_text if measure in OF_FILTERS else _shown
    if low[measure.name] == high[measure.name]:
        return f"{measure.called} {shown(low[measure.name], measure)} throughout"
    ends = [
        f"{shown(row[measure.name], measure)} ({', '.join(filter(None, (_at(row, settings), _if_other(row, seeds))))})"
        for row in (low, high)
    ]
    return f"{measure.called} from {ends[0]} to {ends[1]}"


def _at(line: pd.Series, settings: Sequence[str]) -> str:
    return ", ".join(f"{name} {value_text(line[name])}" for name in settings)


def named(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
