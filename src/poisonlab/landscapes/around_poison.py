"""Losses around the most effective poison (FRIENDS, figure 2)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poisonlab.attacks.matching import Gradients, Matcher
from poisonlab.config.figures import Landscape
from poisonlab.data.training_set import pixels
from poisonlab.errors import SettingsError
from poisonlab.landscapes.surfaces import directions_through, grid, matching_loss_surface, training_loss_surface
from poisonlab.randomness import generator


def around_poison(
    model: nn.Module, base: Tensor, poison: Tensor, label: Tensor, goal: Gradients, landscape: Landscape, seed: int
) -> dict[str, Tensor]:
    """Matching loss and training loss over planes through a base image and its poison.

    Args:
        model: [0, 1] pixels to logits, in eval mode.
        base: (1, C, H, W) float in [0, 1], the planes' origin.
        poison: (1, C, H, W), the base image with its perturbation.
        label: (1,) int64.
        goal: the target's gradient.
        landscape: number, extent and grid of the planes.
        seed: of the planes.

    Returns:
        On the CPU: ``coordinates`` (G,) in levels; ``matching_loss`` and ``training_loss`` (D, G, G); ``poison`` (2,),
        the poison's place in every plane; ``matching_at`` and ``training_at`` (2,), the losses at the base image and at
        the poison.

    Raises:
        SettingsError: the poison lies outside the planes.
    """
    stream = generator("cpu", seed, "landscape")
    drawn = [directions_through(((poison - base) * 255).cpu(), stream) for _ in range(landscape.draws)]
    planes = [(first.to(base), second.to(base)) for first, second, _ in drawn]
    # The poison is at the same place in every plane.
    place = drawn[0][2]
    if place[0] > landscape.radius:
        raise SettingsError(
            f"figures.landscape.radius: {landscape.radius:g} levels leave out the poison at {place[0]:.3g}: raise "
            f"it to {math.ceil(place[0])} or more"
        )

    def matching(coordinates: Tensor, planes: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([matching_loss_surface(model, base, label, goal, plane, coordinates) for plane in planes])

    def training(coordinates: Tensor, planes: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([training_loss_surface(model, base, label, plane, coordinates) for plane in planes])

    coordinates = grid(landscape.radius, landscape.points)
    # Base image and poison lie on the diagonal, but perhaps not on the grid.
    ends = torch.tensor([0.0, place[0]])
    return {
        "coordinates": coordinates,
        "matching_loss": matching(coordinates, planes),
        "training_loss": training(coordinates, planes),
        "poison": torch.tensor(place),
        "matching_at": matching(ends, planes[:1])[0].diagonal(),
        "training_at": training(ends, planes[:1])[0].diagonal(),
    }


def most_effective(matcher: Matcher, images: Tensor, labels: Tensor) -> int:
    """The position of the poison whose gradient, after its perturbation, best matches the target's.

    Args:
        matcher: the surrogate and the target's gradient.
        images: (P, C, H, W) uint8, or float in [0, 1], the poisons, on the matcher's device.
        labels: (P,) int64.
    """
    inputs = pixels(images)
    losses = [matcher.loss(inputs[place : place + 1], labels[place : place + 1]) for place in range(len(inputs))]
    return int(torch.stack(losses).argmin())
