"""The goal of imported poisons: targets (their own, a row of a split, or photos) and the class wanted for each."""

from __future__ import annotations

import hashlib
import warnings
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, DataWarning
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.parts import plain_labels
from poisonlab.interchange.placing import check_classes

Split = Literal["test", "train"]


def with_targets(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    target_index: int | None,
    split: Split,
    photos: Tensor | None,
    allow_mismatch: bool,
) -> ImportedPoisons:
    """The import with targets: its own, a row of a split, or photos. Test rows add true classes and untriggered images.

    Raises:
        DataError: there is no target, targets are of several kinds, or their rows count another order of the images.
    """
    source = imported.source
    if imported.targets is not None:
        if target_index is not None or photos is not None:
            given = "target_files" if target_index is None else "target_index"
            raise DataError(f"{source} has targets of its own: leave out {given}")
        return imported if imported.target_rows is None else _of_rows(imported, dataset, allow_mismatch)
    if photos is not None:
        return replace(imported, targets=photos)
    if target_index is None:
        raise DataError(
            f"{source} has no target: give target_index, its row in the test split, target_files, or targeted: false "
            "if the poisons are to spoil the accuracy as a whole"
        )
    images, labels = (
        (dataset.test_images, dataset.test_labels) if split == "test" else (dataset.train_images, dataset.train_labels)
    )
    if not 0 <= target_index < len(images):
        raise DataError(f"{source}: target_index {target_index} is not among the dataset's {len(images)} {split} rows")
    if split == "train":
        warnings.warn(
            f"{source}: the target is training image {target_index}: victims that train on it learn its true class, so "
            "leave it out of their fine-tuning",
            DataWarning,
            stacklevel=3,
        )
    place = slice(target_index, target_index + 1)
    return replace(imported, targets=images[place], target_labels=labels[place])


def _of_rows(imported: ImportedPoisons, dataset: ImageDataset, allow_mismatch: bool) -> ImportedPoisons:
    """Adds to targets from test rows their true classes and, if they bear a trigger, the images without it."""
    source, rows, targets = imported.source, imported.target_rows, imported.targets
    assert rows is not None
    assert targets is not None
    if int(rows.max()) >= len(dataset.test_images):
        raise DataError(
            f"{source}: target {int(rows.max())} is beyond the dataset's {len(dataset.test_images)} test rows"
        )
    plain, classes = dataset.test_images[rows], dataset.test_labels[rows]
    # A release that rounds differs by one level from a release that truncates.
    alike = bool(((targets.int() - plain.int()).abs() <= 1).all())
    known = imported.target_labels
    fits = alike if known is None else torch.equal(known, classes)
    if not fits and not allow_mismatch:
        what = "unlike the test images" if known is None else "of another class than the test images"
        raise DataError(
            f"{source}: targets are {what} of their rows, which count another order of the images or another dataset: "
            "use the dataset they were made for, or set allow_mismatch: true"
        )
    return replace(
        imported,
        target_labels=classes if known is None else known,
        unpatched_targets=None if alike else plain,
    )


def goal_of(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    labels: Tensor,
    indices: Tensor,
    target_label: int | None,
    adversarial_label: int | None,
    all_to_all: bool,
) -> Goal:
    """The goal of an import with targets; see ``imported.complete``.

    Args:
        imported: with targets.
        dataset: the dataset.
        labels: (P,) int64, of the poisons.
        indices: (P,) int64, the rows they replace.
        target_label: the true class of the targets, if the import does not say it.
        adversarial_label: the class the attacker wants, if the import does not say it.
        all_to_all: whether the attacker wants the class after the true class of each target.

    Raises:
        DataError: a label is missing, impossible or contradicts another, or there is nothing to attack.
    """
    source = imported.source
    targets = imported.targets
    assert targets is not None
    target_labels = _target_labels(imported, len(targets), target_label)
    check_classes("target label", target_labels, dataset.num_classes, source)
    relabelled = _relabelled_as_next(labels, indices, dataset)
    if all_to_all:
        if adversarial_label is not None or imported.adversarial_labels is not None:
            raise DataError(f"{source}: all_to_all and an adversarial label contradict each other: leave one out")
        if odd := int((~relabelled).sum()):
            raise DataError(
                f"{source}: {odd} of {len(relabelled)} poisons that replace a training image do not have the label of "
                "the class after its own: leave out all_to_all, and give adversarial_label"
            )
        aims = (target_labels + 1) % dataset.num_classes
    else:
        next_one = len(relabelled) > 0 and bool(relabelled.all())
        aims = _adversarial_labels(imported, labels, adversarial_label, next_one).expand(len(targets)).clone()
    check_classes("adversarial label", aims, dataset.num_classes, source)
    if len(labels) and not bool(torch.isin(labels, aims).any()):
        warnings.warn(
            f"{source}: no poison has the label of an adversarial class (theirs begin with {int(labels[0])}, the first "
            f"adversarial class is {int(aims[0])}), so that victims learn nothing of it: check whether labels count "
            "from 0",
            DataWarning,
            stacklevel=2,
        )
    return _attackable(Goal(targets, target_labels, aims, imported.unpatched_targets), dataset, source)


def are_test_images(goal: Goal, dataset: ImageDataset, source: str) -> bool:
    """Whether a target, without its trigger, has the pixels of a test image, whose label is its true class.

    Raises:
        DataError: no test image of these pixels has the target's label.
    """
    plain = goal.targets if goal.untriggered is None else goal.untriggered
    # Digests are compared, because a backdoor may have thousands of targets.
    rows: dict[bytes, list[int]] = {_digest(image): [] for image in plain}
    for row, image in enumerate(dataset.test_images):
        if (same := rows.get(_digest(image))) is not None:
            same.append(row)
    for image, label in zip(plain, goal.target_labels.tolist(), strict=True):
        found = rows[_digest(image)]
        if found and label not in dataset.test_labels[found].tolist():
            true, names = int(dataset.test_labels[found[0]]), dataset.class_names
            raise DataError(
                f"{source}: a target is test image {found[0]} of class {true} ({names[true]}), but is labelled {label} "
                f"({names[label]}): check target_label and whether labels count from 0, or set allow_mismatch: true"
            )
    return any(rows.values())


def _digest(image: Tensor) -> bytes:
    return hashlib.sha256(image.numpy().tobytes()).digest()


def warn_of_next_labels(labels: Tensor, indices: Tensor, dataset: ImageDataset, source: str) -> None:
    """Issue a ``DataWarning`` if all poisons replace one class and have the next label, as if labels counted from 1.

    Args:
        labels: (P,) int64, of the poisons.
        indices: (P,) int64, the rows they replace.
        dataset: the dataset.
        source: file or folder of the poisons, for the message.
    """
    replaced = indices >= 0
    classes = dataset.train_labels[indices[replaced]]
    if len(classes) == 0 or bool((classes != classes[0]).any()) or bool((labels[replaced] != classes + 1).any()):
        return
    first = int(classes[0])
    warnings.warn(
        f"{source}: all poisons replace images of class {first} and are labelled {first + 1}: check whether labels "
        "count from 0, and give adversarial_label if this is intended",
        DataWarning,
        stacklevel=3,
    )


def _relabelled_as_next(labels: Tensor, indices: Tensor, dataset: ImageDataset) -> Tensor:
    """(R,) bool: whether each poison that replaces an image has the label after the image's class."""
    replaced = indices >= 0
    return labels[replaced] == (dataset.train_labels[indices[replaced]] + 1) % dataset.num_classes


def _target_labels(imported: ImportedPoisons, count: int, given: int | None) -> Tensor:
    known = imported.target_labels
    if known is None:
        if given is None:
            raise DataError(f"{imported.source} does not say the true class of its targets: give target_label")
        return torch.full((count,), given, dtype=torch.int64)
    if given is not None and bool((known != given).any()):
        raise DataError(
            f"{imported.source}: target_label {given} contradicts the known class {int(known[0])}: leave it out"
        )
    return known


def _adversarial_labels(imported: ImportedPoisons, labels: Tensor, given: int | None, next_one: bool) -> Tensor:
    """(1,) or (T,) int64."""
    known = imported.adversarial_labels
    if known is not None:
        if given is not None and bool((known != given).any()):
            own = plain_labels(known)
            raise DataError(f"{imported.source}: adversarial_label {given} contradicts its own {own}: leave it out")
        return known
    if given is not None:
        return torch.tensor([given])
    found: Tensor = torch.unique(labels)
    if len(found) > 1:
        cure = (
            "each is the class after that of the image it replaces, so set all_to_all: true"
            if next_one
            else "give adversarial_label, the class that targets are to be taken for"
        )
        raise DataError(f"{imported.source}: its poisons have {len(found)} different labels: {cure}")
    return found


def _attackable(goal: Goal, dataset: ImageDataset, source: str) -> Goal:
    """The goal without targets that already are of their adversarial class.

    Raises:
        DataError: no target is left.
    """
    kept = goal.adversarial_labels != goal.target_labels
    left_out = len(kept) - int(kept.sum())
    if left_out == 0:
        return goal
    first = int(goal.adversarial_labels[~kept][0])
    named = f"class {first} ({dataset.class_names[first]})"
    if left_out == len(kept):
        raise DataError(
            f"{source}: {'the target is' if len(kept) == 1 else f'all {len(kept)} targets are'} of {named}, which is "
            "the adversarial class: there is nothing to attack; check the targets, their labels and adversarial_label"
        )
    warnings.warn(
        f"{source}: {left_out} of {len(kept)} targets are of their adversarial class, as {named}, and left out: no "
        "attack can succeed on them",
        DataWarning,
        stacklevel=3,
    )
    untriggered = None if goal.untriggered is None else goal.untriggered[kept]
    return Goal(goal.targets[kept], goal.target_labels[kept], goal.adversarial_labels[kept], untriggered)
