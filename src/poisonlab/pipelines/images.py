"""Images as datasets of other libraries give them: PIL images or tensors, in a tuple or a mapping with their label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as transforms

from poisonlab.data.image_range import check_images
from poisonlab.errors import DataError

_MODES = ("L", "RGB")


class MapStyle(Protocol):
    """A dataset of known length whose examples are read by index, as in most of torch.utils.data."""

    def __getitem__(self, index: int, /) -> Any: ...

    def __len__(self) -> int: ...


def check_map_style(dataset: object) -> None:
    """Refuse a dataset without a length, such as a stream, and a ``DataLoader``.

    Raises:
        DataError: ``dataset`` has no length, or is a loader.
    """
    if isinstance(dataset, DataLoader):
        raise DataError("a DataLoader gives batches: pass its dataset, loader.dataset")
    if not hasattr(dataset, "__len__"):
        raise DataError(
            f"a {type(dataset).__name__} has no length: noise belongs to images by their number, so pass a map-style "
            "dataset, not a stream"
        )


def image_of(item: Any, key: int | str, where: str) -> Tensor:
    """The image of one example: (C, H, W), uint8, or float32 in [0, 1].

    Args:
        item: an example of a dataset: a tuple or list, or a mapping.
        key: the image's place in the example.
        where: name of the example in messages.

    Raises:
        DataError: there is no image at ``key``, or one of another kind or range.
    """
    try:
        known: Any = item if isinstance(item, Mapping | tuple | list) else {key: None}
        image = known[key]
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(f"{where} has no {key!r}: key names the image's place in an example") from error
    if isinstance(image, Image.Image):
        if image.mode not in _MODES:
            # Pillow cuts values off at 255 when it converts these.
            deep = image.mode.startswith(("I", "F"))
            cure = "scale its values to 0 to 255 and give mode L" if deep else 'convert("RGB") it'
            raise DataError(f"{where} is a PIL image of mode {image.mode}: let the dataset {cure}")
        decoded: Tensor = transforms.pil_to_tensor(image)
        return decoded
    if not isinstance(image, Tensor):
        found = type(item if image is None else image).__name__
        raise DataError(
            f"{where} is a {found}: a dataset must give (image, label), or a mapping and key= its image's name, and "
            "the image as a PIL image or a tensor (C, H, W)"
        )
    if image.ndim != 3:
        raise DataError(f"{where} has shape {tuple(image.shape)}: images must be (C, H, W)")
    check_images(image, where)
    return image.as_subclass(Tensor) if image.dtype == torch.uint8 else image.as_subclass(Tensor).float()


def with_image(item: Any, key: int | str, image: Any) -> Any:
    """The example with another image; ``item`` stays as it is."""
    if isinstance(item, Mapping):
        return {**item, key: image}
    place = range(len(item))[int(key)]
    values = [image if number == place else value for number, value in enumerate(item)]
    if isinstance(item, list):
        return values
    return type(item)(*values) if hasattr(item, "_fields") else tuple(values)


def images_of(dataset: MapStyle, key: int | str = 0) -> Tensor:
    """All images of a dataset in one tensor, as ``friendly_noise`` takes them.

    Args:
        dataset: map-style; it gives (image, label), or a mapping. An image is a PIL image (grey or RGB) or a tensor
            (C, H, W), uint8 or float in [0, 1]. All images have one shape. The dataset must not augment them.
        key: the image's place in an example: a position, or a name such as "image" in a mapping.

    Returns:
        (N, C, H, W): uint8, or float32 in [0, 1].

    Raises:
        DataError: an image is of another kind, range or shape than described.
    """
    check_map_style(dataset)
    if len(dataset) == 0:
        raise DataError("the dataset is empty: there is no image to read")
    stacked: Tensor | None = None
    for number in range(len(dataset)):
        where = f"image {number} of the dataset"
        image = image_of(dataset[number], key, where)
        if stacked is None:
            stacked = torch.empty(len(dataset), *image.shape, dtype=image.dtype)
        if image.shape != stacked.shape[1:] or image.dtype != stacked.dtype:
            raise DataError(
                f"{where} is {image.dtype} of {tuple(image.shape)}, the first {stacked.dtype} of "
                f"{tuple(stacked.shape[1:])}: let the dataset resize and convert all images alike"
            )
        stacked[number] = image
    assert stacked is not None
    return stacked
