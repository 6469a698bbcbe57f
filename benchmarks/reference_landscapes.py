"""Loss landscapes written straightforwardly, one grid point at a time: the lab is timed against them."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.attacks.matching import Gradients


@torch.no_grad()
def training_loss_surface(
    model: nn.Module, images: Tensor, labels: Tensor, directions: tuple[Tensor, Tensor], coordinates: Tensor
) -> Tensor:
    """Mean cross-entropy of images (P, C, H, W) moved in pixel space: (G, G), a forward pass of all per grid point."""
    first, second = directions
    surface = torch.empty(len(coordinates), len(coordinates))
    for row, b in enumerate(coordinates):
        for column, a in enumerate(coordinates):
            moved = images + a / 255 * first + b / 255 * second
            surface[row, column] = F.cross_entropy(model(moved), labels)
    return surface


@torch.no_grad()
def weight_loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    coordinates: Tensor,
) -> Tensor:
    """Mean cross-entropy of the images over a plane of weights: (G, G), a moved copy of the network per grid point."""
    first, second = directions
    surface = torch.empty(len(coordinates), len(coordinates))
    for row, b in enumerate(coordinates):
        for column, a in enumerate(coordinates):
            moved = copy.deepcopy(model)
            for name, parameter in moved.named_parameters():
                if name in first:
                    parameter += a * first[name] + b * second[name]
            surface[row, column] = F.cross_entropy(moved(images), labels)
    return surface


def matching_loss_surface(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    goal: Gradients,
    directions: tuple[Tensor, Tensor],
    coordinates: Tensor,
) -> Tensor:
    """1 - cosine of one poison's gradient and the goal: (G, G), a backward pass per grid point."""
    first, second = directions
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    flat = torch.cat([part.flatten() for part in goal])
    surface = torch.empty(len(coordinates), len(coordinates))
    for row, b in enumerate(coordinates):
        for column, a in enumerate(coordinates):
            loss = F.cross_entropy(model(image + a / 255 * first + b / 255 * second), label)
            gradient = torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])
            surface[row, column] = 1 - F.cosine_similarity(gradient, flat, dim=0)
    return surface
