"""Settings of the programs that make tables, and the trials that tables are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from poisonlab.config.measures import REPORTED, Measure
from poisonlab.config.types import Name, Settings
from poisonlab.errors import DataError
from poisonlab.evaluation.trials import Key, Row, Trial, at_first_victim, read_trials

MEAN = "mean"
"""Name of the victim in rows with the mean over all victims."""
_NAMED = 8


class Line(Settings):
    """One row of the study with one victim, and the trials that belong to it."""

    attack: Name
    victim: Name
    defense: Name
    control: bool
    seeds: tuple[int, ...]
    settings: str
    """Digest that the row's trials must carry."""
    called: Name
    """Name of the defense in the published tables."""
    filters: bool = False
    """Whether the row filters; then 0 is shown if it dropped nothing."""

    @property
    def row(self) -> Row:
        """Attack, victim and defense."""
        return self.attack, self.victim, self.defense


class AttackMeasures(Settings):
    """The measures of an attack's outcome."""

    attack: Name
    measures: Annotated[tuple[Measure, ...], Field(min_length=1)]
    """The main one first."""


Measures = Mapping[str, Sequence[Measure]]
"""Each attack's measures, the main one first."""


class Claim(Settings):
    """The lines of a published table that an attack of the study corresponds to."""

    attack: Name
    table: int
    row: str | None = None
    """Name of these lines' row; all rows if not given."""


class Shown(Settings):
    """Settings of every table."""

    description: str
    scale: tuple[str, ...] = ()
    """The scale of the runs, a sentence each."""
    lines: tuple[Line, ...]
    measures: tuple[AttackMeasures, ...] = ()
    """The measures of every attack of the lines."""
    compare: tuple[Name, ...] = ()
    """The rows that the others are tested against, on the same seeds; the first is the undefended one."""
    mean_over_victims: bool = False
    """Whether attacks with several victims get rows with the unweighted mean over them, too."""
    only_successes: bool = False
    """Whether tables also show results over only the seeds on which the attack succeeds against the first of
    ``compare``."""

    @property
    def by_attack(self) -> dict[str, tuple[Measure, ...]]:
        return {each.attack: each.measures for each in self.measures}


def first_victims(rows: Sequence[Row]) -> dict[str, str]:
    """The first victim of each attack."""
    return {attack: victim for attack, victim, _ in reversed(rows)}


def trials_of(lines: Sequence[Line], files: Sequence[Path]) -> Iterator[tuple[Path, Line, Trial]]:
    """Each trial of a cell of the lines, whatever its settings, with its file and line.

    Raises:
        DataError: a file is damaged (see ``read_trials``).
    """
    wanted = {(*line.row, seed): line for line in lines for seed in line.seeds}
    first = first_victims([line.row for line in lines])
    for path in files:
        for trial in (at_first_victim(each, first) for each in read_trials(path)):
            if (line := wanted.get(trial.key)) is not None:
                yield path, line, trial


def cells_of(lines: Sequence[Line]) -> list[Key]:
    """Every cell of the lines, in their order."""
    return [(*line.row, seed) for line in lines for seed in line.seeds]


def choose_trials(stage: Shown, files: Sequence[Path]) -> tuple[list[Trial], list[str], list[str]]:
    """The trials of the study's cells in the study's order, where the first file counts; reasons for refused rows; and
    a note about contradictions between files, if any.

    Raises:
        DataError: a file is damaged (see ``read_trials``), or a number is impossible for its measure.
    """
    chosen: dict[Key, Trial] = {}
    refused: dict[str, list[int]] = {}
    contradicted: dict[Key, None] = {}
    for path, line, trial in trials_of(stage.lines, files):
        if trial.settings != line.settings:
            # The victim is named only if the attack has several.
            several = len({each.victim for each in stage.lines if each.attack == trial.attack}) > 1
            row = "/".join(trial.key[:3] if several else (trial.attack, trial.defense))
            refused.setdefault(f"{row} of {path}", []).append(trial.seed)
        elif trial.key not in chosen:
            _check_numbers(trial, stage.by_attack[trial.attack], path)
            chosen[trial.key] = replace(trial, control=line.control, filters=line.filters)
        elif _differ(trial, chosen[trial.key]):
            contradicted[trial.key] = None
    reasons = [f"{rows} (seeds {', '.join(map(str, seeds))})" for rows, seeds in refused.items()]
    return [chosen[key] for key in cells_of(stage.lines) if key in chosen], reasons, _contradictions(list(contradicted))


def _differ(one: Trial, other: Trial) -> bool:
    """Whether two trials of one victim have different outcomes; measures that only one of them has do not count."""
    shared = one.measures.keys() & other.measures.keys()
    return bool(one.failed) != bool(other.failed) or any(one.measures[name] != other.measures[name] for name in shared)


def _contradictions(keys: Sequence[Key]) -> list[str]:
    if not keys:
        return []
    each = [f"{attack}/{victim}/{defense}, seed {seed}" for attack, victim, defense, seed in keys[:_NAMED]]
    more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    count = "1 trial stands" if len(keys) == 1 else f"{len(keys)} trials stand"
    return [f"{count} in several files with other outcomes; the first file counts: {'; '.join(each)}{more}."]


def _check_numbers(trial: Trial, measures: Sequence[Measure], path: Path) -> None:
    for measure in (*measures, *REPORTED):
        value = trial.measures.get(measure.name, 0.0)
        share = measure.kind in ("rate", "probability") or measure.unit == "%"
        event = measure in measures and counts_events(measure, trial.targets)
        if (share and value > 1) or (event and value not in (0.0, 1.0)):
            what = "neither 1 nor 0" if event else "not between 0 and 1"
            who = f"{'/'.join(trial.key[:3])}, seed {trial.seed}"
            raise DataError(f"{path}: {measure.name} of {who} is {value:g}, {what}: correct it")


def counts_events(measure: Measure, targets: int | None) -> bool:
    """Whether each victim's outcome is a yes or no: as the measure declares, unless the number of targets is known."""
    return measure.kind == "event" if targets is None else measure.kind in ("event", "rate") and targets == 1


def refusal(name: str) -> str:
    """The note about a row whose trials were refused."""
    return f"Refused, because made with other settings than this study's: {name}."


def diverged(trials: Sequence[Trial]) -> list[str]:
    """The note about victims without an outcome."""
    failed = [trial for trial in trials if trial.failed]
    if not failed:
        return []
    each = [f"{'/'.join(trial.key[:3])}, seed {trial.seed} ({trial.failed})" for trial in failed[:_NAMED]]
    more = f" and {len(failed) - _NAMED} more (see the trials)" if len(failed) > _NAMED else ""
    return [f"Diverged, and left out of all numbers: {len(failed)} of {len(trials)} victims: {'; '.join(each)}{more}."]


def missing(lines: Sequence[Line], trials: Sequence[Trial]) -> list[str]:
    """The note about the study's cells that nobody has run yet."""
    have = {trial.key for trial in trials}
    cells = cells_of(lines)
    gone = [cell for cell in cells if cell not in have]
    return [f"Not run yet: {len(gone)} of {len(cells)} victims."] if gone else []


def unmatched(trials: Sequence[Trial], undefended: str | None) -> list[str]:
    """The note about rows with seeds that the undefended row of their attack and victim lacks, if it was run: an equal
    n does not show that their poisons are others."""
    seeds: dict[Row, set[int]] = {}
    for trial in trials:
        if not trial.failed:
            seeds.setdefault(trial.key[:3], set()).add(trial.seed)
    others = {row: len(own - seeds.get((*row[:2], str(undefended)), own)) for row, own in seeds.items()}
    each = [f"{'/'.join(row)} ({count} of {len(seeds[row])})" for row, count in others.items() if count]
    if not each:
        return []
    more = f" and {len(each) - _NAMED} more" if len(each) > _NAMED else ""
    return [
        f"Seeds that '{undefended}' lacks: {', '.join(each[:_NAMED])}{more}. Their poisons are others, which p and "
        "paired changes leave out."
    ]


def victims_of(rows: Sequence[Row]) -> dict[tuple[str, str], list[str]]:
    """The victims of each attack and defense."""
    victims: dict[tuple[str, str], list[str]] = {}
    for attack, victim, defense in rows:
        victims.setdefault((attack, defense), []).append(victim)
    return victims


def with_means(rows: Sequence[Row]) -> list[Row]:
    """The rows, with the means after the rows of each attack that has several victims."""
    result: list[Row] = []
    victims = victims_of(rows)
    for attack in dict.fromkeys(row[0] for row in rows):
        own = [row for row in rows if row[0] == attack]
        means = [(attack, MEAN, defense) for defense in dict.fromkeys(row[2] for row in own)]
        several = len({row[1] for row in own}) > 1
        result += own + [mean for mean in means if several and len(victims[mean[0], mean[2]]) > 1]
    return result
