"""Results as tables to read: Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pandas as pd


def _percent(value: float) -> str:
    return f"{100 * value:.1f}"


def _plain(value: float) -> str:
    return f"{value:.2f}"


_EXTRAS: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("untriggered_success", "Without trigger", _percent),
    ("poisons_found", "Poisons found", _percent),
    ("clean_dropped", "Clean dropped", _percent),
    ("precision", "Precision", _percent),
    ("matthews", "MCC", _plain),
    ("false_alarms", "False alarms", _percent),
    ("privacy_epsilon", "epsilon", _plain),
)
"""Columns that only some studies have."""


def readable(results: pd.DataFrame) -> pd.DataFrame:
    """The tidy results (see ``tidy_results``) as text, in percent, one line per attack and defense."""
    diverged = results["diverged"]
    columns = {
        "Attack": results["attack"],
        "Defense": results["defense"],
        "n": results["n"].astype(str),
        **({"Diverged": [str(count) if count else "" for count in diverged]} if diverged.any() else {}),
        "Poison success [95 % CI]": _with_interval(results, "success"),
        "Test accuracy [95 % CI]": _with_interval(results, "accuracy"),
        "p (Holm)": [p_text(value) for value in results["p_success_holm"]],
        "p against FRIENDS-B": [p_text(value) for value in results["p_best_holm"]],
    }
    for name, title, form in _EXTRAS:
        if results[name].notna().any():
            columns[title] = ["" if math.isnan(value) else form(value) for value in results[name]]
    for name, title in (("success", "Published success"), ("accuracy", "Published accuracy")):
        if results[f"published_{name}"].notna().any():
            columns[title] = [
                published_text(value, inside)
                for value, inside in zip(results[f"published_{name}"], results[f"published_{name}_inside"], strict=True)
            ]
    return pd.DataFrame(columns)


def timing(results: pd.DataFrame, reference: str) -> pd.DataFrame:
    """What each defense costs: seconds per run, and relative to the row ``reference`` of the same attack."""
    base = results[results["defense"] == reference].set_index("attack")["seconds"]
    relative = results["seconds"] / results["attack"].map(base)
    return pd.DataFrame(
        {
            "Attack": results["attack"],
            "Defense": results["defense"],
            "Seconds": ["–" if math.isnan(value) else f"{value:.1f}" for value in results["seconds"]],
            "Relative": ["" if math.isnan(value) else f"{value:.2f}" for value in relative],
        }
    )


def markdown(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """GitHub Markdown with notes at the end; several attacks have a table each. Empty columns are left out."""
    attacks = list(dict.fromkeys(table["Attack"]))
    parts = [table[table["Attack"] == attack] for attack in attacks]
    texts = [
        _table(part, heading=attack if len(attacks) > 1 else None) for attack, part in zip(attacks, parts, strict=True)
    ]
    return "\n".join([*texts, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def _table(part: pd.DataFrame, heading: str | None) -> str:
    filled = _filled(part)
    text = (filled.drop(columns="Attack") if heading else filled).to_markdown(index=False, disable_numparse=True)
    return f"### {heading}\n\n{text}\n" if heading else f"{text}\n"


def _filled(table: pd.DataFrame) -> pd.DataFrame:
    """Without columns that are empty all the way down."""
    return table.loc[:, [(table[column] != "").any() for column in table.columns]]


def latex(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A LaTeX tabular in booktabs style, all attacks in one, with notes as comments above it. Empty columns are left
    out."""
    escaped = _filled(table).map(_escape).rename(columns=_escape)
    text = escaped.to_latex(index=False, column_format="ll" + "r" * (len(escaped.columns) - 2))
    return "".join(f"% {' '.join(note.split())}\n" for note in notes) + text


def _escape(value: object) -> str:
    text = str(value)
    for mark in ("%", "_", "&", "#"):
        text = text.replace(mark, "\\" + mark)
    return text.replace("<", "$<$")


def _with_interval(results: pd.DataFrame, name: str) -> list[str]:
    bounds = zip(results[name], results[f"{name}_low"], results[f"{name}_high"], strict=True)
    return [interval_text(*values) for values in bounds]


def interval_text(value: float, low: float, high: float) -> str:
    """A proportion and its interval in percent; a dash for nan."""
    if math.isnan(value):
        return "–"
    return _percent(value) + ("" if math.isnan(low) else f" [{_percent(low)}, {_percent(high)}]")


def p_text(value: float) -> str:
    """A p value; nothing for nan."""
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def published_text(value: float, inside: bool | None) -> str:
    """A published proportion in percent, and whether it lies in our interval, if that is known; nothing for nan."""
    if math.isnan(value):
        return ""
    return _percent(value) + ("" if inside is None else " (inside)" if inside else " (outside)")


def value_text(value: object) -> str:
    """A setting's value as in a config; nothing for none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
