"""Forward passes over many images: a network's outputs, and how many of them are right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.models.classifier import Normalize

Rejects = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W), uint8 or float in [0, 1], to bool (N,) on the CPU: the inputs that are turned away."""


def accept_all(images: Tensor) -> Tensor:
    """Turns nothing away."""
    return torch.zeros(len(images), dtype=torch.bool)


@torch.no_grad()
def outputs_of(network: nn.Module, normalize: Normalize, images: Tensor, chunk: int = 1000) -> Tensor:
    """What a network (or a part of one) makes of ``images`` (N, C, H, W) uint8 or float in [0, 1]: (N, ...) float32, in
    eval mode, unaugmented.

    Raises:
        DataError: the images are floats beyond [0, 1].
    """
    check_images(images)
    device = normalize.mean.device
    network.eval()
    parts = [network(normalize(pixels(part.to(device)))).float() for part in torch.split(images, chunk)]
    return torch.cat(parts)


def accuracy(
    model: nn.Module, normalize: Normalize, images: Tensor, labels: Tensor, rejects: Rejects = accept_all
) -> float:
    """Fraction of ``images`` classified as ``labels``; one that is turned away is not."""
    predicted = outputs_of(model, normalize, images).argmax(1).cpu()
    return float(((predicted == labels.cpu()) & ~rejects(images)).double().mean())
