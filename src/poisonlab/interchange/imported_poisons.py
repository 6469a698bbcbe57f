"""The content of a file of poisons, before the dataset completes it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.errors import DataError
from poisonlab.interchange.parts import to_levels


@dataclass(frozen=True)
class ImportedPoisons:
    """Poisons as read from a file; an attribute is None if the file does not say it.

    Attributes:
        images: (P, C, H, W) uint8; changes are float32 in [-1, 1].
        labels: (P,) int64, as the victim sees them.
        indices: (P,) int64: the training row each poison replaces; -1 if it is appended to the training set.
        changes: whether ``images`` are added to the images of their rows instead of replacing them.
        label_names: P names or numbers of classes, in place of ``labels``.
        original_labels: (P,) int64, the classes of the replaced images, if the file has them.
        targets: (T, C, H, W) uint8; a backdoor's patch is already on them.
        target_labels: (T,) int64, the true classes.
        unpatched_targets: (T, C, H, W) uint8: the targets without the patch, if a patch came beside them.
        target_rows: (T,) int64, the test rows of the targets, if the file has them.
        adversarial_labels: (T,) int64, the class the attacker wants each target to get; (1,) stands for all targets.
        adversarial_names: T names or numbers of classes, in place of ``adversarial_labels``.
        source: file or folder of the poisons, for messages.

    Raises:
        DataError: shapes, dtypes or values contradict each other.
    """

    images: Tensor
    labels: Tensor | None
    indices: Tensor | None
    changes: bool = False
    label_names: tuple[str, ...] | None = None
    original_labels: Tensor | None = None
    targets: Tensor | None = None
    target_labels: Tensor | None = None
    unpatched_targets: Tensor | None = None
    target_rows: Tensor | None = None
    adversarial_labels: Tensor | None = None
    adversarial_names: tuple[str, ...] | None = None
    source: str = "the import"

    def __post_init__(self) -> None:
        self._check_images()
        self._check_numbers("labels", self.labels, len(self.images))
        self._check_numbers("indices", self.indices, len(self.images))
        self._check_numbers("original labels", self.original_labels, len(self.images))
        self._check_duplicates()
        if self.targets is not None:
            self._check_targets("targets", self.targets, len(self.targets))
        if self.unpatched_targets is not None:
            self._check_targets("unpatched targets", self.unpatched_targets, self._target_count())
        self._check_numbers("target labels", self.target_labels, self._target_count())
        self._check_numbers("target rows", self.target_rows, self._target_count())
        if self.adversarial_labels is not None and len(self.adversarial_labels) != 1:
            self._check_numbers("adversarial labels", self.adversarial_labels, self._target_count())

    def _target_count(self) -> int:
        return 0 if self.targets is None else len(self.targets)

    def _check_images(self) -> None:
        images, kind = self.images, torch.float32 if self.changes else torch.uint8
        if images.ndim != 4 or images.numel() == 0 or images.dtype != kind:
            raise DataError(
                f"{self.source}: poisons must be (P, C, H, W) uint8, or changes in float32, and at least one"
            )
        # Written so that a NaN fails as well.
        if self.changes and not (float(images.min()) >= -1 and float(images.max()) <= 1):
            raise DataError(f"{self.source}: changes of images must lie in [-1, 1]: undo their normalisation")

    def _check_targets(self, name: str, images: Tensor, count: int) -> None:
        if images.dtype != torch.uint8 or images.ndim != 4 or len(images) == 0 or len(images) != count:
            raise DataError(f"{self.source}: {name} must be (T, C, H, W) uint8, and at least one")
        if images.shape[1:] != self.images.shape[1:]:
            raise DataError(
                f"{self.source}: {name} are {tuple(images.shape[1:])} but poisons are "
                f"{tuple(self.images.shape[1:])}: bring them to one size"
            )

    def _check_numbers(self, name: str, numbers: Tensor | None, count: int) -> None:
        if numbers is None:
            return
        if numbers.dtype != torch.int64 or numbers.shape != (count,):
            raise DataError(
                f"{self.source}: {name} must be {count} integers, one per image, not {tuple(numbers.shape)} of "
                f"{str(numbers.dtype).removeprefix('torch.')}"
            )
        lowest = -1 if name == "indices" else 0
        if count and int(numbers.min()) < lowest:
            raise DataError(f"{self.source}: {name} hold {int(numbers.min())}: the lowest possible is {lowest}")

    def _check_duplicates(self) -> None:
        if self.indices is None:
            return
        rows = self.indices[self.indices >= 0].sort().values
        twice = rows[1:][rows[1:] == rows[:-1]]
        if len(twice) > 0:
            raise DataError(f"{self.source}: two poisons replace training row {int(twice[0])}: keep one")


def from_poison_set(poisons: PoisonSet, source: str) -> ImportedPoisons:
    """A poison set of poisonlab as an import, in uint8, without its base images, diagnostics and facts."""
    goal = poisons.goal
    return ImportedPoisons(
        images=to_levels(poisons.images),
        labels=poisons.labels,
        indices=poisons.indices,
        targets=None if goal is None else goal.targets,
        target_labels=None if goal is None else goal.target_labels,
        unpatched_targets=None if goal is None else goal.untriggered,
        adversarial_labels=None if goal is None else goal.adversarial_labels,
        source=source,
    )
