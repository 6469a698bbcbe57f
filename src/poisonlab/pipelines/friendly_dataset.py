"""A dataset with friendly noise on its images, for the training loops of other libraries."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset
from torchvision.transforms.v2 import functional as transforms

from poisonlab.data.training_set import pixels
from poisonlab.defenses.friendly_noise import check_noise
from poisonlab.errors import DataError, SettingsError
from poisonlab.pipelines.images import MapStyle, check_map_style, image_of, with_image
from poisonlab.pipelines.noise_file import StoredNoise, load_noise

_DRAWS = 12
"""Readings of the first image. One in 2,048 datasets that mirror half of their images gives it alike each time."""


class FriendlyDataset(Dataset[Any]):
    """Any map-style dataset with friendly noise on its images (FRIENDS: Liu, Yang, Mirzasoleiman 2022).

    Example i is that of the dataset, with ``transform(clip(image + noise[i]))`` as its image. Noise fits only the
    pixels that it was made for. So augmentation and normalisation belong into ``transform``, which runs after the
    noise; the dataset itself may resize and convert. Fresh random noise, the other half of FRIENDS, is a transform:
    ``BernoulliNoise``.

    Works with ``Subset``, samplers (``DistributedSampler``), and workers of a ``DataLoader``, which share one copy of
    the noise.

    Args:
        dataset: gives (image, label, ...), or a mapping; the image is a PIL image (grey or RGB) or a tensor (C, H, W),
            uint8 or float in [0, 1].
        noise: (N, C, H, W) float in units of the [0, 1] pixel range, row i for example i; or the path of a file, or
            the result of ``load_noise``.
        transform: applied to the noisy image; may be replaced later, as an attribute.
        names: paths of the dataset's image files, to find their rows in a file with names. If not given, they are those
            of ``dataset.samples`` (torchvision's ``ImageFolder``, or a ``Subset`` of it), in any order of classes.
        key: the image's place in an example: a position, or a name such as "image" in a mapping.
        output: form of the image for ``transform`` (or the caller): ``tensor``, float32 (C, H, W) in [0, 1], or
            ``pil``, an 8-bit image, for transforms that begin with one. It rounds the noise to whole levels.

    Raises:
        DataError: dataset and noise do not fit, the file has names and the dataset none, or the dataset augments its
            images. Later: an image has another shape or range, or is not the image that the noise was made for.
        SettingsError: there is no such ``output``.
    """

    def __init__(
        self,
        dataset: MapStyle,
        noise: Tensor | StoredNoise | str | Path,
        transform: Callable[[Any], Any] | None = None,
        *,
        names: Sequence[str | Path] | None = None,
        key: int | str = 0,
        output: Literal["tensor", "pil"] = "tensor",
    ) -> None:
        if output not in ("tensor", "pil"):
            raise SettingsError(f"output is {output!r}: choose 'tensor' or 'pil'")
        self.dataset = dataset
        self.transform = transform
        self.key = key
        self.output = output
        self.noise = load_noise(noise) if isinstance(noise, str | Path) else noise
        self._rows = _rows_of(dataset, self.noise, names)
        # Of a file, one row shows the unit, because its writer has checked all rows.
        check_noise(self.noise.values[:1] if isinstance(self.noise, StoredNoise) else self.noise)
        _check_still(dataset, key)
        self._pixels(0, dataset[0])

    @property
    def _values(self) -> Tensor:
        return self.noise.values if isinstance(self.noise, StoredNoise) else self.noise

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        position = range(len(self))[operator.index(index)]
        item = self.dataset[position]
        image: Any = self._pixels(position, item)
        if self.output == "pil":
            image = transforms.to_pil_image((image * 255).round().to(torch.uint8))
        return with_image(item, self.key, image if self.transform is None else self.transform(image))

    def _pixels(self, position: int, item: Any) -> Tensor:
        """(C, H, W) float32 in [0, 1]: the noisy image."""
        where = f"image {position} of the dataset"
        image = pixels(image_of(item, self.key, where))
        row = position if self._rows is None else int(self._rows[position])
        noise = self._values[row]
        if image.shape != noise.shape:
            raise DataError(
                f"{where} has shape {tuple(image.shape)}, its noise {tuple(noise.shape)}: make the noise for images "
                "as the dataset gives them, and crop or resize in transform="
            )
        if isinstance(self.noise, StoredNoise):
            self.noise.check_image(row, image, where)
        return (image + noise.detach().to(image.device, torch.float32)).clamp_(0, 1)


def _rows_of(dataset: MapStyle, noise: Tensor | StoredNoise, names: Sequence[str | Path] | None) -> Tensor | None:
    """(N,) int64: each example's row of the noise; None if both have the same numbers."""
    check_map_style(dataset)
    if not isinstance(noise, Tensor | StoredNoise):
        raise DataError(
            f"noise is a {type(noise).__name__}: give a torch.Tensor, as torch.as_tensor makes it, or a file's path"
        )
    if len(dataset) == 0:
        raise DataError("the dataset is empty: there is nothing to add noise to")
    if names is None and isinstance(noise, StoredNoise) and noise.names:
        names = _names_of(dataset)
        if names is None:
            raise DataError(
                f"{noise.path} knows its images by name, but the dataset has no names: pass names=, the paths of its "
                "images in order. If its order is surely that of the file, pass load_noise(path).values"
            )
    if names is None:
        if len(noise) != len(dataset):
            raise DataError(
                f"the noise of {len(noise)} images does not fit a dataset of {len(dataset)}: take a Subset of the "
                "FriendlyDataset, not the other way round, or pass noise[subset.indices]"
            )
        return None
    if not isinstance(noise, StoredNoise):
        raise DataError("names find rows of a file of noise: pass its path, or the result of load_noise")
    if len(names) != len(dataset):
        raise DataError(f"{len(names)} names do not fit a dataset of {len(dataset)}: give one for each example")
    return noise.rows(names)


def _names_of(dataset: Any) -> list[str | Path] | None:
    """Paths of the images of an ``ImageFolder``, or of a ``Subset`` of one; None for another dataset."""
    if isinstance(dataset, Subset):
        whole = _names_of(dataset.dataset)
        return None if whole is None else [whole[index] for index in dataset.indices]
    try:
        paths = [sample[0] for sample in dataset.samples]
    except (AttributeError, TypeError, IndexError, KeyError):
        return None
    return paths if all(isinstance(path, str | Path) for path in paths) else None


def _check_still(dataset: MapStyle, key: int | str) -> None:
    """Refuse a dataset whose first image differs from draw to draw."""
    first, *others = (image_of(dataset[0], key, "image 0 of the dataset") for _ in range(_DRAWS))
    if not all(torch.equal(first, other) for other in others):
        raise DataError(
            "the dataset gives another image at each reading of row 0: pass its random augmentation as transform=, "
            "which runs after the noise"
        )
