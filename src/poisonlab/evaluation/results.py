"""Turn trials into one tidy row per attack, victim and defense."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from poisonlab.config.measures import REPORTED, Measure
from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation.choosing import MEAN, Measures, counts_events, victims_of, with_means
from poisonlab.evaluation.intervals import (
    Interval,
    holm,
    mcnemar_exact,
    mean_of_shares,
    mean_t,
    paired_permutation,
    wilson,
)
from poisonlab.evaluation.trials import Row, Trial

ENDS = ("", "_low", "_high", "_n")
DROPPED = ("poisons_found", "clean_dropped", "precision", "matthews")


def tidy_results(
    trials: Sequence[Trial],
    measures: Measures,
    compare: Sequence[str] = (),
    published: Mapping[Row, Mapping[str, float]] | None = None,
    expected: Sequence[Row] = (),
    mean_over_victims: bool = False,
) -> pd.DataFrame:
    """One row per attack, victim and defense, in the order of ``expected`` and then of first appearance.

    Columns:

    - ``attack, victim, defense``; ``control``, whether its victims were trained on clean data; ``n``, the number of
      seeds; ``diverged``, the number of victims left out because their training diverged;
    - for each measure m: ``m`` with its 95 % interval ``m_low, m_high``, and ``m_n``, the number of seeds that have it.
      An event is a share of the seeds with Wilson's interval, a rate a mean with Gaffke's (see ``mean_of_shares``), a
      value a mean with Student's. A value's interval is cut to [0, 1] if the unit is percent; it is missing for epochs
      and for equal seeds;
    - for each row r of ``compare``: ``p_r`` of the paired test of the attack's main measure against it on the same
      seeds (exact McNemar for an event, otherwise a permutation test), and ``p_r_holm``, corrected over the rows of the
      attack and victim; also ``m_p_r`` and ``m_p_r_holm`` for each further probability;
    - for each row r of ``compare`` and each value or probability ``m_less_r``, the mean difference to r on the same
      seeds, and their number ``m_less_r_n``; for a value also Student's interval, ``m_less_r_low, m_less_r_high``;
    - for dropped images ``poisons_found`` (recall), ``clean_dropped`` (share of the clean examples), ``precision`` and
      ``matthews``, means over seeds; nan for a row that neither filters nor dropped anything;
    - ``published_m`` and ``published_m_inside``, whether it lies in our interval, for each measure that has some;
    - ``seconds``, the mean cost, the only column that differs between two runs of the same study.

    Args:
        trials: one per cell.
        measures: each attack's measures, the main one first. Measures that defenses report are added.
        compare: names of rows to test against. Controls are not tested.
        published: numbers of a paper by measure, shares in [0, 1].
        expected: rows to include even without a trial; then n is 0 and the numbers are nan.
        mean_over_victims: whether to add rows with the victim ``MEAN``: the mean over victims for each seed that all of
            them have, then mean and interval over these seeds.

    Raises:
        SettingsError: an attack has no measures.
        DataError: an event is neither 1 nor 0.
    """
    rows = list(dict.fromkeys([*expected, *(trial.key[:3] for trial in trials)]))
    if bare := {row[0] for row in rows} - measures.keys():
        raise SettingsError(f"attack {min(bare)!r} has no measures: add them to measures")
    if mean_over_victims:
        trials = [*trials, *_mean_over_victims(trials, rows)]
        rows = with_means(rows)
    groups: dict[Row, list[Trial]] = {row: [] for row in rows}
    for trial in trials:
        groups.setdefault(trial.key[:3], []).append(trial)
    done = {
        row: {trial.seed: trial for trial in sorted(group, key=lambda trial: trial.seed) if not trial.failed}
        for row, group in groups.items()
    }
    records = []
    for row in rows:
        own = measures[row[0]]
        targets = _targets(row, groups)
        record: dict[str, Any] = dict(zip(("attack", "victim", "defense"), row, strict=True))
        record["control"] = any(trial.control for trial in groups[row])
        record["n"] = len(done[row])
        record["diverged"] = len(groups[row]) - len(done[row])
        for measure in (*own, *REPORTED):
            event = counts_events(measure, targets if measure in own else None)
            interval = _interval(_values(done[row], measure), measure, event)
            record |= {measure.name: interval.estimate, f"{measure.name}_n": interval.n}
            record |= {f"{measure.name}_low": interval.low, f"{measure.name}_high": interval.high}
            if measure in own:
                known = (published or {}).get(row, {}).get(measure.name, math.nan) if done[row] else math.nan
                unknown = math.isnan(known) or math.isnan(interval.low)
                record[f"published_{measure.name}"] = known
                record[f"published_{measure.name}_inside"] = None if unknown else interval.contains(known)
        for name in compare:
            other = done.get((*row[:2], name), {})
            tested = name != row[2] and not record["control"]
            record[f"p_{name}"] = _paired_p(done[row], other, own[0], targets) if tested else math.nan
            for measure in further_probabilities(own):
                p = _paired_p(done[row], other, measure, None) if tested else math.nan
                record[f"{measure.name}_p_{name}"] = p
            for measure in (each for each in own if each.graded):
                less = f"{measure.name}_less_{name}"
                change = _difference(done[row], other if name != row[2] else {}, measure)
                record |= {less: change.estimate, f"{less}_n": change.n}
                if measure.kind == "value":
                    record |= {f"{less}_low": change.low, f"{less}_high": change.high}
        record |= _dropped(list(done[row].values()))
        record["seconds"] = _mean([each.seconds for each in done[row].values() if not math.isnan(each.seconds)])
        records.append(record)
    results = pd.DataFrame(records, columns=_columns(rows, measures, compare))
    return _corrected(results, _tests(measures.values(), compare))


def _columns(rows: Sequence[Row], measures: Measures, compare: Sequence[str]) -> list[str]:
    """The columns in order: every attack's measures come before those that defenses report."""
    own = [measure for attack in dict.fromkeys(row[0] for row in rows) for measure in measures[attack]]
    names = list(dict.fromkeys(measure.name for measure in own))
    paired = dict.fromkeys(measure for measure in own if measure.graded)
    reported = [measure.name for measure in REPORTED if measure.name not in names]
    intervals = [f"{name}{end}" for name in (*names, *reported) for end in ENDS]
    changes = [f"{each.name}_less_{other}{end}" for other in compare for each in paired for end in change_ends(each)]
    published = [f"published_{name}{end}" for name in names for end in ("", "_inside")]
    who = ["attack", "victim", "defense", "control", "n", "diverged"]
    return [*who, *intervals, *changes, *_tests(measures.values(), compare), *DROPPED, *published, "seconds"]


def change_ends(measure: Measure) -> tuple[str, ...]:
    """Ends of the columns of a paired change; the change of a probability has a test and no interval."""
    return ENDS if measure.kind == "value" else ("", "_n")


def _tests(measures: Iterable[Sequence[Measure]], compare: Sequence[str]) -> list[str]:
    """The columns of p values."""
    names = dict.fromkeys(each.name for own in measures for each in further_probabilities(own))
    return [f"{start}p_{row}" for row in compare for start in ("", *(f"{name}_" for name in names))]


def further_probabilities(own: Sequence[Measure]) -> list[Measure]:
    """The measures of an attack that are tested besides its main one."""
    return [measure for measure in own[1:] if measure.kind == "probability"]


def _corrected(results: pd.DataFrame, tests: Sequence[str]) -> pd.DataFrame:
    for column in tests:
        groups = results.groupby(["attack", "victim"], sort=False)[column]
        corrected = groups.transform(lambda values: pd.Series(holm(list(values)), index=values.index))
        results.insert(list(results.columns).index(column) + 1, f"{column}_holm", corrected)
    # Rows of an attack have nan for measures of other attacks, and None for their verdicts.
    for name in results.columns:
        if name.endswith("_inside"):
            results[name] = results[name].astype(object).where(results[name].notna(), None)
    return results


def _mean_over_victims(trials: Sequence[Trial], rows: Sequence[Row]) -> list[Trial]:
    """One trial per attack, defense and seed that all victims have, with the means of the measures that all have."""
    found = {trial.key: trial for trial in trials if not trial.failed}
    means = []
    for (attack, defense), victims in victims_of(rows).items():
        for seed in dict.fromkeys(trial.seed for trial in trials if (trial.attack, trial.defense) == (attack, defense)):
            group = [found[key] for victim in victims if (key := (attack, victim, defense, seed)) in found]
            if len(group) < len(victims) or len(victims) < 2:
                continue
            names = [name for name in group[0].measures if all(name in trial.measures for trial in group)]
            means.append(
                Trial(
                    *(attack, MEAN, defense, seed),
                    {name: _mean([trial.measures[name] for trial in group]) for name in names},
                    # A mean over several victims is no yes or no.
                    targets=sum(trial.targets or 1 for trial in group),
                    seconds=_mean([trial.seconds for trial in group]),
                    control=group[0].control,
                )
            )
    return means


def _targets(row: Row, groups: Mapping[Row, Sequence[Trial]]) -> int | None:
    """The number of targets that the rates of the row's attack and victim count over; the largest, if trials differ."""
    same = [trial for other, group in groups.items() if other[:2] == row[:2] for trial in group]
    return max((trial.targets for trial in same if trial.targets is not None), default=None)


def _values(trials: Mapping[int, Trial], measure: Measure) -> list[float]:
    return [trial.measures[measure.name] for trial in trials.values() if measure.name in trial.measures]


def _interval(values: list[float], measure: Measure, event: bool) -> Interval:
    if not values or not all(map(math.isfinite, values)):
        return Interval(_mean(values), math.nan, math.nan, len(values))
    if event:
        if odd := [value for value in values if value not in (0.0, 1.0)]:
            raise DataError(f"{measure.name} {odd[0]:g} is no yes (1) or no (0): declare the measure as a rate")
        return wilson(int(sum(values)), len(values))
    if measure.kind != "value":
        return mean_of_shares(values)
    if measure.unit == "epochs":
        # With a few seeds, whole numbers are often equal and then have no interval.
        return Interval(_mean(values), math.nan, math.nan, len(values))
    return _cut(mean_t(values), measure, 0.0)


def _cut(mean: Interval, measure: Measure, least: float) -> Interval:
    """The interval without impossible shares: those below ``least`` or above 1."""
    if measure.unit != "%" or math.isnan(mean.low):
        return mean
    return Interval(mean.estimate, max(least, mean.low), min(1.0, mean.high), mean.n)


def _pairs(ours: Mapping[int, Trial], theirs: Mapping[int, Trial], name: str) -> tuple[list[float], list[float]]:
    """A measure's values on the seeds that both have."""
    both = [
        (trial.measures[name], theirs[seed].measures[name])
        for seed, trial in ours.items()
        if seed in theirs and name in trial.measures and name in theirs[seed].measures
    ]
    return [one for one, _ in both], [other for _, other in both]


def _paired_p(ours: Mapping[int, Trial], theirs: Mapping[int, Trial], measure: Measure, targets: int | None) -> float:
    first, second = _pairs(ours, theirs, measure.name)
    # A single pair tells nothing, and would make Holm's correction of the others harsher.
    if len(first) < 2 or not all(map(math.isfinite, first + second)):
        return math.nan
    if counts_events(measure, targets):
        return mcnemar_exact([bool(value) for value in first], [bool(value) for value in second])
    return paired_permutation(first, second)


def _difference(ours: Mapping[int, Trial], theirs: Mapping[int, Trial], measure: Measure) -> Interval:
    """The paired difference, ours minus theirs, over the seeds that both have."""
    first, second = _pairs(ours, theirs, measure.name)
    differences = [one - other for one, other in zip(first, second, strict=True)]
    if differences and all(map(math.isfinite, differences)):
        return _cut(mean_t(differences), measure, -1.0)
    return Interval(_mean(differences), math.nan, math.nan, len(differences))


def looked(trials: Sequence[Trial]) -> bool:
    """Whether these trials of a row filter, or dropped something anyway."""
    return any(trial.found is not None and (trial.filters or trial.found.dropped) for trial in trials)


def _dropped(trials: Sequence[Trial]) -> dict[str, float]:
    """Means of the dropped shares over the seeds on which they are defined; nan for a row that did not look for
    poisons."""
    found = [trial.found for trial in trials if trial.found is not None]
    found = found if looked(trials) else []
    scores = {
        "poisons_found": [each.recall for each in found],
        "clean_dropped": [each.clean_loss for each in found],
        "precision": [each.precision for each in found],
        "matthews": [each.matthews for each in found],
    }
    return {name: _mean([value for value in values if not math.isnan(value)]) for name, values in scores.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
