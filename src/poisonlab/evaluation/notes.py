"""The notes below tables: what each number is, and how it was compared."""

from __future__ import annotations

import math
from collections.abc import Sequence

from poisonlab.config.measures import REPORTED, Measure
from poisonlab.evaluation.choosing import Shown, counts_events
from poisonlab.evaluation.findings import LEVEL, named
from poisonlab.evaluation.results import further_probabilities
from poisonlab.evaluation.trials import Row, Trial

_DROPPED = (
    "Poisons found, clean dropped, precision, MCC (Matthews correlation): what filters and training-time defenses "
    "dropped by the end of training, against what was poisoned; means over seeds."
)
_MEAN = (
    "Victim 'mean': the unweighted mean over all victims, seed by seed, and then mean and interval over seeds; "
    "seeds that a victim lacks are left out."
)
_MEAN_OF_EVENTS = " Its shares of yes and no have Gaffke's interval, and are tested by flipping signs of differences."
_EVENT, _RATE, _VALUE = (
    "share of the seeds with Wilson's interval",
    "mean over seeds with Gaffke's interval, which holds for any distribution on [0, 100] %",
    "mean over seeds with Student's t interval, which equal values do not have",
)


def method_notes(stage: Shown, trials: Sequence[Trial]) -> list[str]:
    """Notes on each measure of the stage's attacks, its comparison, and anything else that the trials need."""
    of_measures = _methods(stage, trials)
    notes = [_measure_note(measure, methods) for measure, methods in of_measures.items()]
    if tested := _tested(stage, trials):
        rows = " and ".join(f"'{name}'" for name in stage.compare)
        notes.append(
            f"p: paired test of the attack's first measure against {rows} on the same seeds (exact McNemar for yes or "
            "no, otherwise by flipping signs of differences), Holm-corrected over the rows of the attack and victim."
        )
        further = dict.fromkeys(one.called for own in stage.by_attack.values() for one in further_probabilities(own))
        notes += [f"p of a change of {called}: by flipping signs, with the same correction." for called in further]
        if any(measure.kind == "value" for own in stage.by_attack.values() for measure in own):
            notes.append(
                "A change of a value has Student's 95 % interval of the paired differences, cut to 100 points each way."
            )
        notes += _too_few(stage, tested)
    controls = dict.fromkeys(line.defense for line in stage.lines if line.control)
    notes += [f"'{name}' is a control: its victims are trained on clean data." for name in controls]
    if stage.mean_over_victims:
        notes.append(_MEAN + (_MEAN_OF_EVENTS if any(_EVENT in methods for methods in of_measures.values()) else ""))
    notes += [_DROPPED] if any(trial.found and trial.found.dropped for trial in trials) else []
    measured = {name for trial in trials for name in trial.measures}
    return notes + [f"{each.label}: {each.meaning}; mean over seeds." for each in REPORTED if each.name in measured]


def _tested(stage: Shown, trials: Sequence[Trial]) -> list[tuple[str, list[int]]]:
    """For each row of ``compare`` of each attack and victim: the attack, and the seeds shared by each tested row."""
    seeds: dict[Row, set[int]] = {}
    for trial in trials:
        if not trial.failed and not trial.control:
            seeds.setdefault(trial.key[:3], set()).add(trial.seed)
    found = []
    for attack, victim in dict.fromkeys((line.attack, line.victim) for line in stage.lines):
        own = {row[2]: each for row, each in seeds.items() if row[:2] == (attack, victim)}
        for other in stage.compare:
            pairs = [len(each & own.get(other, set())) for row, each in own.items() if row != other]
            if several := [count for count in pairs if count > 1]:
                found.append((attack, several))
    return found


def _too_few(stage: Shown, tested: Sequence[tuple[str, list[int]]]) -> list[str]:
    """Notes on tests that cannot be significant whatever the outcome, and on how many seeds they would need.

    With n pairs, no test's p is below 2^(1 - n), and Holm's correction multiplies the smallest of k rows by k.
    """
    found: dict[tuple[int, int], list[str]] = {}
    for attack, pairs in tested:
        if len(pairs) * 2.0 ** (1 - max(pairs)) > LEVEL:
            found.setdefault((max(pairs), len(pairs)), []).append(attack)
    attacks = {line.attack for line in stage.lines}
    notes = []
    for (count, rows), names in found.items():
        least = min(1.0, rows * 2.0 ** (1 - count))
        enough = 1 + math.ceil(math.log2(rows / LEVEL))
        whose = "" if attacks == set(names) else f" ({named(list(dict.fromkeys(names)))})"
        many = "1 row" if rows == 1 else f"{rows} rows"
        notes.append(
            f"With {count} seeds and {many} no corrected p can be below {least:.3f}{whose}: {enough} seeds are the "
            f"fewest with which one can be below {LEVEL:g}."
        )
    return notes


def _methods(stage: Shown, trials: Sequence[Trial]) -> dict[Measure, list[str]]:
    """The measures of all attacks, and how each is averaged over seeds. A table may hold attacks with one target and
    with many."""
    found: dict[Measure, list[str]] = {}
    for each in stage.measures:
        targets = max((trial.targets or 0 for trial in trials if trial.attack == each.attack), default=0) or None
        for measure in each.measures:
            method = _EVENT if counts_events(measure, targets) else _RATE
            if measure.kind == "value":
                method = {"%": f"{_VALUE}, cut to [0, 100] %", "epochs": "mean over seeds", "": _VALUE}[measure.unit]
            if method not in found.setdefault(measure, []):
                found[measure].append(method)
    return found


def _measure_note(measure: Measure, methods: Sequence[str]) -> str:
    return f"{measure.label}: {measure.meaning + '; ' if measure.meaning else ''}{', or '.join(methods)}."
