"""PoisonSet, the result of an attack, and Goal, the labels that an attack on single images wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.data.image_range import check_images
from poisonlab.errors import DataError

KIND = "poison set"
_MOST_CLASSES = 1 << 31
_NAMED_CLASSES = 3
_GOAL = ("targets", "target_labels", "adversarial_labels", "untriggered")


@dataclass(frozen=True)
class Goal:
    """The goal of an attack on single images: each target shall get its adversarial label.

    Attributes:
        targets: (T, C, H, W) uint8 images to be misclassified; a backdoor's trigger is already on them.
        target_labels: (T,) int64, the true classes.
        adversarial_labels: (T,) int64, the class that the attacker wants each target to get.
        untriggered: (T, C, H, W) uint8, a backdoor's targets without the trigger, to count how many get the adversarial
            label anyway. None without a trigger.

    Raises:
        DataError: shapes or dtypes contradict each other, or a label is no class.
    """

    targets: Tensor
    target_labels: Tensor
    adversarial_labels: Tensor
    untriggered: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("targets", "untriggered"):
            images = getattr(self, name)
            if images is not None and (images.dtype != torch.uint8 or images.ndim != 4):
                raise DataError(
                    f"{name} of a goal must be (T, C, H, W) uint8, not {images.dtype} of {tuple(images.shape)}"
                )
        for name in ("target_labels", "adversarial_labels"):
            _check_integers(f"{name} of a goal", getattr(self, name))
        if self.targets.numel() == 0:
            raise DataError("a goal needs at least one target: an attack without targets has no goal")
        if not len(self.targets) == len(self.target_labels) == len(self.adversarial_labels):
            raise DataError(
                f"a goal of {len(self.targets)} targets needs as many true labels ({len(self.target_labels)}) and "
                f"adversarial labels ({len(self.adversarial_labels)})"
            )
        if self.untriggered is not None and self.untriggered.shape != self.targets.shape:
            raise DataError("the targets without trigger must be the same images as the targets")
        odd = self.adversarial_labels[(self.adversarial_labels < 0) | (self.adversarial_labels >= _MOST_CLASSES)]
        if len(odd):
            raise DataError(f"{int(odd[0])} is no class that poisons could aim at")

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True)
class PoisonSet:
    """Poisoned training examples and, if the attack has one, its goal.

    Attributes:
        indices: (P,) int64: the training row each poison replaces; -1 if it is appended to the training set.
        images: (P, C, H, W) uint8, as an attacker would ship them (float32 in [0, 1] only on request).
        labels: (P,) int64, as the victim sees them.
        base_images: (P, C, H, W) uint8, the images before poisoning.
        goal: the targets and their labels; None for an attack on the accuracy as a whole.
        diagnostics: the attack's own tensors (a loss per step and restart, ...).
        facts: JSON-like facts about how the set was made.

    Raises:
        DataError: shapes or dtypes contradict each other, or floats lie beyond [0, 1].
    """

    indices: Tensor
    images: Tensor
    labels: Tensor
    base_images: Tensor
    goal: Goal | None = None
    diagnostics: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.indices)
        if self.images.dtype not in (torch.uint8, torch.float32) or self.images.ndim != 4:
            raise DataError("poison images must be (P, C, H, W) uint8, or float32 in [0, 1]")
        check_images(self.images, "poison images")
        if self.images.numel() == 0 or not count == len(self.images) == len(self.labels) == len(self.base_images):
            raise DataError(
                f"a poison set needs as many indices ({count}) as images ({len(self.images)}), "
                f"labels ({len(self.labels)}) and bases ({len(self.base_images)}), and at least one"
            )
        if self.base_images.dtype != torch.uint8:
            raise DataError(f"base_images of a poison set must be uint8, not {self.base_images.dtype}")
        if self.base_images.shape != self.images.shape:
            raise DataError("poisons and bases need the same (C, H, W)")
        if self.goal is not None and self.goal.targets.shape[1:] != self.images.shape[1:]:
            raise DataError("poisons and targets need the same (C, H, W)")
        for name in ("indices", "labels"):
            _check_integers(f"{name} of a poison set", getattr(self, name))
        if int(self.indices.min()) < -1:
            raise DataError(f"index {int(self.indices.min())}: a poison replaces a training row, or is appended (-1)")
        replaced = self.indices[self.indices >= 0]
        if len(torch.unique(replaced)) != len(replaced):
            raise DataError("two poisons replace the same training row")

    def largest_change(self) -> float:
        """The largest change of any pixel from its base, in levels (units of 1/255)."""
        # In parts, because an attack may poison the whole training set.
        parts = zip(torch.split(self.images, 1000), torch.split(self.base_images, 1000), strict=True)
        return float(torch.stack([(_levels(images) - bases.float()).abs().max() for images, bases in parts]).max())

    def check_bound(self, eps: float) -> None:
        """Check the l-infinity bound of ``eps`` levels on the shipped images.

        Raises:
            DataError: a pixel changed by more.
        """
        tolerance = 0.0 if self.images.dtype == torch.uint8 else 1e-3
        # Written so that a NaN fails as well.
        if not self.largest_change() <= eps + tolerance:
            raise DataError(f"a poison changes a pixel by {self.largest_change():g} levels, more than eps {eps:g}")

    def classes(self, class_names: Sequence[str], clean_labels: Tensor) -> dict[str, str]:
        """The names of the classes that this set poisons and attacks.

        Args:
            class_names: K names.
            clean_labels: (N,) int64 of the training rows.

        Returns:
            ``base_class``, of the base images (an appended poison's own label); with a goal also ``true_class``, of the
            targets, and ``adversarial_class``, which the attacker wants. More than three classes are counted.
        """
        replaced = self.indices >= 0
        of = {"base_class": torch.where(replaced, clean_labels[self.indices.clamp(min=0)], self.labels)}
        if self.goal is not None:
            of |= {"true_class": self.goal.target_labels, "adversarial_class": self.goal.adversarial_labels}
        found = {}
        for name, labels in of.items():
            distinct = sorted(set(labels.tolist()))
            several = len(distinct) > _NAMED_CLASSES
            found[name] = f"{len(distinct)} classes" if several else " + ".join(class_names[each] for each in distinct)
        return found

    def check_change(self, clean_images: Tensor, clean_labels: Tensor) -> None:
        """Check that ``base_images`` are the examples that the poisons replace, and that a pixel or a label differs.

        Args:
            clean_images: (N, C, H, W) uint8, the training rows.
            clean_labels: (N,) int64 of the training rows.

        Raises:
            DataError: ``base_images`` are not the images that the poisons replace, or the poisons change nothing; an
                appended poison counts as a change.
        """
        replaced = self.indices >= 0
        if not torch.equal(self.base_images[replaced], clean_images[self.indices[replaced]]):
            raise DataError(
                "base_images of a poison set are not the training images of its indices: return images, labels and "
                "base_images in the order of indices"
            )
        same = bool(replaced.all()) and torch.equal(self.labels, clean_labels[self.indices])
        if same and self.largest_change() == 0:
            raise DataError(
                f"none of the {len(self.indices)} poisons changes a pixel or a label of the image that it replaces: "
                "raise eps, which counts in levels of 1/255, or the number of steps; of imported poisons check the path"
            )

    def save(self, path: str | Path) -> None:
        """Write the set as one safetensors file."""
        tensors = {name: getattr(self, name) for name in ("indices", "images", "labels", "base_images")}
        if self.goal is not None:
            wanted = {name: getattr(self.goal, name) for name in _GOAL}
            tensors |= {name: tensor for name, tensor in wanted.items() if tensor is not None}
        tensors |= {f"diagnostics.{name}": tensor for name, tensor in self.diagnostics.items()}
        write_tensors(Path(path), KIND, tensors, self.facts)

    @classmethod
    def load(cls, path: str | Path) -> PoisonSet:
        """Read a set.

        Raises:
            DataError: the file is missing, damaged, or not a poison set.
        """
        tensors, facts = read_tensors(Path(path), KIND)
        diagnostics = {
            name.removeprefix("diagnostics."): tensors.pop(name)
            for name in list(tensors)
            if name.startswith("diagnostics.")
        }
        wanted = {name: tensors.pop(name) for name in _GOAL if name in tensors}
        try:
            goal = Goal(**wanted) if wanted else None
            return cls(**tensors, goal=goal, diagnostics=diagnostics, facts=facts)
        except (TypeError, AttributeError) as error:
            raise DataError(f"{path} lacks parts of a poison set: make it again") from error


def _check_integers(name: str, numbers: Tensor) -> None:
    if numbers.dtype != torch.int64 or numbers.ndim != 1:
        raise DataError(f"{name} must be a list of int64, not {numbers.dtype} of {tuple(numbers.shape)}")


def _levels(images: Tensor) -> Tensor:
    return images.float() if images.dtype == torch.uint8 else images * 255
