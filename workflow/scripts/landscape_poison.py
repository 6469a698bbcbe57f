"""Compute figure 2: matching loss and training loss over a plane through the most effective poison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.matching import Matcher, target_gradient
from poisonlab.config.figures import Landscape
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed, read_stage
from poisonlab.config.types import Settings
from poisonlab.data.training_set import pixels
from poisonlab.determinism import prepare_torch
from poisonlab.errors import SettingsError
from poisonlab.figures.landscape import (
    directions_through,
    grid,
    matching_loss_surface,
    training_loss_surface,
)
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.randomness import generator
from poisonlab.runtime.program import parser, run, settings


class PoisonLandscape(Settings):
    """Settings of one landscape around a poison."""

    model: NamedModel
    landscape: Landscape
    criterion: str
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--surrogate", type=Path, required=True, help="weights of the surrogate")
    arguments.add_argument("--landscape", type=Path, required=True, help="output: the surfaces (.npz)")
    args = arguments.parse_args(argv)
    stage = read_stage(PoisonLandscape, settings(args.spec))
    device = prepare_torch(args.device, args.threads, args.jobs_per_gpu)

    dataset = read_dataset(args.dataset)
    network = read_network(args.surrogate, stage.model, dataset, device)
    model = nn.Sequential(build_normalize(dataset, device), network).eval()
    poisons = PoisonSet.load(args.poisons)
    if poisons.goal is None:
        raise SettingsError(f"{args.poisons}: its attack has no target, so there is no matching loss to draw")
    adversarial = poisons.goal.adversarial_labels[:1].to(device)
    goal = target_gradient(model, pixels(poisons.goal.targets[:1].to(device)), adversarial, stage.criterion)
    matcher = Matcher(model, goal)

    chosen = most_effective(matcher, poisons, device)
    base = pixels(poisons.base_images[chosen : chosen + 1].to(device))
    change = (pixels(poisons.images[chosen : chosen + 1].to(device)) - base) * 255
    label = poisons.labels[chosen : chosen + 1].to(device)
    stream = generator("cpu", stage.seed, "landscape")
    drawn = [directions_through(change.cpu(), stream) for _ in range(stage.landscape.draws)]
    planes = [(first.to(device), second.to(device)) for first, second, _ in drawn]
    # Every plane holds the poison at the same place.
    place = drawn[0][2]
    coordinates = grid(stage.landscape.radius, stage.landscape.points)

    def matching(coordinates: Tensor, planes: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([matching_loss_surface(model, base, label, goal, plane, coordinates) for plane in planes])

    def training(coordinates: Tensor, planes: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([training_loss_surface(model, base, label, plane, coordinates) for plane in planes])

    # Base image and poison lie on the diagonal; the grid need not hold them.
    ends = torch.tensor([0.0, place[0]])
    write_arrays(
        args.landscape,
        coordinates=coordinates.numpy(),
        matching_loss=matching(coordinates, planes).numpy(),
        training_loss=training(coordinates, planes).numpy(),
        poison=torch.tensor(place).numpy(),
        matching_at=matching(ends, planes[:1])[0].diagonal().numpy(),
        training_at=training(ends, planes[:1])[0].diagonal().numpy(),
        row=poisons.indices[chosen : chosen + 1].numpy(),
    )


def most_effective(matcher: Matcher, poisons: PoisonSet, device: torch.device) -> int:
    """The poison whose own gradient, after its perturbation, comes closest to the target's."""
    images, labels = pixels(poisons.images.to(device)), poisons.labels.to(device)
    losses = [
        matcher.loss_and_gradient(images[place : place + 1], labels[place : place + 1])[0]
        for place in range(len(images))
    ]
    return int(torch.stack(losses).argmin())


if __name__ == "__main__":
    run(main)
