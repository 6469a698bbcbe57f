"""The in-memory form that every data source delivers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.config.validation import Validation
from poisonlab.data.image_range import check_layout
from poisonlab.errors import DataError, SettingsError


@dataclass(frozen=True)
class ImageDataset:
    """A labelled image classification dataset, held in memory as 8-bit pixels.

    Attributes:
        train_images: (N, C, H, W) uint8.
        train_labels: (N,) int64 in [0, K).
        test_images: (M, C, H, W) uint8.
        test_labels: (M,) int64 in [0, K).
        class_names: K names; the label is the position.
        mean: per-channel mean of the pixels scaled to [0, 1], C values.
        std: per-channel standard deviation of the pixels scaled to [0, 1], C values.
        validation: how to choose the training images that no network is trained on. They stay in ``train_images``, so
            that rows keep their numbers.

    Raises:
        DataError: shapes, dtypes or labels contradict each other.
    """

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Validation | None = None

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images: Tensor = getattr(self, f"{split}_images")
            labels: Tensor = getattr(self, f"{split}_labels")
            _check_split(split, images, labels, len(self.class_names))
        if self.train_images.shape[1:] != self.test_images.shape[1:]:
            raise DataError(
                f"train images are {tuple(self.train_images.shape[1:])} but test images are "
                f"{tuple(self.test_images.shape[1:])}: both splits need the same (C, H, W)"
            )
        counts = torch.bincount(self.train_labels, minlength=self.num_classes)
        if bool((counts == 0).any()):
            raise DataError(empty_classes(counts, self.class_names))
        channels = self.train_images.shape[1]
        if len(self.mean) != channels or len(self.std) != channels:
            raise DataError(f"mean and std need {channels} values, one per channel")
        if self.num_classes < 2:
            raise DataError("there is only one class: a classifier needs at least two")
        # Written so that a NaN fails as well.
        if not all(value > 0 for value in self.std):
            raise DataError("std must be positive in every channel: is a channel constant?")
        check_statistics(self.mean, self.std)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def class_number(self, named: int | str, what: str) -> int:
        """The label of a class that is given by its name or number.

        Args:
            named: a text is a name, even if it consists of digits.
            what: the setting that names the class, for messages.

        Raises:
            SettingsError: there is no such class, or the number is the name of another class.
        """
        names = self.class_names
        if isinstance(named, str):
            if names.count(named) != 1:
                known = ", ".join(map(repr, names[:20])) + (", ..." if len(names) > 20 else "")
                found = "is none" if named not in names else "is more than one"
                raise SettingsError(f"{what} is {named!r}, which {found} of the dataset's classes {known}")
            return names.index(named)
        text = str(named)
        if text in names and names.index(text) != named:
            meant = f"class number {named} is called {names[named]!r}" if named < len(names) else "there are fewer"
            raise SettingsError(
                f"{what} is {named}, but {meant}, and the class called {text!r} is number {names.index(text)}: write "
                "the name of the class that is meant, in quotes"
            )
        if not 0 <= named < len(names):
            raise SettingsError(f"{what} is {named} but there are {len(names)} classes: 0 to {len(names) - 1}")
        return named

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        c, h, w = self.train_images.shape[1:]
        return int(c), int(h), int(w)


def _check_split(split: str, images: Tensor, labels: Tensor, num_classes: int) -> None:
    for what, given in (("images", images), ("labels", labels)):
        if not isinstance(given, Tensor):
            kind = type(given).__name__
            raise DataError(f"{split} {what} are a {kind}: give a torch.Tensor, as torch.as_tensor makes it")
    if images.dtype != torch.uint8 or images.ndim != 4:
        scaled = ": multiply floats in [0, 1] by 255 and round them first" if images.is_floating_point() else ""
        raise DataError(
            f"{split} images must be uint8 of shape (N, C, H, W), not {images.dtype} of {tuple(images.shape)}{scaled}"
        )
    check_layout(images, f"{split} images")
    if labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise DataError(
            f"{split} labels must be int64 of shape ({len(images)},), not {labels.dtype} of {tuple(labels.shape)}"
        )
    if images.numel() == 0:
        raise DataError(f"the {split} split is empty: add images to it")
    # The first image is usually enough.
    if int(images[0].max()) <= 1 and int(images.max()) == 1:
        raise DataError(f"no {split} image has a pixel above 1: multiply floats in [0, 1] by 255 and round them")
    if int(labels.min()) < 0 or int(labels.max()) >= num_classes:
        raise DataError(
            f"{split} labels lie in [{int(labels.min())}, {int(labels.max())}] "
            f"but there are {num_classes} classes: labels must be 0 ... {num_classes - 1}"
        )


def empty_classes(counts: Tensor, class_names: Sequence[str]) -> str:
    """Message that names the classes without training images, and the cure; ``counts`` (K,) has each class's images."""
    missing = [name for name, count in zip(class_names, counts.tolist(), strict=True) if count == 0]
    shown = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    return (
        f"{len(missing)} of {len(class_names)} classes have no training image ({shown}): add some, read the whole "
        "training split, or number the classes that there are 0, 1, 2, ... without gaps"
    )


def check_statistics(mean: Sequence[float], std: Sequence[float]) -> None:
    """Refuse a mean or standard deviation that is not in units of pixels scaled to [0, 1].

    Raises:
        DataError: a mean or standard deviation lies beyond [0, 1].
    """
    for name, values in (("mean", mean), ("std", std)):
        # Written so that a NaN fails as well.
        if not all(0 <= value <= 1 for value in values):
            shown = ", ".join(f"{value:g}" for value in values)
            raise DataError(f"{name} is ({shown}), beyond [0, 1]: divide it by 255, as pixels are scaled to [0, 1]")


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation of uint8 ``images`` (N, C, H, W), scaled to [0, 1]."""
    counts = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for channel in range(images.shape[1]):
        histogram = torch.bincount(images[:, channel].reshape(-1).int(), minlength=256).double()
        weights = histogram / histogram.sum()
        mean = (weights * counts).sum()
        means.append(round(mean.item(), 6))
        stds.append(round((weights * (counts - mean) ** 2).sum().sqrt().item(), 6))
    return tuple(means), tuple(stds)
