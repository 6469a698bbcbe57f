"""Builds the dataset that the settings ask for from two whole splits, as read from files."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.config.data.source import FileDataset
from poisonlab.data.dataset import ImageDataset, channel_statistics, empty_classes
from poisonlab.errors import DataError


def assemble(
    train_images: Tensor,
    train_labels: Tensor,
    test_images: Tensor,
    test_labels: Tensor,
    class_names: tuple[str, ...] | None,
    settings: FileDataset,
    where: str,
) -> ImageDataset:
    """Apply ``train_limit``, ``test_limit``, ``mean`` and ``std`` to splits read from files.

    Args:
        train_images: (N, C, H, W) uint8.
        train_labels: (N,) int64.
        test_images: (M, C, H, W) uint8.
        test_labels: (M,) int64.
        class_names: K names; None numbers the classes "0", "1", ... up to the highest label.
        settings: the limits, the seed of the draw and the normalisation.
        where: the file or folder of the splits, for messages.

    Returns:
        The dataset. A limited split keeps its order; its class sizes differ by at most one image. If the settings give
        no ``mean`` or ``std``, it is measured on the kept training images.

    Raises:
        DataError: a split is empty, labels lie out of range, a limit cannot be met with balanced classes, or
            images, labels and statistics contradict each other.
    """
    if len(train_labels) == 0 or len(test_labels) == 0:
        empty = "train" if len(train_labels) == 0 else "test"
        raise DataError(f"{where}: the {empty} split is empty: add images to it")
    for split, images in (("train", train_images), ("test", test_images)):
        if images.numel() == 0:
            raise DataError(
                f"{where}: the {split} images have no pixels, shape {tuple(images.shape[1:])}: write them again"
            )
    if class_names is None:
        class_names = _numbered_classes(train_labels, test_labels, where)
    if twice := [name for name, count in Counter(class_names).items() if count > 1]:
        raise DataError(f"{where}: {twice[0]!r} is the name of two classes: correct the class names")
    for split, labels in (("train", train_labels), ("test", test_labels)):
        lowest, highest = int(labels.min()), int(labels.max())
        if lowest < 0 or highest >= len(class_names):
            raise DataError(
                f"{where}: {split} labels lie in [{lowest}, {highest}] but there are "
                f"{len(class_names)} classes: "
                f"renumber the labels 0 ... {len(class_names) - 1} or correct the class names"
            )
    present = torch.bincount(train_labels, minlength=len(class_names))
    if bool((present == 0).any()):
        raise DataError(f"{where}: {empty_classes(present, class_names)}")
    if settings.train_limit is not None and settings.train_limit < len(class_names):
        raise DataError(
            f"{where}: train_limit {settings.train_limit} leaves some of the {len(class_names)} classes without a "
            f"training image: raise it to at least {len(class_names)}"
        )
    if settings.train_limit is not None:
        rows = _balanced_rows(train_labels, class_names, settings.train_limit, settings.subset_seed, 0, where)
        train_images, train_labels = train_images[rows], train_labels[rows]
    if settings.test_limit is not None:
        rows = _balanced_rows(test_labels, class_names, settings.test_limit, settings.subset_seed, 1, where)
        test_images, test_labels = test_images[rows], test_labels[rows]
    mean, std = settings.mean, settings.std
    if mean is None or std is None:
        measured_mean, measured_std = channel_statistics(train_images)
        mean = measured_mean if mean is None else mean
        std = measured_std if std is None else std
    try:
        return ImageDataset(train_images, train_labels, test_images, test_labels, class_names, mean, std)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error


def _numbered_classes(train_labels: Tensor, test_labels: Tensor, where: str) -> tuple[str, ...]:
    lowest = int(min(train_labels.min(), test_labels.min()))
    highest = int(max(train_labels.max(), test_labels.max()))
    # A stray label such as 2**40 would otherwise become 2**40 class names.
    if lowest < 0 or highest >= len(train_labels):
        raise DataError(
            f"{where}: labels lie in [{lowest}, {highest}] with {len(train_labels)} training images: "
            "renumber the classes 0, 1, 2, ..."
        )
    return tuple(str(label) for label in range(highest + 1))


def _balanced_rows(
    labels: Tensor, class_names: tuple[str, ...], limit: int, seed: int, split: int, where: str
) -> Tensor:
    """Ascending positions of ``limit`` random images, equally many of each class, give or take one."""
    name = ("train", "test")[split]
    if limit > len(labels):
        raise DataError(
            f"{where}: {name}_limit is {limit} but the {name} split has {len(labels)} images: "
            f"lower {name}_limit or remove it"
        )
    counts = np.bincount(labels.numpy(), minlength=len(class_names))
    each, extra = divmod(limit, len(class_names))
    scarce = int(counts.argmin())
    roomy = np.flatnonzero(counts > each)
    if counts[scarce] < each or len(roomy) < extra:
        largest = int(counts[scarce]) * len(class_names) + int((counts > counts[scarce]).sum())
        raise DataError(
            f"{where}: {name}_limit {limit} cannot be met with balanced classes, {name} class "
            f"'{class_names[scarce]}' has only {counts[scarce]} images: "
            f"lower {name}_limit to at most {largest}"
        )
    rng = np.random.default_rng([seed, split])
    wanted = np.full(len(class_names), each)
    wanted[rng.choice(roomy, size=extra, replace=False)] += 1
    drawn: list[NDArray[np.int64]] = [
        rng.choice(np.flatnonzero(labels.numpy() == label), size=size, replace=False)
        for label, size in enumerate(wanted)
    ]
    return torch.from_numpy(np.sort(np.concatenate(drawn)))
