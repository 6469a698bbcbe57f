"""Imported poisons in the training set: which rows they replace, and whether these are the rows they were made for."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from poisonlab.config.class_folders import natural, other_order
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, DataWarning
from poisonlab.interchange.imported_poisons import ImportedPoisons
from poisonlab.interchange.parts import to_levels
from poisonlab.randomness import generator

Signs = Literal["both", "plus"]

_OTHERS = 16
_CHUNK = 1000


@dataclass(frozen=True)
class Placed:
    """Poisons in the training set.

    Attributes:
        images: (P, C, H, W) uint8.
        labels: (P,) int64, as the victim sees them.
        indices: (P,) int64, the training row each replaces; -1 if it is appended.
        bases: (P, C, H, W) uint8, the replaced images; an appended poison is its own base.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    bases: Tensor


def place(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    rows: Tensor | Literal["appended"] | None,
    signs: Signs,
    allow_mismatch: bool,
) -> Placed:
    """Set poisons into the dataset's training set; see ``imported.complete``.

    Raises:
        DataError: rows or labels are missing or impossible, or the rows count another order of the images.
    """
    indices = _indices(imported, dataset, rows)
    labels = _labels(imported, indices, dataset)
    check_classes("label", labels, dataset.num_classes, imported.source)
    if imported.changes or bool((indices < 0).any()):
        _warn_of_image_folder(imported, dataset)
    images = _shipped(imported, indices, dataset, signs)
    if not allow_mismatch:
        _check_labels(imported, indices, labels, dataset)
    images, labels, indices = _poisoned(images, labels, indices, dataset, imported.source)
    bases = _bases(images, indices, dataset)
    if not allow_mismatch and not imported.changes:
        _check_rows(images, bases, indices, labels, dataset, imported.source)
    return Placed(images, labels, indices, bases)


def _text_order_differs(dataset: ImageDataset) -> bool:
    """Whether torchvision's ``ImageFolder`` may number the classes otherwise, as they seem to be folders in natural
    order."""
    names = dataset.class_names
    # Images of folders are sorted by class; images of other files seldom are.
    in_folders = bool((dataset.train_labels.diff() >= 0).all())
    return in_folders and list(names) == sorted(names, key=natural) and other_order(names, "natural") is not None


def _cures(dataset: ImageDataset) -> str:
    """The cures for rows that count another order of the images, except ``allow_mismatch``."""
    text = ", set class_order: text in dataset if it was torchvision's ImageFolder" * _text_order_differs(dataset)
    return f"use the dataset they were made for, say with rows which rows they mean{text}"


def _warn_of_image_folder(imported: ImportedPoisons, dataset: ImageDataset) -> None:
    """Issue a ``DataWarning`` if changes or appended poisons may number classes as ``ImageFolder`` does.

    Their pixels do not show it, and classes of one size have the same labels in either order."""
    if _text_order_differs(dataset):
        what = "changes" if imported.changes else "labels of appended poisons"
        warnings.warn(
            f"{imported.source}: {what} do not tell the order of the classes, and torchvision's ImageFolder numbers "
            "these otherwise: set class_order: text in dataset if they were made with it",
            DataWarning,
            stacklevel=4,
        )


def _indices(imported: ImportedPoisons, dataset: ImageDataset, rows: Tensor | str | None) -> Tensor:
    """The training row that each poison replaces, (P,) int64; -1 if it is appended."""
    source, count, total = imported.source, len(imported.images), len(dataset.train_images)
    if isinstance(rows, str):
        if imported.indices is not None:
            raise DataError(f"{source} says which rows its poisons replace: leave out rows: appended")
        return torch.full((count,), -1, dtype=torch.int64)
    if rows is not None:
        return _rows_of_positions(imported, rows, total)
    if imported.indices is not None:
        highest = int(imported.indices.max())
        if highest >= total:
            raise DataError(
                f"{source}: index {highest} is beyond the dataset's {total} training rows: use its own dataset"
            )
        return imported.indices
    if count == total or (imported.changes and count == dataset.num_classes):
        return torch.arange(total)
    raise DataError(
        f"{source} does not say which of the dataset's {total} training rows its {count} poisons replace: give rows, a "
        "file of these, or rows: appended, if they are added to the training set"
    )


def _rows_of_positions(imported: ImportedPoisons, rows: Tensor, total: int) -> Tensor:
    source, count = imported.source, len(imported.images)
    if len(rows) == 0 or int(rows.min()) < 0 or int(rows.max()) >= total or len(set(rows.tolist())) < len(rows):
        raise DataError(f"{source}: rows must be different training rows among the dataset's {total}")
    if imported.indices is None:
        if len(rows) != count:
            raise DataError(f"{source}: rows names {len(rows)} training rows for {count} poisons: name one for each")
        return rows
    lowest, highest = int(imported.indices.min()), int(imported.indices.max())
    if lowest < 0 or highest >= len(rows):
        odd = lowest if lowest < 0 else highest
        raise DataError(f"{source}: position {odd} is none of the {len(rows)} rows that rows names: correct rows")
    return rows[imported.indices]


def _labels(imported: ImportedPoisons, indices: Tensor, dataset: ImageDataset) -> Tensor:
    if imported.labels is not None:
        if len(imported.labels) != len(indices):
            raise DataError(
                f"{imported.source}: changes of classes are in the order of the classes, and poisons keep the labels "
                "of their rows: leave out the labels"
            )
        return imported.labels
    if bool((indices < 0).any()):
        raise DataError(
            f"{imported.source}: appended poisons replace no training row, so they need labels of their own"
        )
    return dataset.train_labels[indices]


def _shipped(imported: ImportedPoisons, indices: Tensor, dataset: ImageDataset, signs: Signs) -> Tensor:
    """The poisons in uint8, with changes added to the images of their rows; in chunks, to save memory."""
    if signs == "plus" and not imported.changes:
        raise DataError(f"{imported.source} holds images, and no changes: leave out signs")
    if not imported.changes:
        return imported.images
    if bool((indices < 0).any()):
        raise DataError(f"{imported.source} holds changes of images, which cannot be appended: give rows")
    per_class = len(imported.images) != len(indices)
    changed = []
    for place in torch.split(torch.arange(len(indices)), _CHUNK):
        own = imported.images[dataset.train_labels[indices[place]] if per_class else place].double()
        own = own.clamp(min=0) if signs == "plus" else own
        changed.append(to_levels((dataset.train_images[indices[place]].double() / 255 + own).clamp(0, 1)))
    return torch.cat(changed)


def _poisoned(
    images: Tensor, labels: Tensor, indices: Tensor, dataset: ImageDataset, source: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and rows of the poisons: those of a whole training set without its unchanged images."""
    if len(indices) != len(dataset.train_images) or bool((indices < 0).any()):
        return images, labels, indices
    changed = (labels != dataset.train_labels[indices]) | (images != dataset.train_images[indices]).flatten(1).any(1)
    if not bool(changed.any()):
        raise DataError(f"{source} leaves the dataset's training set unchanged: check that it is the right file")
    return images[changed], labels[changed], indices[changed]


def _bases(images: Tensor, indices: Tensor, dataset: ImageDataset) -> Tensor:
    replaced = indices >= 0
    bases = images.clone()
    bases[replaced] = dataset.train_images[indices[replaced]]
    return bases


def _check_labels(imported: ImportedPoisons, indices: Tensor, labels: Tensor, dataset: ImageDataset) -> None:
    """Check by the labels of the file that its rows count this order of the training images.

    Raises:
        DataError: a true class differs, or most labels of changes do, which keep the labels of their images.
    """
    known, most = imported.original_labels, 0
    if known is None and imported.changes and imported.labels is not None:
        known, most = labels, len(labels) // 2
    if known is None:
        return
    differ = int((known != dataset.train_labels[indices]).sum())
    if differ > most:
        raise DataError(
            f"{imported.source}: {differ} of {len(known)} poisons are of another class than the images that they "
            "replace: their rows count another order of the images or another dataset; "
            f"{_cures(dataset)}, or set allow_mismatch: true"
        )


def _check_rows(
    images: Tensor, bases: Tensor, indices: Tensor, labels: Tensor, dataset: ImageDataset, source: str
) -> None:
    """Check that the rows count this order of the training images.

    A poison is a changed version of its base. So by the mean absolute change, it is nearer to its base than to each of
    ``_OTHERS`` random images. If the rows counted another order, its base would be a random image, and the nearest one
    in one of ``_OTHERS`` + 1 cases. OpenCV reads images with their channels reversed (BGR); such poisons are much
    nearer to their bases once they are reversed.

    Raises:
        DataError: more than half of the poisons are nearer to another image, or seem to be BGR.
    """
    replaced = torch.nonzero(indices >= 0).flatten()
    if len(replaced) == 0:
        return
    drawn = torch.randperm(len(dataset.train_images), generator=generator("cpu", 0, "imported", "others"))[:_OTHERS]
    others = dataset.train_images[drawn].float()
    changes, unlike, bgr = [], 0, 0
    for rows in torch.split(replaced, 1000):
        poisons, own = images[rows].float(), bases[rows].float()
        change = (poisons - own).abs()
        nearest = torch.stack([(poisons - other).abs().flatten(1).mean(1) for other in others]).amin(0)
        unlike += int((change.flatten(1).mean(1) > nearest).sum())
        changes.append((float(change.max()), float(change.mean()) * len(rows)))
        swapped = (poisons.flip(1) - own).abs()
        bgr += int((2 * swapped.flatten(1).mean(1) < change.flatten(1).mean(1)).sum())
    if 2 * bgr > len(replaced):
        raise DataError(
            f"{source}: {bgr} of {len(replaced)} poisons are nearer to the images that they replace if their channels "
            "are reversed: save them as RGB and not as BGR, or set allow_mismatch: true if they are meant to look so"
        )
    if unlike == 0:
        return
    largest, mean = max(most for most, _ in changes), sum(total for _, total in changes) / len(replaced)
    relabelled = int((labels[replaced] != dataset.train_labels[indices[replaced]]).sum())
    found = (
        f"{source}: {unlike} of {len(replaced)} poisons are nearer to other training images than to those that they "
        f"replace, pixels change by up to {largest:g} levels ({mean:.0f} on average), and {relabelled} labels differ"
    )
    if 2 * unlike > len(replaced):
        raise DataError(
            f"{found}: their rows count another order of the images or another dataset; {_cures(dataset)}, or set "
            "allow_mismatch: true if they are meant to look so"
        )
    warnings.warn(found, DataWarning, stacklevel=4)


def check_classes(name: str, labels: Tensor, classes: int, source: str) -> None:
    """Check that labels lie in [0, ``classes``); messages call them ``name``.

    Raises:
        DataError: a label lies outside.
    """
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        odd = lowest if lowest < 0 else highest
        raise DataError(f"{source}: {name} {odd} is none of the dataset's classes 0 ... {classes - 1}")
