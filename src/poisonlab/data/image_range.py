"""The check that every public function applies to images: pixels are 8-bit, or floats in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor

from poisonlab.errors import DataError

_ROUNDING = 1e-5


def check_images(images: Tensor, what: str = "images") -> None:
    """Refuse images in other units than those that ``poisonlab.data.training_set.pixels`` takes.

    Args:
        images: any shape, uint8 or float in [0, 1]; rounding errors may leave the range.
        what: name of the images in the message.

    Raises:
        DataError: ``images`` is no tensor or of another dtype, or has a value beyond [0, 1] or not finite.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"{what} are a {type(images).__name__}: give a torch.Tensor, as torch.as_tensor makes it")
    if images.dtype == torch.uint8 or images.numel() == 0:
        return
    if not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise DataError(f"{what} must be uint8, or float in [0, 1], not {kind}: convert them with .to(torch.uint8)")
    lowest, highest = (float(value) for value in torch.aminmax(images.detach()))
    if lowest != lowest:
        raise DataError(f"{what} must be uint8, or float in [0, 1], but hold NaN: replace these values")
    if not (lowest >= -_ROUNDING and highest <= 1 + _ROUNDING):
        cure = "divide them by 255, or pass uint8" if lowest >= 0 and highest <= 255 else "undo their normalisation"
        raise DataError(f"{what} must be uint8, or float in [0, 1], but lie in [{lowest:g}, {highest:g}]: {cure}")


def floats(images: Tensor, what: str = "images") -> Tensor:
    """Images as floats in [0, 1]: uint8 becomes float32, floats are unchanged.

    Args:
        images, what: see ``check_images``.

    Raises:
        DataError: as ``check_images``.
    """
    check_images(images, what)
    return images if images.is_floating_point() else images.float() / 255
