"""Forward passes over many images: a network's outputs, and how many of them are right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.models.chunks import images_at_once, in_chunks, shape_of
from poisonlab.models.classifier import Normalize, logits
from poisonlab.models.evaluating import evaluating

Rejects = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W), uint8 or float in [0, 1], to bool (N,) on the CPU: the inputs that are turned away."""


def accept_all(images: Tensor) -> Tensor:
    """Turns nothing away."""
    return torch.zeros(len(images), dtype=torch.bool)


@torch.no_grad()
def outputs_of(network: nn.Module, normalize: Normalize, images: Tensor, chunk: int | None = None) -> Tensor:
    """What a network (or a part of one) makes of ``images`` (N, C, H, W) uint8 or float in [0, 1]: (N, ...) float32, in
    eval mode (the network keeps its own), unaugmented; ``chunk`` images at once, by their size if not given.

    Raises:
        DataError: the images are floats beyond [0, 1].
        TooLittleMemoryError: one image is too large for the network and the memory.
    """
    check_images(images)
    device = normalize.mean.device

    def outputs(part: slice) -> Tensor:
        return logits(network(normalize(pixels(images[part].to(device))))).float()

    what = f"{len(images)} images of {shape_of(images)} that a network is evaluated on"
    with evaluating(network):
        return torch.cat(list(in_chunks(outputs, len(images), chunk or images_at_once(images), what)))


def accuracy(
    model: nn.Module, normalize: Normalize, images: Tensor, labels: Tensor, rejects: Rejects = accept_all
) -> float:
    """Fraction of ``images`` classified as ``labels``; one that is turned away is not."""
    predicted = outputs_of(model, normalize, images).argmax(1).cpu()
    return float(((predicted == labels.cpu()) & ~rejects(images)).double().mean())
