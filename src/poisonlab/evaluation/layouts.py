"""Results as tables to read: Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd


def readable(results: pd.DataFrame) -> pd.DataFrame:
    """The tidy results (see ``tidy_results``) as text, in percent, one line per attack and defense."""
    columns = {
        "Attack": results["attack"],
        "Defense": results["defense"],
        "n": results["n"].astype(str),
        "Poison success [95 % CI]": _with_interval(results, "success"),
        "Test accuracy [95 % CI]": _with_interval(results, "accuracy"),
        "p (Holm)": [_p_value(value) for value in results["p_success_holm"]],
    }
    if results["untriggered_success"].notna().any():
        columns["Without trigger"] = [
            "" if math.isnan(value) else f"{100 * value:.1f}" for value in results["untriggered_success"]
        ]
    for name, title in (("success", "Published success"), ("accuracy", "Published accuracy")):
        if results[f"published_{name}"].notna().any():
            columns[title] = [
                _published(value, inside)
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
            "Seconds": [f"{value:.1f}" for value in results["seconds"]],
            "Relative": ["" if math.isnan(value) else f"{value:.2f}" for value in relative],
        }
    )


def markdown(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A GitHub Markdown table, with notes below it."""
    text = table.to_markdown(index=False, disable_numparse=True)
    return "\n".join([text, "", *(f"- {note}" for note in notes)]).rstrip() + "\n"


def latex(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """A LaTeX tabular in booktabs style, with notes as comments above it."""
    escaped = table.map(_escape).rename(columns=_escape)
    text = escaped.to_latex(index=False, column_format="ll" + "r" * (len(table.columns) - 2))
    return "".join(f"% {' '.join(note.split())}\n" for note in notes) + text


def _escape(value: object) -> str:
    text = str(value)
    for mark in ("%", "_", "&", "#"):
        text = text.replace(mark, "\\" + mark)
    return text.replace("<", "$<$")


def _with_interval(results: pd.DataFrame, name: str) -> list[str]:
    return [
        f"{100 * value:.1f}" if math.isnan(low) else f"{100 * value:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
        for value, low, high in zip(results[name], results[f"{name}_low"], results[f"{name}_high"], strict=True)
    ]


def _p_value(value: float) -> str:
    if math.isnan(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _published(value: float, inside: bool | None) -> str:
    if math.isnan(value):
        return ""
    verdict = {True: " (inside)", False: " (outside)"}.get(bool(inside), "") if inside is not None else ""
    return f"{100 * value:.1f}{verdict}"
