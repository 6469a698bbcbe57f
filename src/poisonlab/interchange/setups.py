"""The public poisoning benchmark's setups: pickled lists of target and base indices, one experiment each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from poisonlab.errors import DataError
from poisonlab.interchange import parts
from poisonlab.interchange.allowed_pickle import load


@dataclass(frozen=True)
class Setup:
    """One of the benchmark's experiments.

    Attributes:
        target_class: the target's true class.
        target_index: its row in the test split.
        base_class: the class of the poisons, and the one the attacker wants.
        base_indices: (P,) int64 training rows to poison.
    """

    target_class: int
    target_index: int
    base_class: int
    base_indices: Tensor


def read_setups(path: Path) -> list[Setup]:
    """Read one of the benchmark's files of setups; no code in it is run.

    Raises:
        DataError: the file is missing, damaged, hostile, or not a list of setups.
    """
    found = load(path)
    if not isinstance(found, list | tuple) or not found:
        raise DataError(f"{path} is not a list of setups: check that it is one of the benchmark's poison_setups")
    return [_setup(entry, f"{path}: setup {place}") for place, entry in enumerate(found)]


def _setup(entry: Any, where: str) -> Setup:
    keys = ("target class", "target index", "base class", "base indices")
    if not isinstance(entry, dict) or not all(key in entry for key in keys):
        raise DataError(f"{where} is not a dict with {', '.join(repr(key) for key in keys)}")
    target_class, target_index, base_class = (parts.label(entry[key], f"{where}: {key}") for key in keys[:3])
    base_indices = parts.indices(entry["base indices"], f"{where}: base indices")
    if len(base_indices) == 0 or int(base_indices.min()) < 0:
        raise DataError(f"{where}: base indices must be training rows 0, 1, 2, ..., and at least one")
    return Setup(target_class, target_index, base_class, base_indices)
