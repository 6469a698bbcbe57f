"""Compute figure 3: the training loss of several victims around all poisons, over the same plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from torch import nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.files import write_arrays
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.commandline import parser, prepare_torch, run, settings
from poisonlab.config.figures import Landscape
from poisonlab.config.models import ModelSettings
from poisonlab.config.stages import Seed, read_stage
from poisonlab.config.types import Settings
from poisonlab.data.training_set import pixels
from poisonlab.figures.landscape import grid, random_directions, training_loss_surface
from poisonlab.models.networks import build_network, build_normalize, load_weights
from poisonlab.randomness import generator


class VictimLandscapes(Settings):
    """Settings of the landscapes of several victims."""

    model: ModelSettings
    landscape: Landscape
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument(
        "--victims", type=Path, nargs="+", required=True, help="weights, in the order of the settings"
    )
    arguments.add_argument("--landscape", type=Path, required=True, help="output: the surfaces (.npz)")
    args = arguments.parse_args(argv)
    stage = read_stage(VictimLandscapes, settings(args.spec))
    device = prepare_torch(args.device, args.threads)

    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    images, labels = pixels(poisons.images.to(device)), poisons.labels.to(device)
    first, second = random_directions(images.shape, generator("cpu", stage.seed, "landscape"))
    coordinates = grid(stage.landscape.radius, stage.landscape.points)
    normalize = build_normalize(dataset, device)
    surfaces = []
    for path in args.victims:
        network = build_network(stage.model, dataset, seed=0, device=device)
        load_weights(path, network)
        model = nn.Sequential(normalize, network).eval()
        surfaces.append(
            training_loss_surface(model, images, labels, (first.to(device), second.to(device)), coordinates)
        )
    write_arrays(
        args.landscape,
        coordinates=coordinates.numpy(),
        names=np.array(stage.landscape.victims),
        loss=np.stack([surface.numpy() for surface in surfaces]),
    )


if __name__ == "__main__":
    run(main)
