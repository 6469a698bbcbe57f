"""The checks that every public function applies to images: pixels are 8-bit, or floats in [0, 1], channels first."""

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
        DataError: ``images`` is no tensor or of another dtype, has its channels last, or a value beyond [0, 1] or not
            finite.
    """
    if not isinstance(images, Tensor):
        raise DataError(f"{what} are a {type(images).__name__}: give a torch.Tensor, as torch.as_tensor makes it")
    check_layout(images, what)
    if images.dtype == torch.uint8 or images.numel() == 0:
        return
    if not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        cure = ".float()" if images.dtype == torch.bool else ".to(torch.uint8)"
        raise DataError(f"{what} must be uint8, or float in [0, 1], not {kind}: convert them with {cure}")
    lowest, highest = (float(value) for value in torch.aminmax(images.detach()))
    if lowest != lowest:
        raise DataError(f"{what} must be uint8, or float in [0, 1], but hold NaN: replace these values")
    if not (lowest >= -_ROUNDING and highest <= 1 + _ROUNDING):
        cure = "divide them by 255, or pass uint8" if lowest >= 0 and highest <= 255 else "undo their normalisation"
        raise DataError(f"{what} must be uint8, or float in [0, 1], but lie in [{lowest:g}, {highest:g}]: {cure}")


def check_layout(images: Tensor, what: str = "images") -> None:
    """Refuse images (..., H, W, C), as NumPy and OpenCV have them: a network that flattens its input would take them.

    Raises:
        DataError: ``images`` are one or three pixels wide, and have at least five channels and rows.
    """
    if images.ndim > 2 and images.shape[-1] in (1, 3) and min(images.shape[-3:-1]) > 4:
        raise DataError(f"{what}: shape {tuple(images.shape)} has channels last: put them first by .movedim(-1, -3)")


def floats(images: Tensor, what: str = "images") -> Tensor:
    """Images as floats in [0, 1]: uint8 becomes float32, floats are unchanged.

    Args:
        images, what: see ``check_images``.

    Raises:
        DataError: as ``check_images``.
    """
    check_images(images, what)
    return images if images.is_floating_point() else images.float() / 255
