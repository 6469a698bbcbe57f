"""The training loss of victims around all poisons (FRIENDS, figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poisonlab.config.figures import Landscape
from poisonlab.landscapes.surfaces import (
    filter_directions,
    grid,
    random_directions,
    training_loss_surface,
    weight_loss_surface,
)
from poisonlab.randomness import generator


def coordinates_of(landscape: Landscape) -> Tensor:
    """(G,) in levels for ``plain`` directions, otherwise as a share of the weights."""
    radius = landscape.radius if landscape.directions == "plain" else landscape.weight_radius
    return grid(radius, landscape.points)


def around_victim(
    model: nn.Module, images: Tensor, labels: Tensor, landscape: Landscape, seed: int
) -> tuple[Tensor, Tensor]:
    """Mean cross-entropy of the poisons around one victim.

    Args:
        model: [0, 1] pixels to logits, in eval mode.
        images: (P, C, H, W) float in [0, 1], the poisons.
        labels: (P,) int64.
        landscape: kind of directions, extent and grid of the planes; every victim gets the same directions.
        seed: of the directions.

    Returns:
        The surfaces (D, G, G), one per draw of the directions, and the loss at the poisons themselves, a scalar.
    """
    # Every victim starts the stream anew, so that all get the same directions.
    stream = generator("cpu", seed, "landscape")
    coordinates = coordinates_of(landscape)
    surfaces = []
    for _ in range(landscape.draws):
        if landscape.directions == "plain":
            first, second = random_directions(images.shape, stream)
            moved = (first.to(images), second.to(images))
            surfaces.append(training_loss_surface(model, images, labels, moved, coordinates))
        else:
            surfaces.append(weight_loss_surface(model, images, labels, filter_directions(model, stream), coordinates))
    itself = training_loss_surface(model, images, labels, (images, images), torch.zeros(1))
    return torch.stack(surfaces), itself.flatten()[0]
