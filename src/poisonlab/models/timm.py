"""The networks of timm (Wightman), by timm's names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier
from poisonlab.models.library_networks import adopted, check_known, made


def build(
    num_classes: int,
    image_shape: tuple[int, int, int],
    model: str = "resnet18",
    pretrained: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """timm's network and initialisation for the channels of the images and, if it has a fixed image size, their size.

    Args:
        num_classes: of the head.
        image_shape: (C, H, W).
        model: its name in timm, with or without a tag. The tag names weights, but weights come only from
            ``pretrained``.
        pretrained: a .safetensors file of its weights.
        options: for its constructor.

    Raises:
        SettingsError: timm is not installed, has no such network or option, or the network cannot take such images.
        DataError: the weights are missing, damaged, or of another network.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise SettingsError("model timm needs the package timm, which is missing: pip install timm") from error
    check_known("timm", model.partition(".")[0], timm.list_models())
    what = f"timm's {model}"
    make = partial(timm.create_model, model, pretrained=False, num_classes=num_classes, in_chans=image_shape[0])
    network: Any = made(what, make, {"img_size": tuple(image_shape[1:])}, options or {})
    head = network.get_classifier()
    names = [name for name, module in network.named_modules() if module is head]
    if len(names) != 1:
        raise SettingsError(f"{what} has no single head: choose another network")
    return adopted(what, network, image_shape, pretrained, names[0])
