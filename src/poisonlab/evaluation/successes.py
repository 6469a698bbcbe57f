"""Results over the seeds on which an attack succeeds undefended, as the deep k-NN paper counts them."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from poisonlab.config.measures import CLEAN_DROPPED, POISONS_FOUND, REPORTED
from poisonlab.evaluation.choosing import MEAN, Measures, counts_events
from poisonlab.evaluation.results import looked, tidy_results
from poisonlab.evaluation.trials import Row, Trial

HITS_NOTE = (
    "Hits: the seeds on which the attack succeeds against '{undefended}'; success and poisons of hits are of these "
    "alone, poisons by number. Hits are chosen by that outcome, so tests are of all seeds. Of victim 'mean', "
    "hits and poisons are sums over victims, and success is the unweighted mean over the victims that have hits, "
    "without an interval. "
    "Attacks whose outcome is no yes or no have no hits, and all their seeds count."
)

COUNTS = {
    POISONS_FOUND.name: ("poisons_dropped", "poisons"),
    CLEAN_DROPPED.name: ("clean_images_dropped", "clean_images"),
}
"""For each share, the columns with the number of dropped images and the number of all."""


def attacks_with_hits(trials: Sequence[Trial], measures: Measures) -> set[str]:
    """The attacks whose main outcome is a yes or no per victim."""
    return {trial.attack for trial in trials if _yes_or_no(trial, measures)}


def _yes_or_no(trial: Trial, measures: Measures) -> bool:
    main = measures[trial.attack][0]
    return counts_events(main, trial.targets) and main.better == "lower"


def hits(trials: Sequence[Trial], measures: Measures, undefended: str) -> list[Trial]:
    """The trials of each attack, victim and seed whose undefended trial is a success.

    Args:
        trials: the trials of all rows.
        measures: each attack's measures; an attack has hits only if the first is a yes or no.
        undefended: the row whose success makes a hit.
    """
    found = {
        (trial.attack, trial.victim, trial.seed)
        for trial in trials
        if trial.defense == undefended
        and _yes_or_no(trial, measures)
        and trial.measures.get(measures[trial.attack][0].name) == 1
    }
    return [trial for trial in trials if (trial.attack, trial.victim, trial.seed) in found]


def over_hits(
    trials: Sequence[Trial],
    measures: Measures,
    undefended: str,
    published: Mapping[Row, Mapping[str, float]] | None = None,
    expected: Sequence[Row] = (),
    mean_over_victims: bool = False,
) -> pd.DataFrame:
    """The tidy results of the hits, without tests.

    Columns are those of ``tidy_results``, and ``COUNTS`` summed over the hits. A row of victim ``MEAN`` has the sums of
    its victims' hits and counts. Its measures are unweighted means over the victims that have hits, without intervals.

    Args:
        undefended: the row whose success makes a hit; other arguments as in ``tidy_results``.
    """
    counted = hits(trials, measures, undefended)
    plain = [row for row in expected if row[1] != MEAN]
    results = tidy_results(counted, measures, (), published, plain)
    names = [name for name in results.columns if name != "seconds"]
    records: list[dict[str, Any]] = [
        {str(key): value for key, value in line.items()} for line in results.to_dict("records")
    ]
    if mean_over_victims:
        records += _means(results, measures, published or {})
    dropping = {(trial.attack, trial.defense) for trial in trials if looked([trial])}
    for record in records:
        if (record["attack"], record["defense"]) in dropping:
            record |= _counts(record, counted)
    return pd.DataFrame(records, columns=[*names, *(name for pair in COUNTS.values() for name in pair), "seconds"])


def _means(
    results: pd.DataFrame,
    measures: Measures,
    published: Mapping[Row, Mapping[str, float]],
) -> list[dict[str, Any]]:
    means = []
    for (attack, defense), lines in results.groupby(["attack", "defense"], sort=False):
        if len(lines) < 2:
            continue
        row = (str(attack), MEAN, str(defense))
        record: dict[str, Any] = dict(zip(("attack", "victim", "defense"), row, strict=True))
        record |= {"control": bool(lines["control"].any()), "seconds": lines["seconds"].mean()}
        record |= {name: int(lines[name].sum()) for name in ("n", "diverged")}
        for measure in (*measures[row[0]], *REPORTED):
            record |= {
                measure.name: lines[measure.name].mean(),
                f"{measure.name}_n": int(lines[f"{measure.name}_n"].sum()),
            }
            record[f"published_{measure.name}"] = published.get(row, {}).get(measure.name, math.nan)
        means.append(record)
    return means


def _counts(record: Mapping[str, Any], counted: Sequence[Trial]) -> dict[str, Any]:
    """Dropped poisons and clean examples, summed over the hits; for the victim ``MEAN``, over all victims.

    Only for rows that filter or drop something with any seed. Other rows looked for nothing, and their columns stay
    empty.
    """
    found = [
        trial.found
        for trial in counted
        if (trial.attack, trial.defense) == (record["attack"], record["defense"])
        and record["victim"] in (MEAN, trial.victim)
        and trial.found is not None
    ]
    if not found:
        return {}
    dropped, kept = sum(each.poisons_dropped for each in found), sum(each.poisons_kept for each in found)
    lost, clean = sum(each.clean_dropped for each in found), sum(each.clean_kept for each in found)
    return {
        "poisons_dropped": dropped,
        "poisons": dropped + kept,
        "clean_images_dropped": lost,
        "clean_images": lost + clean,
        "poisons_found": dropped / (dropped + kept) if dropped + kept else math.nan,
        "clean_dropped": lost / (lost + clean) if lost + clean else math.nan,
    }


def beside(results: pd.DataFrame, over: pd.DataFrame, measures: Measures, counted: Collection[str]) -> pd.DataFrame:
    """The tidy results of all seeds with those of the hits beside them, in columns that begin with ``hit_``.

    Args:
        results: the results of all seeds, see ``tidy_results``.
        over: the results of the hits, see ``over_hits``.
        measures: each attack's measures; the first and the last get columns.
        counted: the attacks that can have hits, see ``attacks_with_hits``. Their published values and verdicts are
            those of the hits; ``hit_n`` of other attacks is nan.
    """
    ends = dict.fromkeys(measure.name for own in measures.values() for measure in (own[0], own[-1]))
    names = ["n", *(f"{name}{end}" for name in ends for end in ("", "_low", "_high", "_n"))]
    names += ["poisons_found", "clean_dropped", "poisons_dropped", "poisons"]
    published = [name for name in over.columns if name.startswith("published_")]
    key = ["attack", "victim", "defense"]
    renamed = over[[*key, *names, *published]].rename(columns={name: f"hit_{name}" for name in names})
    joined = results.drop(columns=published).merge(renamed, on=key, how="left")
    joined["hit_n"] = joined["hit_n"].where(joined["attack"].isin(counted))
    for name in published:
        joined[name] = joined[name].where(joined["attack"].isin(counted), results[name].to_numpy())
        if name.endswith("_inside"):
            joined[name] = joined[name].astype(object).where(joined[name].notna(), None)
    return joined[[*(name for name in joined.columns if name != "seconds"), "seconds"]]
