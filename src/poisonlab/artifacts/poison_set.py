"""PoisonSet: what an attack delivers."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError

KIND = "poison set"
_MOST_CLASSES = 1 << 31


@dataclass(frozen=True)
class PoisonSet:
    """Poisoned training examples and the target they are meant for.

    Attributes:
        indices: (P,) int64: the training row each poison replaces; -1 is appended to the training set.
        images: (P, C, H, W) uint8, as an attacker would ship them (float32 in [0, 1] only on request).
        labels: (P,) int64, as the victim sees them.
        base_images: (P, C, H, W) uint8, the images before poisoning.
        targets: (T, C, H, W) uint8 test images to be misclassified; a backdoor's trigger is already on them.
        target_labels: (T,) int64, the true classes.
        adversarial_label: the class the attacker wants the targets to get.
        untriggered: (T, C, H, W) uint8, a backdoor's targets without the trigger: how many of them get the adversarial
            label anyway. None without a trigger.
        diagnostics: the attack's own tensors (a loss per step and restart, ...).
        facts: JSON-like facts about how the set was made.

    Raises:
        DataError: shapes or dtypes contradict each other.
    """

    indices: Tensor
    images: Tensor
    labels: Tensor
    base_images: Tensor
    targets: Tensor
    target_labels: Tensor
    adversarial_label: int
    untriggered: Tensor | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.images.dtype not in (torch.uint8, torch.float32) or self.images.ndim != 4:
            raise DataError("poison images must be (P, C, H, W) uint8, or float32 in [0, 1]")
        if self.images.numel() == 0 or not count == len(self.images) == len(self.labels) == len(self.base_images):
            raise DataError(
                f"a poison set needs as many indices ({count}) as images ({len(self.images)}), "
                f"labels ({len(self.labels)}) and bases ({len(self.base_images)}), and at least one"
            )
        if self.base_images.shape != self.images.shape or self.targets.shape[1:] != self.images.shape[1:]:
            raise DataError("poisons, bases and targets need the same (C, H, W)")
        if self.untriggered is not None and self.untriggered.shape != self.targets.shape:
            raise DataError("the targets without trigger must be the same images as the targets")
        if len(self.targets) == 0 or len(self.targets) != len(self.target_labels):
            raise DataError("a poison set needs at least one target, and one label for each")
        for name in ("indices", "labels", "target_labels"):
            numbers = getattr(self, name)
            if numbers.dtype != torch.int64 or numbers.ndim != 1:
                raise DataError(
                    f"{name} of a poison set must be a list of int64, not {numbers.dtype} of {tuple(numbers.shape)}"
                )
        for name in ("base_images", "targets", "untriggered"):
            if getattr(self, name) is not None and getattr(self, name).dtype != torch.uint8:
                raise DataError(f"{name} of a poison set must be uint8, not {getattr(self, name).dtype}")
        if not 0 <= self.adversarial_label < _MOST_CLASSES:
            raise DataError(f"{self.adversarial_label} is no class that poisons could aim at")
        if int(self.indices.min()) < -1:
            raise DataError(f"index {int(self.indices.min())}: a poison replaces a training row, or is appended (-1)")
        replaced = self.indices[self.indices >= 0]
        if len(set(replaced.tolist())) != len(replaced):
            raise DataError("two poisons replace the same training row")

    def largest_change(self) -> float:
        """The largest change of any pixel from its base, in levels (units of 1/255)."""
        images = self.images.float() if self.images.dtype == torch.uint8 else self.images * 255
        return float((images - self.base_images.float()).abs().max())

    def check_bound(self, eps: float) -> None:
        """Check the l-infinity bound of ``eps`` levels on the shipped images.

        Raises:
            DataError: a pixel changed by more.
        """
        tolerance = 0.0 if self.images.dtype == torch.uint8 else 1e-3
        # Written so that a NaN fails as well.
        if not self.largest_change() <= eps + tolerance:
            raise DataError(f"a poison changes a pixel by {self.largest_change():g} levels, more than eps {eps:g}")

    def save(self, path: Path) -> None:
        """Write the set as one safetensors file."""
        tensors = {
            "indices": self.indices,
            "images": self.images,
            "labels": self.labels,
            "base_images": self.base_images,
            "targets": self.targets,
            "target_labels": self.target_labels,
        }
        if self.untriggered is not None:
            tensors["untriggered"] = self.untriggered
        tensors |= {f"diagnostics.{name}": tensor for name, tensor in self.diagnostics.items()}
        write_tensors(path, KIND, tensors, {**self.facts, "adversarial_label": self.adversarial_label})

    @classmethod
    def load(cls, path: Path) -> PoisonSet:
        """Read a set.

        Raises:
            DataError: the file is missing, damaged, or not a poison set.
        """
        tensors, facts = read_tensors(path, KIND)
        diagnostics = {
            name.removeprefix("diagnostics."): tensors.pop(name)
            for name in list(tensors)
            if name.startswith("diagnostics.")
        }
        try:
            return cls(
                **tensors,
                adversarial_label=int(facts.pop("adversarial_label")),
                diagnostics=diagnostics,
                facts=facts,
            )
        except (TypeError, KeyError, ValueError, OverflowError, AttributeError) as error:
            raise DataError(f"{path} lacks parts of a poison set: make it again") from error
