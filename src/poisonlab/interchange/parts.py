"""The checked parts that every format is made of: images, labels and indices."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.errors import DataError
from poisonlab.interchange.allowed_pickle import LARGEST_FILE

_INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def stack_images(images: Sequence[Tensor], where: str) -> Tensor:
    """(P, C, H, W) of ``images``, each (C, H, W) of one dtype.

    Args:
        images: at least one image.
        where: their file or entry, for messages.

    Raises:
        DataError: there is no image, shapes or dtypes differ, or the images exceed ``LARGEST_FILE`` bytes.
    """
    if not images:
        raise DataError(f"{where} holds no image: check that it is the right file")
    first = images[0]
    for place, image in enumerate(images):
        if image.shape != first.shape or image.dtype != first.dtype:
            raise DataError(
                f"{where}: image {place} is {_description(image)} but image 0 is {_description(first)}: "
                "bring all images to one size and type"
            )
    # A few bytes in a file can refer to one image any number of times.
    if len(images) * first.numel() * first.element_size() > LARGEST_FILE:
        raise DataError(f"{where} unfolds to more than {LARGEST_FILE} bytes of pixels: split it")
    return torch.stack(list(images))


def pairs(entries: Any, read: Callable[[Any, str], tuple[Tensor, int]], where: str) -> tuple[Tensor, Tensor]:
    """Images (P, C, H, W) and labels (P,) int64 of a list of pairs, each decoded by ``read`` (entry, place).

    Raises:
        DataError: ``entries`` is no list, an entry is not a pair, or the images do not fit together.
    """
    if not isinstance(entries, list | tuple):
        raise DataError(f"{where} is not a list of (image, label): check that it is the right file")
    found = [read(entry, f"{where}: entry {place}") for place, entry in enumerate(entries)]
    images = stack_images([image for image, _ in found], where)
    return images, torch.tensor([label for _, label in found], dtype=torch.int64)


def described(value: Any) -> str:
    """An unexpected value in words, for messages: a tensor with its shape, a dict with its keys, a list with its first
    entries."""
    if isinstance(value, Tensor | np.ndarray):
        return f"{'a tensor' if isinstance(value, Tensor) else 'an array'} {tuple(value.shape)}"
    if isinstance(value, dict):
        keys = ", ".join(ascii(key)[:40] for key in list(value)[:6])
        return f"a dict with {keys}" if value else "an empty dict"
    if isinstance(value, list | tuple):
        kind = type(value).__name__
        first = ", ".join(
            described(each) if isinstance(each, Tensor | np.ndarray) else f"a {type(each).__name__}"
            for each in value[:2]
        )
        return f"a {kind} of {len(value)} ({first}{', ...' if len(value) > 2 else ''})" if value else f"an empty {kind}"
    return f"a {type(value).__name__}"


def _description(image: Tensor) -> str:
    """How a message names an image."""
    size = "x".join(str(length) for length in image.shape[:0:-1])
    return f"{size} {str(image.dtype).removeprefix('torch.')}"


def whole_number(value: Any, where: str) -> int:
    """A label or index as int: a Python integer, or a numpy array or torch tensor with one.

    Raises:
        DataError: it is anything else.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0 and np.issubdtype(value.dtype, np.integer):
        return int(value)
    if isinstance(value, Tensor) and value.ndim == 0 and value.dtype in _INTEGERS:
        return int(value)
    if type(value) is int and abs(value) < 1 << 62:
        return value
    raise DataError(f"{where} is not an integer: save class labels and indices as plain integers")


def label(value: Any, where: str) -> int:
    """A class label.

    Raises:
        DataError: it is not an integer, or negative.
    """
    found = whole_number(value, where)
    if found < 0:
        raise DataError(f"{where} is {found}: class labels are 0, 1, 2, ...")
    return found


def labels(value: Any, where: str) -> Tensor:
    """(1,) int64 of one class label, or (T,) of a list of them.

    Raises:
        DataError: an entry is not an integer, or negative.
    """
    if isinstance(value, list | tuple):
        return torch.tensor([label(item, f"{where}: entry {place}") for place, item in enumerate(value)])
    return torch.tensor([label(value, where)])


def plain_labels(labels: Tensor) -> int | list[int]:
    """The reverse of ``labels``: one number if all (T,) labels agree, else a list."""
    found: list[int] = labels.tolist()
    return found[0] if len(set(found)) == 1 else found


def indices(value: Any, where: str) -> Tensor:
    """(P,) int64 from a list, tuple, numpy array or torch tensor of integers.

    Raises:
        DataError: it is anything else.
    """
    if isinstance(value, list | tuple):
        numbers = [whole_number(item, f"{where}: entry {place}") for place, item in enumerate(value)]
        return torch.tensor(numbers, dtype=torch.int64)
    if isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.integer) and value.ndim == 1:
        return torch.from_numpy(value.astype(np.int64))
    if isinstance(value, Tensor) and value.dtype in _INTEGERS and value.ndim == 1:
        return value.detach().long().clone()
    raise DataError(f"{where} is no list of integers: save one whole number for each image, as a list, array or tensor")


def pil_image(image: Tensor) -> Image.Image:
    """An image (1, H, W) or (3, H, W) uint8 for PIL; a grey one has mode L."""
    channels_last = image.permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(channels_last[:, :, 0] if channels_last.shape[2] == 1 else channels_last)


def to_levels(images: Tensor) -> Tensor:
    """uint8 of ``images``, which are uint8 or float in [0, 1]; floats are rounded to the nearest of 255 levels."""
    if images.dtype == torch.uint8:
        return images
    # In parts, because doubles need eight times the memory of the result.
    return torch.cat(
        [(part.double() * 255).round().clamp(0, 255).to(torch.uint8) for part in torch.split(images, 1000)]
    )


def normalisation(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[Tensor, Tensor] | None:
    """Mean and standard deviation as (C, 1, 1) float64, or None if neither is given.

    Raises:
        DataError: only one is given, or not three values each (one for grey images) in [0, 1], or ``std`` has a 0.
    """
    if mean is None and std is None:
        return None
    if mean is None or std is None:
        raise DataError("mean and std belong together: give both, three values each (one for grey images), or neither")
    for name, values in (("mean", mean), ("std", std)):
        if len(values) not in (1, 3) or not all(math.isfinite(value) and 0 <= value <= 1 for value in values):
            raise DataError(
                f"{name} needs three values between 0 and 1 (one for grey images), in units of pixels scaled to [0, 1]"
            )
    if len(mean) != len(std):
        raise DataError(f"mean has {len(mean)} values and std {len(std)}: give one for each channel in both")
    if min(std) <= 0:
        raise DataError("std needs values above 0")
    return _per_channel(mean), _per_channel(std)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.float64).view(-1, 1, 1)
