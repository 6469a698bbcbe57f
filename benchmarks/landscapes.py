"""Time and memory of the loss landscapes, against the straightforward way of doing the same.

The last column is the largest absolute difference between the losses of both ways. Networks are untrained, because
times do not depend on their weights.
"""

from __future__ import annotations

from functools import partial
from typing import cast

import reference_landscapes
import torch
from contest import Contest, Contests
from torch import Tensor

from poisonlab.attacks.matching import target_gradient
from poisonlab.landscapes.surfaces import (
    directions_through,
    filter_directions,
    grid,
    matching_loss_surface,
    random_directions,
    training_loss_surface,
    weight_loss_surface,
)
from poisonlab.randomness import generator
from training import Task, large, small


def pictures(count: int, device: torch.device, name: str = "images") -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=generator("cpu", 0, "benchmark", name)).to(device)


def differing(reference: object, ours: object) -> float:
    return float((cast(Tensor, reference).cpu() - cast(Tensor, ours)).abs().max())


def poisons_moved(task: Task, poisons: int, points: int, device: torch.device) -> Contest:
    """Figure 3: mean loss as every poison is moved along directions of its own."""
    model, images = task.model(device).eval(), pictures(poisons, device)
    labels = torch.zeros(poisons, dtype=torch.int64, device=device)
    first, second = random_directions(images.shape, generator("cpu", 0, "benchmark", "directions"))
    moved, coordinates = (first.to(device), second.to(device)), grid(24, points)
    return Contest(
        reference=lambda: reference_landscapes.training_loss_surface(model, images, labels, moved, coordinates),
        ours=lambda: training_loss_surface(model, images, labels, moved, coordinates),
        difference=differing,
        unit="grid point",
        per_call=points**2,
    )


def weights_moved(task: Task, poisons: int, points: int, device: torch.device) -> Contest:
    """Figure 3 the other way: mean loss as the weights are moved along filter-normalised directions."""
    model, images = task.model(device).eval(), pictures(poisons, device)
    labels = torch.zeros(poisons, dtype=torch.int64, device=device)
    moved = filter_directions(model, generator("cpu", 0, "benchmark", "directions"))
    coordinates = grid(0.1, points)
    return Contest(
        reference=lambda: reference_landscapes.weight_loss_surface(model, images, labels, moved, coordinates),
        ours=lambda: weight_loss_surface(model, images, labels, moved, coordinates),
        difference=differing,
        unit="grid point",
        per_call=points**2,
    )


def matching(task: Task, points: int, device: torch.device) -> Contest:
    """Figure 2: the matching loss of one poison."""
    model, image = task.model(device).eval(), pictures(1, device)
    label = torch.zeros(1, dtype=torch.int64, device=device)
    goal = target_gradient(model, pictures(1, device, "target"), label, "cross-entropy")
    change = 16 * (pictures(1, torch.device("cpu"), "change") - 0.5)
    first, second, _ = directions_through(change, generator("cpu", 0, "benchmark", "directions"))
    plane, coordinates = (first.to(device), second.to(device)), grid(24, points)
    return Contest(
        reference=lambda: reference_landscapes.matching_loss_surface(model, image, label, goal, plane, coordinates),
        ours=lambda: matching_loss_surface(model, image, label, goal, plane, coordinates),
        difference=differing,
        unit="grid point",
        per_call=points**2,
    )


CONTESTS: Contests = {
    "small": {
        "poisons moved, small residual network, 25 poisons, 9 x 9": partial(poisons_moved, small(), 25, 9),
        "poisons moved, ResNet-18, 5 poisons, 3 x 3": partial(poisons_moved, large(), 5, 3),
        "weights moved, small residual network, 25 poisons, 9 x 9": partial(weights_moved, small(), 25, 9),
        "weights moved, ResNet-18, 5 poisons, 3 x 3": partial(weights_moved, large(), 5, 3),
        "matching loss, small residual network, 9 x 9": partial(matching, small(), 9),
        "matching loss, ResNet-18, 3 x 3": partial(matching, large(), 3),
    },
    "gpu": {
        "poisons moved, ResNet-18, 500 poisons, 25 x 25": partial(poisons_moved, large(), 500, 25),
        "weights moved, ResNet-18, 500 poisons, 25 x 25": partial(weights_moved, large(), 500, 25),
        "matching loss, ResNet-18, 25 x 25": partial(matching, large(), 25),
    },
}
