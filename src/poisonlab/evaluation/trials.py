"""Trials: the outcome of one victim each, as one line of a CSV file that can be kept, committed and merged."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.detection import Detection
from poisonlab.files import write_text

PROVENANCE = ("device", "threads", "torch", "python", "commit", "finished", "peak_host_mib", "peak_device_mib")
"""Fields of a run card that are kept."""

_COUNTS = ("poisons_dropped", "poisons_kept", "clean_dropped", "clean_kept")
_WHO = ("attack", "victim", "defense", "seed", "settings", "targets")
CLASSES = ("base_class", "true_class", "adversarial_class")
"""The classes that the poisons of a seed involve (see ``PoisonSet.classes``)."""
_REST = ("seconds", *_COUNTS, *PROVENANCE, "failed", "check")
COLUMNS = (*_WHO, *CLASSES, *_REST)
"""Columns of every file; any other column is a measure. Older files lack the classes."""
_MEASURE = re.compile(r"[a-z][a-z0-9_]{0,59}")

_FORMER_MEASURES = (
    *("success", "adversarial_confidence", "accuracy", "untriggered_success", "privacy_epsilon", "false_alarms"),
)
_FORMER = ("attack", "defense", "seed", "settings", *_FORMER_MEASURES, *_REST)
_OLDEST = _FORMER[:-2]
"""The fixed columns of files from before victims had names, and from before lines had checks."""

Row = tuple[str, str, str]
"""Attack, victim and defense."""
Key = tuple[str, str, str, int]
"""Attack, victim, defense and seed."""


@dataclass(frozen=True)
class Trial:
    """One victim's outcome.

    Raises:
        TypeError: a value that must be a number is not.
        ValueError: a number is impossible, such as a negative measure.
    """

    attack: str
    victim: str
    """Its name in the study; "" in older files, where it is the attack's first."""
    defense: str
    seed: int
    measures: Mapping[str, float] = field(default_factory=dict)
    """Measures by name, from 0 up; shares in [0, 1]. Measures that were not taken are absent."""
    targets: int | None = None
    """Number of targets, or triggered images, that the attack's rates count over; None without a goal or if unknown."""
    seconds: float = math.nan
    """Cost of the row for this seed; nan if unknown."""
    control: bool = False
    """Trained on clean data; takes no part in the tests between defenses."""
    filters: bool = False
    """Whether the row filters, so that dropping nothing is a result, too. Like ``control``, not in the files."""
    found: Detection | None = None
    """What filters and defenses had dropped by the end of training; None for a row that trains nothing."""
    settings: str = ""
    """Digest of all settings that the outcome depends on, except the seed."""
    failed: str = ""
    """Why the training diverged, if it did; then there are no measures."""
    classes: Mapping[str, str] = field(default_factory=dict)
    """Classes of the poisons, by the names in ``CLASSES``; unknown or inapplicable ones are absent."""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """Fields of its run card, by the names in ``PROVENANCE``; unknown ones are absent."""

    def __post_init__(self) -> None:
        """Check the numbers, which come from files, and drop measures that are nan."""
        for name, value in {**self.measures, "seconds": self.seconds}.items():
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise TypeError(f"{name} as a number")
            # The comparison also works for integers that are too large for math.isnan.
            if value == value and value < 0:
                raise ValueError(f"{name} is negative")
        if self.seconds == math.inf:
            raise ValueError("seconds are infinite")
        if self.targets is not None and (type(self.targets) is not int or self.targets < 1):
            raise ValueError("targets is no number of images")
        known = {name: float(value) for name, value in self.measures.items() if value == value}
        object.__setattr__(self, "measures", known)

    @property
    def key(self) -> Key:
        return self.attack, self.victim, self.defense, self.seed


def at_first_victim(trial: Trial, first: Mapping[str, str]) -> Trial:
    """The trial, with the victim's name filled in.

    Args:
        first: the first victim of each attack, which older files leave out.
    """
    return trial if trial.victim else replace(trial, victim=first.get(trial.attack, ""))


def write_trials(path: Path, trials: Sequence[Trial]) -> None:
    """Write one line per trial; atomically."""
    measures = tuple(dict.fromkeys(name for trial in trials for name in trial.measures))
    columns = (*_WHO, *CLASSES, *measures, *_REST)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for trial in trials:
        counts = {} if trial.found is None else {name: getattr(trial.found, name) for name in _COUNTS}
        line: dict[str, object] = {
            **{name: getattr(trial, name) for name in (*_WHO, "failed")},
            **{name: trial.classes.get(name, "") for name in CLASSES},
            **{name: repr(value) for name, value in trial.measures.items()},
            "seconds": "" if math.isnan(trial.seconds) else repr(float(trial.seconds)),
            **counts,
            **trial.provenance,
        }
        writer.writerow({**line, "check": _check(line, columns)})
    write_text(path, text.getvalue())


def _check(line: Mapping[str, object], columns: Sequence[str]) -> str:
    """Digest of a line, which protects the tables from a flipped digit or a wrong column title."""
    fields = ["" if (value := line.get(name)) is None else str(value) for name in columns[:-1]]
    titles = [] if tuple(columns) == _FORMER else columns[:-1]
    return hashlib.sha256("\0".join([*titles, *fields]).encode()).hexdigest()[:12]


def read_trials(path: Path) -> list[Trial]:
    """Read a file of ``write_trials``; it does not say whether a row is a control.

    Raises:
        DataError: the file is missing or is no such CSV, a line is damaged, or a trial occurs twice; names the line.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise DataError(f"{path}: is a pipe or a device: write the trials to a file")
    try:
        # Spreadsheets put a mark at the beginning of UTF-8 files.
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            columns = tuple(reader.fieldnames or ())
            measures = _measures(columns, path)
            trials = []
            for line in reader:
                try:
                    trials.append(_trial(line, columns, measures))
                except (TypeError, ValueError) as error:
                    raise DamagedError(path, f"line {reader.line_num} is not a trial: {error}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DamagedError(path, f"no UTF-8 CSV file: {error}") from error
    seen: set[Key] = set()
    for trial in trials:
        if trial.key in seen:
            raise DataError(f"{path}: {'/'.join(map(str, trial.key))} occurs twice: keep one")
        seen.add(trial.key)
    return trials


def _measures(columns: tuple[str, ...], path: Path) -> tuple[str, ...]:
    """The columns that are measures."""
    if columns in (_FORMER, _OLDEST):
        return _FORMER_MEASURES
    measures = tuple(name for name in columns if name not in COLUMNS)
    known = [(*_WHO, *classes, *measures, *_REST) for classes in (CLASSES, ())]
    if columns not in known or len(set(measures)) < len(measures):
        first = ",".join((*_WHO, *CLASSES))
        raise DamagedError(
            path, f"it holds no trials: its columns must be {first}, then measures, then {','.join(_REST)}"
        )
    if bad := [name for name in measures if not _MEASURE.fullmatch(name)]:
        raise DamagedError(path, f"it holds no trials: {bad[0][:60]!r} is no name of a measure")
    return measures


def _trial(line: Mapping[str, str], columns: Sequence[str], measures: Sequence[str]) -> Trial:
    """The trial of a line.

    Raises:
        ValueError, TypeError: the line is no trial; says why.
    """
    if None in line or None in line.values():
        raise ValueError(f"it has not {len(columns)} fields")
    numbers = {name: float(line[name]) for name in measures if line[name]}
    counts = {name: int(line[name]) for name in _COUNTS if line[name]}
    found = Detection(**counts) if counts else None
    trial = Trial(
        line["attack"],
        line.get("victim", ""),
        line["defense"],
        int(line["seed"]),
        numbers,
        targets=int(line["targets"]) if line.get("targets") else None,
        seconds=float(line["seconds"] or "nan"),
        found=found,
        settings=line["settings"],
        failed=line.get("failed", ""),
        classes={name: line[name] for name in CLASSES if line.get(name)},
        provenance={name: line[name] for name in PROVENANCE if line[name]},
    )
    # A line written by hand may have no check.
    if line.get("check", "") not in ("", _check(line, columns)):
        raise ValueError("it differs from its check")
    return trial
