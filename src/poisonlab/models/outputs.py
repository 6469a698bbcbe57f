"""Forward passes over many images: a network's outputs and its accuracy."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.data.image_range import check_images
from poisonlab.data.training_set import pixels
from poisonlab.errors import DataError
from poisonlab.models.chunks import images_at_once, in_chunks, shape_of
from poisonlab.models.classifier import Normalize, logits
from poisonlab.models.evaluating import evaluating

Rejects = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W), uint8 or float in [0, 1], to bool (N,) on the CPU: True for rejected inputs."""


def accept_all(images: Tensor) -> Tensor:
    """Reject no image."""
    return torch.zeros(len(images), dtype=torch.bool)


@torch.no_grad()
def outputs_of(network: nn.Module, normalize: Normalize, images: Tensor) -> Tensor:
    """The outputs (N, ...) float32 of a network, or a part of one, for unaugmented images, in eval mode.

    Args:
        network: maps normalised images to outputs; its modes are restored.
        normalize: on the network's device.
        images: (N, C, H, W) uint8, or float in [0, 1].

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
        return torch.cat(list(in_chunks(outputs, len(images), images_at_once(images), what)))


def accuracy(
    model: nn.Module, normalize: Normalize, images: Tensor, labels: Tensor, rejects: Rejects = accept_all
) -> float:
    """Fraction of ``images`` classified as ``labels``; a rejected image counts as wrong.

    Args:
        model: maps normalised images to logits.
        normalize: on the model's device.
        images: (N, C, H, W) uint8, or float in [0, 1].
        labels: (N,) int64.
        rejects: which images a detector rejects.

    Raises:
        DataError: the images are floats beyond [0, 1], or there is not one label for each.
    """
    if not isinstance(labels, Tensor):
        raise DataError(f"labels are a {type(labels).__name__}: give a torch.Tensor, as torch.as_tensor makes it")
    # Another shape, such as (N, 1), would be compared with every image.
    if labels.shape != images.shape[:1]:
        raise DataError(f"labels of {len(images)} images have shape {tuple(labels.shape)}: give one each, (N,)")
    predicted = outputs_of(model, normalize, images).argmax(1).cpu()
    return float(((predicted == labels.cpu()) & ~rejects(images)).double().mean())
