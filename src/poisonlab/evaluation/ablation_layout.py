"""The table of an ablation: one row per combination of values, and per attack and victim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import pandas as pd
from pydantic import Field

from poisonlab.config.measures import CLEAN_DROPPED, OF_FILTERS, POISONS_FOUND
from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.choosing import MEAN, AttackMeasures, Measures, Shown
from poisonlab.evaluation.layouts import p_text, share_text, shared_measures, title_of, value_text, with_interval
from poisonlab.evaluation.results import ENDS, change_ends, further_probabilities, tidy_results
from poisonlab.evaluation.trials import Trial

_SHARES = [measure.name for measure in OF_FILTERS]


class VariantOf(Settings):
    """One row or attack of the study, and its values of the varied settings."""

    row: Name
    values: Mapping[str, bool | int | float | str]
    own: bool
    """Whether it is the study's own row or attack."""


class AblationTable(Shown):
    """Settings of the table of an ablation."""

    name: Name
    title: str
    defense: Name | None = None
    """The row that is varied; None where an attack is."""
    attack: Name | None = None
    """The attack that is varied; None where a row is."""
    method: Name
    settings: Annotated[tuple[str, ...], Field(min_length=1)]
    """The settings that vary, in the order of the columns."""
    variants: Annotated[tuple[VariantOf, ...], Field(min_length=1)]


def exchanged(stage: AblationTable, trials: Sequence[Trial]) -> tuple[AblationTable, list[Trial]]:
    """The table and trials of an ablation of an attack, with rows and attacks exchanged.

    Such an ablation compares attacks under each row, as other ablations compare rows under each attack.
    """
    measures = stage.by_attack[str(stage.attack)]
    lines = [line.model_copy(update={"attack": line.defense, "defense": line.attack}) for line in stage.lines]
    rows = dict.fromkeys(line.attack for line in lines)
    told = {
        "lines": tuple(lines),
        "measures": tuple(AttackMeasures(attack=row, measures=measures) for row in rows),
        "compare": (),
    }
    return stage.model_copy(update=told), [replace(each, attack=each.defense, defense=each.attack) for each in trials]


def compare_variants(
    trials: Sequence[Trial],
    stage: Shown,
    variants: Sequence[VariantOf],
    base: str,
    settings: Sequence[str],
) -> pd.DataFrame:
    """One row per attack, victim and combination of values, and one per attack and victim for undefended training.

    Args:
        trials: our trials.
        stage: the table's rows, run or not; the first row of ``compare`` is undefended.
        variants: the variants, in the order of the table.
        base: the study's row that all variants are compared with, seed by seed.
        settings: the settings that vary, in the order of the columns.

    Returns:
        Columns ``attack, victim, row``, then the varied settings as in the config, ``own`` (whether it is the study's
        row), ``n``, and each measure with ``m, m_low, m_high, m_n``. ``p, p_holm`` are of the paired test against
        ``base``. ``m_less_own, …`` are the mean differences of values and probabilities to ``base`` on the same seeds.
        Further probabilities also have ``m_p, m_p_holm``. All are as in ``tidy_results``. The row of undefended
        training has no values. If a variant drops images, ``OF_FILTERS`` follow (see ``tidy_results``), with 0 for
        variants that drop none.
    """
    rows = [line.row for line in stage.lines]
    results = tidy_results(trials, stage.by_attack, [base], expected=rows, mean_over_victims=stage.mean_over_victims)
    own = {(line["attack"], line["victim"], line["defense"]): line for line in results.to_dict("records")}
    shared = shared_measures(results, stage.by_attack)
    outcomes = ["n", *(f"{measure.name}{end}" for measure in shared for end in ENDS)]
    paired = [measure for measure in shared if measure.graded]
    further = dict.fromkeys(each.name for own in stage.by_attack.values() for each in further_probabilities(own))
    tested = ["", *(f"{measure.name}_" for measure in paired if measure.name in further)]
    tests = {f"{name}p{end}": f"{name}p_{base}{end}" for name in tested for end in ("", "_holm")}
    changes = {
        f"{each.name}_less_own{end}": f"{each.name}_less_{base}{end}" for each in paired for end in change_ends(each)
    }
    undefended = [VariantOf(row=name, values={}, own=False) for name in stage.compare[:1]]
    result = []
    for attack, victim in dict.fromkeys((line["attack"], line["victim"]) for line in own.values()):
        for variant in [*undefended, *variants]:
            if (line := own.get((attack, victim, variant.row))) is not None:
                told = {name: variant.values.get(name) for name in settings}
                who = {"attack": attack, "victim": victim, "row": variant.row, **told, "own": variant.own}
                against = {name: line[theirs] for name, theirs in {**tests, **changes}.items()}
                outcome = {name: line[name] for name in [*outcomes, *_SHARES]}
                result.append({**who, **outcome, **against})
    columns = ["attack", "victim", "row", *settings, "own", *outcomes, *tests, *changes, *_SHARES]
    table = _with_shares(pd.DataFrame(result, columns=columns), {variant.row for variant in variants}, trials)
    for name in settings:
        # As a plain column, whole numbers would become fractions beside the row without a value.
        table[name] = pd.Series([line[name] for line in result], dtype=object)
    return table


def _with_shares(table: pd.DataFrame, varied: set[Name], trials: Sequence[Trial]) -> pd.DataFrame:
    """Leave out the shares of dropped images if no variant drops any; else give 0 to variants that drop none, if
    another variant of the same attack does.

    A control has no poisons, and a wholly poisoned training set no clean images: their shares stay empty.
    """
    run = table["row"].isin(varied) & (table["n"] > 0) & (table["victim"] != MEAN)
    if not table.loc[run, _SHARES].notna().any(axis=None):
        return table.drop(columns=_SHARES)
    dropping = set(table.loc[run & table[_SHARES].notna().any(axis=1), "attack"])
    run &= table["attack"].isin(dropping)
    for name, kind in ((POISONS_FOUND.name, "poisons"), (CLEAN_DROPPED.name, "clean")):
        there = {(trial.attack, trial.defense) for trial in trials if _holds(trial, kind)}
        asked = run & table.set_index(["attack", "row"]).index.isin(there)
        table[name] = table[name].mask(asked & table[name].isna(), 0.0)
    return table


def _holds(trial: Trial, kind: str) -> bool:
    """Whether the training set has any images of a kind, ``poisons`` or ``clean``."""
    counts = (getattr(trial.found, f"{kind}_{end}", 0) for end in ("dropped", "kept"))
    return sum(counts) > 0


def readable_variants(
    compared: pd.DataFrame, measures: Measures, settings: Sequence[str], undefended: str | None
) -> pd.DataFrame:
    """The comparison as text."""
    several = (compared.groupby("attack")["victim"].nunique() > 1).any()
    values = {name: [value_text(value) for value in compared[name]] for name in settings}
    values[settings[0]] = [
        "(no defense)" if row == undefended else text
        for row, text in zip(compared["row"], values[settings[0]], strict=True)
    ]
    return pd.DataFrame(
        {
            "Attack": compared["attack"] if compared["attack"].nunique() > 1 else "",
            **({"Victim": compared["victim"]} if several else {}),
            **values,
            "n": compared["n"].astype(str),
            **{title_of(measure): with_interval(compared, measure) for measure in shared_measures(compared, measures)},
            **{
                measure.label: [share_text(value, measure) for value in compared[measure.name]]
                for measure in OF_FILTERS
                if measure.name in compared
            },
            "p (Holm)": [p_text(value) for value in compared["p_holm"]],
            "": ["the study's" if own else "" for own in compared["own"]],
        }
    )
