"""Checkpoints: the state of a training or crafting run, which after an interruption ends in the same bits."""

from __future__ import annotations

import glob
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.optim import Optimizer

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.runtime.cadence import Cadence

KIND = "checkpoint"


@dataclass
class Checkpoint:
    """Where a run saves its state, at most every ``interval`` seconds.

    Attributes:
        path: the file; removed by ``clear`` when the run has ended.
        fingerprint: digest of everything the run depends on; a checkpoint of another run is ignored.
        interval: seconds between two saves.
    """

    path: Path
    fingerprint: str
    interval: float = 120.0
    _cadence: Cadence = field(init=False)

    def __post_init__(self) -> None:
        self._cadence = Cadence(self.interval)

    def due(self) -> bool:
        """Whether it is time for a save."""
        return self._cadence.due()

    def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Write atomically. If writing fails, as on a full disk, the previous state stays and the run continues with a
        warning: hours of training are worth more than a save."""
        try:
            write_tensors(self.path, KIND, tensors, {**facts, "fingerprint": self.fingerprint})
        except PoisonlabError as error:
            print(f"warning: {error}; the training goes on without this save", file=sys.stderr)
        self._cadence.saved()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """The state of the last save; None if there is none, it is damaged, or it belongs to another run."""
        try:
            tensors, facts = read_tensors(self.path, KIND)
        except DataError:
            return None
        return (tensors, facts) if facts.pop("fingerprint", None) == self.fingerprint else None

    def part(self, name: str) -> Checkpoint:
        """The checkpoint of a run within this run; ``clear`` removes both."""
        place = self.path.with_name(f"{self.path.stem}.{name}{self.path.suffix}")
        return Checkpoint(place, f"{self.fingerprint} {name}", self.interval)

    def clear(self) -> None:
        """Remove the file and those of its parts."""
        for path in (self.path, *self.path.parent.glob(f"{glob.escape(self.path.stem)}.*{self.path.suffix}")):
            path.unlink(missing_ok=True)


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimizer_state(optimizer: Optimizer) -> dict[str, Tensor]:
    """Adam's state of each parameter, by name, without the learning rates."""
    remembered = optimizer.state_dict()["state"]
    return {
        f"optimizer.{place}.{name}": value for place, values in remembered.items() for name, value in values.items()
    }


def restore_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Set the state that ``optimizer_state`` returned; other tensors are ignored."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, place, entry = name.split(".")
            state.setdefault(int(place), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
