"""One defense with some of its settings varied: a row per attack and combination of values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.choosing import Line
from poisonlab.evaluation.layouts import interval_text, p_text, value_text
from poisonlab.evaluation.results import REFERENCE_ROW, tidy_results
from poisonlab.evaluation.trials import Trial

OUTCOMES = (
    *("n", "success", "success_low", "success_high", "untriggered_success"),
    *("accuracy", "accuracy_low", "accuracy_high", "p_success", "p_success_holm"),
)


class VariantOf(Settings):
    """One row of the study, and the values that it stands for."""

    row: Name
    values: Mapping[str, bool | int | float | str]
    own: bool
    """Whether it is the study's own row."""


def compare_variants(
    trials: Sequence[Trial],
    lines: Sequence[Line],
    variants: Sequence[VariantOf],
    base: str,
    settings: Sequence[str],
) -> pd.DataFrame:
    """One row per attack and combination of values, and one per attack for undefended training.

    Args:
        trials: ours.
        lines: the rows that the table is about, run or not.
        variants: in the order of the table.
        base: the study's row that all are compared with, seed by seed.
        settings: those that vary, in the order of the columns.

    Returns:
        Columns ``attack, row``, then the varied settings as they are in the config, ``own`` (it is the study's row),
        and those of ``OUTCOMES`` as ``tidy_results`` gives them, p of the paired test against ``base``. The row of
        undefended training has no values.
    """
    pairs = [(line.attack, line.defense) for line in lines]
    results = tidy_results(trials, expected=pairs, reference_row=base)
    own = {(str(line["attack"]), str(line["defense"])): line for line in results.to_dict("records")}
    result = []
    for attack in dict.fromkeys(attack for attack, _ in pairs):
        rows = [VariantOf(row=REFERENCE_ROW, values={}, own=False), *variants]
        for variant in rows:
            if (attack, variant.row) in own:
                line = own[attack, variant.row]
                values = {name: variant.values.get(name) for name in settings}
                who = {"attack": attack, "row": variant.row, **values, "own": variant.own}
                result.append({**who, **{name: line[name] for name in OUTCOMES}})
    table = pd.DataFrame(result, columns=["attack", "row", *settings, "own", *OUTCOMES])
    for name in settings:
        # Whole numbers would turn into fractions beside the row without a value.
        table[name] = pd.Series([line[name] for line in result], dtype=object)
    return table


def readable_variants(compared: pd.DataFrame, settings: Sequence[str]) -> pd.DataFrame:
    """The comparison as text, proportions in percent."""
    attacks = compared["attack"].nunique()
    values = {name: [value_text(value) for value in compared[name]] for name in settings}
    values[settings[0]] = [
        "(no defense)" if row == REFERENCE_ROW else text
        for row, text in zip(compared["row"], values[settings[0]], strict=True)
    ]
    shown = {
        title: [
            interval_text(*bounds)
            for bounds in zip(compared[name], compared[f"{name}_low"], compared[f"{name}_high"], strict=True)
        ]
        for name, title in (("success", "Poison success [95 % CI]"), ("accuracy", "Test accuracy [95 % CI]"))
    }
    return pd.DataFrame(
        {
            "Attack": compared["attack"] if attacks > 1 else "",
            **values,
            "n": compared["n"].astype(str),
            **shown,
            "p (Holm)": [p_text(value) for value in compared["p_success_holm"]],
            "": ["the study's" if own else "" for own in compared["own"]],
        }
    )
