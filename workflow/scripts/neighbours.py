"""Find the nearest neighbours of every image over both splits, and the images that occur more than once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.config.types import PositiveInt, PositiveLevels, Settings
from poisonlab.runtime.program import parser, run
from poisonlab.scanning.duplicates import neighbourhood
from poisonlab.scanning.features import Features
from poisonlab.stage_program import begin


class Searching(Settings):
    """How many neighbours, and how alike duplicates are."""

    neighbours: PositiveInt
    near: PositiveLevels


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--features", type=Path, required=True, help="the features (.safetensors)")
    arguments.add_argument("--memory", type=int, default=512, help="MiB that distances may take")
    arguments.add_argument("--neighbours", type=Path, required=True, help="output: neighbours (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Searching)
    dataset, found = read_dataset(args.dataset), Features.load(args.features)
    images = torch.cat([dataset.train_images, dataset.test_images[: len(found.test_features)]])
    features = torch.cat([found.features, found.test_features]).to(device)
    made = neighbourhood(features, images, k=stage.neighbours, near=stage.near, memory=args.memory * 2**20)
    card.write(args.card, duplicates=len(made.pairs))
    made.save(args.neighbours)


if __name__ == "__main__":
    run(main)
