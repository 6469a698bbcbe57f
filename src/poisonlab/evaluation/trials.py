"""Trials: one victim's outcome each, as one line of a CSV file that can be kept, committed and merged."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.detection import Detection

PROVENANCE = ("device", "threads", "torch", "python", "commit", "finished", "peak_host_mib", "peak_device_mib")
"""What is kept of a run card."""

_COUNTS = ("poisons_dropped", "poisons_kept", "clean_dropped", "clean_kept")
_SHARES = ("success", "adversarial_confidence", "accuracy", "untriggered_success", "false_alarms")
_NUMBERS = (
    *("success", "adversarial_confidence", "accuracy", "untriggered_success", "privacy_epsilon", "false_alarms"),
    "seconds",
)
_FORMER_COLUMNS = ("attack", "defense", "seed", "settings", *_NUMBERS, *_COUNTS, *PROVENANCE)
"""Those of files that were written before there were ``failed`` and ``check``."""
COLUMNS = (*_FORMER_COLUMNS, "failed", "check")


@dataclass(frozen=True)
class Trial:
    """One victim's outcome: success and accuracy in [0, 1], and what the defense cost in seconds."""

    attack: str
    defense: str
    seed: int
    success: float
    adversarial_confidence: float
    accuracy: float
    seconds: float
    control: bool = False
    """Trained on clean data; takes no part in the tests between defenses."""
    untriggered_success: float = math.nan
    """Of an attack with a trigger: the success on the same images without it. Success is then a rate over images."""
    found: Detection | None = None
    """What filters and defenses had dropped by the end of training; None for a row that trains nothing."""
    privacy_epsilon: float = math.nan
    """Of differentially private training, at delta = 1 / examples."""
    false_alarms: float = math.nan
    """Share of clean test images that a detector turns away."""
    settings: str = ""
    """Digest of all settings that the outcome depends on, but for the seed."""
    failed: str = ""
    """Why there is no outcome, if its training diverged; all numbers but the seconds are nan then."""

    def __post_init__(self) -> None:
        """Check the numbers, which come from files.

        Raises:
            TypeError: one is no number.
            ValueError: one cannot be; nan stands for what was not measured.
        """
        for name in _NUMBERS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} as a number")
            highest = 1 if name in _SHARES else math.inf
            # In integers, which can be too large for math.isnan, too.
            if value == value and not 0 <= value <= highest:
                raise ValueError(f"{name} is not between 0 and {highest}")

    @property
    def triggered(self) -> bool:
        return not math.isnan(self.untriggered_success)

    @property
    def key(self) -> tuple[str, str, int]:
        """Attack, defense and seed."""
        return self.attack, self.defense, self.seed


def write_trials(path: Path, trials: Sequence[Trial], cards: Sequence[Mapping[str, object]]) -> None:
    """Write one line per trial, with what its run card (in the same order) says of where it ran; atomically."""
    # Here, because Snakemake reads trials and should not wait for torch.
    from poisonlab.files import write_text

    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for trial, card in zip(trials, cards, strict=True):
        numbers = {name: _written(getattr(trial, name)) for name in _NUMBERS}
        counts = {} if trial.found is None else {name: getattr(trial.found, name) for name in _COUNTS}
        where = {name: card.get(name) for name in PROVENANCE}
        who = {"attack": trial.attack, "defense": trial.defense, "seed": trial.seed, "settings": trial.settings}
        line = {**who, **numbers, **counts, **where, "failed": trial.failed}
        writer.writerow({**line, "check": _check(line)})
    write_text(path, text.getvalue())


def _written(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))


def _check(line: Mapping[str, object]) -> str:
    """Digest of a line, so that a flipped digit does not get into the tables."""
    fields = ["" if (value := line.get(name)) is None else str(value) for name in COLUMNS[:-1]]
    return hashlib.sha256("\0".join(fields).encode()).hexdigest()[:12]


def read_trials(path: Path) -> list[Trial]:
    """Read what ``write_trials`` wrote; whether a row is a control is not in the file.

    Raises:
        DataError: the file is missing or no such CSV, a line is damaged, or a trial stands in it twice; names the line.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is a pipe or a device: write the trials to a file")
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            if tuple(reader.fieldnames or ()) not in (COLUMNS, _FORMER_COLUMNS):
                raise DamagedError(path, f"it holds no trials: its columns must be {','.join(COLUMNS)}")
            trials = []
            for line in reader:
                try:
                    trials.append(_trial(line))
                except (TypeError, ValueError) as error:
                    raise DamagedError(path, f"line {reader.line_num} is not a trial: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(path, f"no UTF-8 CSV file: {error}") from error
    seen: set[tuple[str, str, int]] = set()
    for trial in trials:
        if trial.key in seen:
            raise DataError(f"{path}: {'/'.join(map(str, trial.key))} stands in it twice: keep one")
        seen.add(trial.key)
    return trials


def _trial(line: Mapping[str, str]) -> Trial:
    """The trial of a line.

    Raises:
        ValueError, TypeError: it is none; says why.
    """
    if None in line or None in line.values():
        raise ValueError(f"it has not {len(line) - (None in line)} fields")
    numbers = {name: float(line[name] or "nan") for name in _NUMBERS}
    counts = {name: int(line[name]) for name in _COUNTS if line[name]}
    found = Detection(**counts) if counts else None
    trial = Trial(line["attack"], line["defense"], int(line["seed"]), math.nan, math.nan, math.nan, math.nan)
    # A line that somebody wrote by hand may have no check.
    if line.get("check", "") not in ("", _check(line)):
        raise ValueError("it differs from its check")
    more = {"settings": line["settings"], "failed": line.get("failed", "")}
    return replace(trial, found=found, **more, **numbers)  # type: ignore[arg-type]
