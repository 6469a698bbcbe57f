"""Compute figure 3: the training loss of several victims around all poisons, over the same planes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.figures import Landscape
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed
from poisonlab.config.types import Settings
from poisonlab.data.training_set import pixels
from poisonlab.landscapes.around_victims import around_victim, coordinates_of
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class VictimLandscapes(Settings):
    """Settings of the landscapes of several victims."""

    model: NamedModel
    landscape: Landscape
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument(
        "--victims", type=Path, nargs="+", required=True, help="weights, in the order of the settings"
    )
    arguments.add_argument("--landscape", type=Path, required=True, help="output: the surfaces (.npz)")
    args, stage, device, _ = begin(arguments, argv, VictimLandscapes)

    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    images, labels = pixels(poisons.images.to(device)), poisons.labels.to(device)
    normalize = build_normalize(dataset, device)
    results = []
    for path in args.victims:
        model = nn.Sequential(normalize, read_network(path, stage.model, dataset, device)).eval()
        results.append(around_victim(model, images, labels, stage.landscape, stage.seed))
    write_arrays(
        args.landscape,
        coordinates=coordinates_of(stage.landscape).numpy(),
        names=np.array(stage.landscape.victims),
        directions=np.array(stage.landscape.directions),
        loss=torch.stack([surfaces for surfaces, _ in results]).numpy(),
        at_poisons=torch.stack([itself for _, itself in results]).numpy(),
    )


if __name__ == "__main__":
    run(main)
