"""The classifiers of torchvision, by torchvision's names."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import nn
from torchvision import models

from poisonlab.models.classifier import Classifier
from poisonlab.models.library_networks import adopted, check_known, made

# Auxiliary heads are for training at 224 x 224 and more, and would make the output a tuple.
_WITHOUT_AUXILIARY = {name: {"aux_logits": False, "init_weights": True} for name in ("googlenet", "inception_v3")}


def build(
    num_classes: int,
    image_shape: tuple[int, int, int],
    model: str = "resnet18",
    pretrained: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Classifier:
    """torchvision's network and initialisation for images (C, H, W).

    If images do not have three channels, the first convolution is replaced, with torch's initialisation. A transformer
    gets the images' size if they are square.

    Args:
        num_classes: of the head.
        image_shape: (C, H, W).
        model: its name in torchvision.
        pretrained: a .safetensors file of its weights.
        options: for its constructor.

    Raises:
        SettingsError: torchvision has no such network or option, or the network cannot take such images.
        DataError: the weights are missing, damaged, or of another network.
    """
    check_known("torchvision", model, models.list_models(module=models))
    what = f"torchvision's {model}"
    make = partial(models.get_model, model, weights=None, num_classes=num_classes)
    channels, height, width = image_shape
    size = {"image_size": height} if model.startswith("vit_") and height == width else {}
    network = made(what, make, size, {**_WITHOUT_AUXILIARY.get(model, {}), **(options or {})})
    if channels != 3:
        _take_channels(network, channels)
    return adopted(what, network, image_shape, pretrained)


def _take_channels(network: nn.Module, channels: int) -> None:
    """Replace the first convolution by one for ``channels`` input channels."""
    name, first = next((name, layer) for name, layer in network.named_modules() if isinstance(layer, nn.Conv2d))
    layer = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    parent, _, own = name.rpartition(".")
    setattr(network.get_submodule(parent), own, layer)
