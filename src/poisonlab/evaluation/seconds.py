"""Seconds and memory of finished jobs, from run cards and committed trials, and estimates for planned jobs from
them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from poisonlab.errors import DataError
from poisonlab.evaluation.trials import read_trials
from poisonlab.files import read_sealed

SAME = "jobs of the same settings"
OTHER = "jobs of the same methods and networks with other settings"
ANOTHER_STUDY = "jobs of the same settings in another study, whose dataset may differ"
_WITH = "(with friendly noise, filters and the network that a detector looked at)"
TRIALS = f"committed trials of the same settings {_WITH}"
OTHER_TRIALS = f"committed trials of the same attack and row with other settings {_WITH}"
"""Kinds of fit between a measurement and a planned job; ``Seconds.expected`` tries them from the best to the worst."""

_NAMES = ("attack", "victim", "defense")
_COUNTERS = ("seed", "member")
_CARD = ".card.json"


@dataclass(frozen=True)
class Measured:
    """One finished job.

    Attributes:
        settings: its ``section.key=value`` strings; for a committed trial, only the names of attack, victim and row.
        device: model and number of threads.
        host_mib: peak memory in MiB; nan if unknown.
        outcome: for a committed trial, the digest of all settings that its outcome depends on.
        diverged: whether its training diverged, so that it left no result.
    """

    stage: str
    study: str
    settings: tuple[str, ...]
    device: str
    seconds: float
    host_mib: float = math.nan
    outcome: str | None = None
    diverged: bool = False


@dataclass(frozen=True)
class Expected:
    """Median seconds of ``count`` finished jobs, and how well these fit."""

    seconds: float
    count: int
    fit: str


class Seconds:
    """Estimates of how long jobs of a study take on one device, from finished jobs."""

    def __init__(self, ran: Iterable[Measured], study: str) -> None:
        self._found: dict[tuple[str, str, frozenset[str]], list[float]] = defaultdict(list)
        for job in ran:
            # A diverged job ended early.
            if job.diverged:
                continue
            if job.outcome is not None:
                keys = [(TRIALS, frozenset((job.outcome,))), (OTHER_TRIALS, names(job.settings))]
            elif job.study == study:
                keys = [(SAME, sizes(job.settings)), (OTHER, methods(job.settings))]
            else:
                keys = [(ANOTHER_STUDY, sizes(job.settings))]
            for fit, key in keys:
                self._found[fit, job.stage, key].append(job.seconds)

    def expected(self, stage: str, settings: Sequence[str], outcome: Sequence[str] = ()) -> Expected | None:
        """The expected time of a job from the best fit; None if no similar job has run.

        Args:
            outcome: the digest of all settings that its outcome depends on, if it has an outcome.
        """
        asked, own = names(settings), sizes(settings)
        # Trials of one victim per attack do not name it.
        unnamed = frozenset(string for string in asked if not string.startswith("victim="))
        keys = [(SAME, own), (TRIALS, frozenset(outcome)), (OTHER, methods(own)), (ANOTHER_STUDY, own)]
        for fit, key in (*keys, (OTHER_TRIALS, asked), (OTHER_TRIALS, unnamed)):
            if found := self._found.get((fit, stage, key)):
                return Expected(median(found), len(found), fit)
        return None


def sizes(settings: Iterable[str]) -> frozenset[str]:
    """The settings that decide how long a job takes: all except names, seed and member."""
    return frozenset(string for string in settings if _key(string) not in (*_NAMES, *_COUNTERS))


def methods(settings: Iterable[str]) -> frozenset[str]:
    """The methods and architectures among a job's settings."""
    return frozenset(
        string for string in settings if f".{_key(string)}".endswith((".method", ".model.name", ".model.model"))
    )


def names(settings: Iterable[str]) -> frozenset[str]:
    """The names of attack, victim and row among a job's settings."""
    return frozenset(string for string in settings if _key(string) in _NAMES)


def _key(string: str) -> str:
    return string.partition("=")[0]


def read_cards(results: Path, stages: Mapping[str, str]) -> Iterator[Measured]:
    """The jobs of every study with run cards below ``results``.

    Args:
        stages: the stage of each folder: ``{"victims": "train"}``.

    Raises:
        DataError: a card is damaged.
    """
    for folder, stage in stages.items():
        for path in sorted((results / folder).rglob(f"*{_CARD}")):
            try:
                card = read_sealed(path)
            except DataError:
                if path.exists():
                    raise
                # The card's job has started again since the folder was listed.
                continue
            yield _of_card(stage, path.relative_to(results / folder).parts[0].removesuffix(_CARD), card, path)


def _of_card(stage: str, study: str, card: Any, path: Path) -> Measured:
    try:
        return Measured(
            stage,
            study,
            tuple(map(str, card["spec"])),
            _device(card["device"], card["threads"]),
            float(card["seconds"]),
            float(card["peak_host_mib"]),
            diverged="failed" in card,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} is no run card: delete it and run the workflow again") from error


def read_committed(folder: Path, study: str, stages: Sequence[str]) -> Iterator[Measured]:
    """The trials of a study in ``folder/*/<study>-trials.csv``, as jobs of each of ``stages``.

    Raises:
        DataError: a file is missing or damaged (see ``read_trials``).
    """
    for path in sorted(folder.glob(f"*/{study}-trials.csv")):
        for trial in read_trials(path):
            named = tuple(f'{name}="{value}"' for name, value in zip(_NAMES, trial.key, strict=False) if value)
            model, threads = (trial.provenance.get(name, "") for name in ("device", "threads"))
            if threads.isdecimal() and not math.isnan(trial.seconds) and not trial.failed:
                for stage in stages:
                    yield Measured(stage, study, named, _device(model, threads), trial.seconds, outcome=trial.settings)


def _device(model: str, threads: Any) -> str:
    return f"{model}, {threads} thread{'' if int(threads) == 1 else 's'}"
