"""Compute figure 5c: how far the networks' output spreads around poisons, their bases and clean images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.figures import OutputStd
from poisonlab.config.models.model import NamedNetwork
from poisonlab.config.stages import Seed
from poisonlab.config.types import Settings
from poisonlab.landscapes.output_std import around_network, groups_of
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class OutputSpread(Settings):
    """Settings of one attack's figure."""

    networks: tuple[NamedNetwork, ...]
    output_std: OutputStd
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument(
        "--networks", type=Path, nargs="+", required=True, help="weights, in the order of the settings"
    )
    arguments.add_argument("--std", type=Path, required=True, help="output: standard deviations (.npz)")
    args, stage, device, _ = begin(arguments, argv, OutputSpread)
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    made = poisons.indices, poisons.images, poisons.base_images, poisons.labels
    groups = groups_of(dataset.train_images, dataset.train_labels, *made, seed=stage.seed)
    normalize = build_normalize(dataset, device)
    spreads = []
    for path, network in zip(args.networks, stage.networks, strict=True):
        model = nn.Sequential(normalize, read_network(path, network.model, dataset, device)).eval()
        spreads.append(around_network(model, groups, stage.output_std, stage.seed, device))
    write_arrays(
        args.std,
        names=np.array([network.name for network in stage.networks]),
        magnitudes=np.array(stage.output_std.magnitudes),
        groups=np.array(list(groups)),
        draws=np.array(stage.output_std.draws),
        std=torch.stack(spreads).numpy(),
    )


if __name__ == "__main__":
    run(main)
