"""The table of how many poisons clean networks misclassify (Sandoval-Segura et al. 2022, table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from poisonlab.config.measures import ACCURACY, PEAK_ACCURACY, Measure
from poisonlab.evaluation.correlations import correlation
from poisonlab.evaluation.layouts import number, p_text
from poisonlab.evaluation.published import Paper

AVERAGE = "average"
CLOSE = 0.01
"""Distance from the best value of its column up to which a value is in bold (the paper's 1 %)."""
OUTCOMES = (PEAK_ACCURACY, ACCURACY)
"""The outcomes of undefended victims on the poisons."""


def measures_of(networks: Sequence[str]) -> list[Measure]:
    """One measure per network and their unweighted mean."""
    return [
        Measure(name=f"transfer_{name.replace('-', '_').lower()}", label=name, kind="rate", better="lower")
        for name in (*networks, AVERAGE)
    ]


def transfer_table(
    shares: pd.DataFrame, outcomes: pd.DataFrame, published: pd.DataFrame, rows: Mapping[str, str]
) -> pd.DataFrame:
    """One line per attack, in the order of ``rows``.

    Args:
        shares: a line per attack and seed: ``attack`` and a share for each network, columns in the networks' order.
        outcomes: ``attack``, ``peak_accuracy`` and ``accuracy`` of undefended victims; attacks may be missing. Without
            a column, because attacks with a goal have no peak, its values are nan.
        published: the numbers of one table (see ``evaluation.published``); may be empty.
        rows: the paper's name of each attack.

    Returns:
        Columns ``row, attack, n`` (seeds) and, for each measure m, ``m`` (mean over seeds; nan without any) and
        ``published_m``.
    """
    networks = [name for name in shares.columns if name != "attack"]
    known = published.set_index(["row", "measure"])["value"].to_dict()
    outcomes = outcomes.reindex(columns=["attack", *(each.name for each in OUTCOMES)])
    lines = []
    for attack, row in rows.items():
        own = shares[shares["attack"] == attack][networks]
        means = list(own.mean()) if len(own) else [np.nan] * len(networks)
        values = dict(zip(measures_of(networks), [*means, float(np.mean(means))], strict=True))
        found = outcomes[outcomes["attack"] == attack]
        values |= {each: float(found[each.name].iloc[0]) if len(found) else np.nan for each in OUTCOMES}
        line = {"row": row, "attack": attack, "n": len(own)}
        for measure, value in values.items():
            line |= {measure.name: value, f"published_{measure.name}": known.get((row, measure.name), np.nan)}
        lines.append(line)
    return pd.DataFrame(lines)


def transfer_layout(table: pd.DataFrame, networks: Sequence[str], paper: Paper | None) -> pd.DataFrame:
    """The table as text. Values within 1 % of the best of their column are bold in Markdown: the highest transfer, the
    lowest accuracy of a victim."""
    columns: dict[str, list[str]] = {"Attack": [""] * len(table), "Row": list(table["row"])}
    columns["n"] = [str(count) for count in table["n"]]
    headings = {} if paper is None else paper.headings
    for measure in (*measures_of(networks), *OUTCOMES):
        title = headings.get(measure.name, measure.label)
        columns[title] = _marked(table[measure.name], measure, "–")
        columns[f"Published {title}"] = _marked(table[f"published_{measure.name}"], measure, "")
    return pd.DataFrame(columns)


def _marked(values: pd.Series[float], measure: Measure, missing: str) -> list[str]:
    strength = -values if measure in OUTCOMES else values
    # Tolerance for rounding, because published numbers have two digits.
    best = strength >= strength.max() - CLOSE - 1e-9
    texts = [missing if np.isnan(value) else number(value, measure.unit) for value in values]
    return [f"**{text}**" if mark else text for text, mark in zip(texts, best, strict=True)]


def transfer_findings(table: pd.DataFrame) -> list[str]:
    """Whether poisons that transfer better leave a lower peak: rank correlations of the average transfer, ours and
    published."""
    found = []
    for whose, prefix in (("Ours", ""), ("Published", "published_")):
        pairs = table[[f"{prefix}transfer_{AVERAGE}", f"{prefix}{PEAK_ACCURACY.name}"]].dropna().to_numpy()
        both = correlation(pairs[:, 0], pairs[:, 1])
        ranks, p = both.spearman, p_text(both.p)
        # Fewer than three poisons and equal values have none.
        if np.isnan(ranks.estimate):
            continue
        found.append(
            f"{whose}: over {len(pairs)} poisons, average transfer and peak accuracy have a rank correlation of "
            f"{ranks.estimate:.2f} [{ranks.low:.2f}, {ranks.high:.2f}] (p {p} by permutation)."
        )
    return found
