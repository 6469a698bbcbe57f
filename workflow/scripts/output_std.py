"""Compute figure 5c: how far the networks' output spreads around poisons, their bases and clean images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.files import write_arrays
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.commandline import parser, prepare_torch, run, settings
from poisonlab.config.figures import OutputStd
from poisonlab.config.models import ModelSettings
from poisonlab.config.stages import Seed, read_stage
from poisonlab.config.types import Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import pixels
from poisonlab.errors import SettingsError
from poisonlab.landscapes.output_std import clean_rows, output_std
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.randomness import generator


class Network(Settings):
    """One network: what it is called, and its architecture."""

    name: str
    model: ModelSettings


class OutputSpread(Settings):
    """Settings of one attack's figure."""

    networks: tuple[Network, ...]
    output_std: OutputStd
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument(
        "--networks", type=Path, nargs="+", required=True, help="weights, in the order of the settings"
    )
    arguments.add_argument("--std", type=Path, required=True, help="output: standard deviations (.npz)")
    args = arguments.parse_args(argv)
    stage = read_stage(OutputSpread, settings(args.spec))
    if len(args.networks) != len(stage.networks):
        raise SettingsError(f"--networks: {len(args.networks)} files for {len(stage.networks)} networks")
    device = prepare_torch(args.device, args.threads, args.jobs_per_gpu)

    dataset = read_dataset(args.dataset)
    groups = groups_of(dataset, PoisonSet.load(args.poisons), stage.seed)
    normalize = build_normalize(dataset, device)
    spreads = []
    for path, network in zip(args.networks, stage.networks, strict=True):
        model = nn.Sequential(normalize, read_network(path, network.model, dataset, device)).eval()
        spreads.append(around(model, groups, stage, device))
    write_arrays(
        args.std,
        names=np.array([network.name for network in stage.networks]),
        magnitudes=np.array(stage.output_std.magnitudes),
        groups=np.array(list(groups)),
        draws=np.array(stage.output_std.draws),
        std=torch.stack(spreads).numpy(),
    )


def groups_of(dataset: ImageDataset, poisons: PoisonSet, seed: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Images and labels of the poisons, of their bases, and of clean images of the same classes."""
    clean = clean_rows(
        dataset.train_labels, poisons.indices, poisons.labels, generator("cpu", seed, "output_std", "clean")
    )
    return {
        "poisons": (poisons.images, poisons.labels),
        "bases": (poisons.base_images, poisons.labels),
        "clean": (dataset.train_images[clean], dataset.train_labels[clean]),
    }


def around(
    model: nn.Module, groups: dict[str, tuple[Tensor, Tensor]], stage: OutputSpread, device: torch.device
) -> Tensor:
    """(groups, P, M) float32 of one network; nan where a group has fewer than P images."""
    chosen = stage.output_std
    spread = torch.full((len(groups), len(groups["poisons"][0]), len(chosen.magnitudes)), float("nan"))
    for rows, (images, labels) in zip(spread, groups.values(), strict=True):
        # From the start for every network and group: a poison and its base are moved alike.
        stream = generator("cpu", stage.seed, "output_std")
        inputs = pixels(images.to(device)), labels.to(device)
        if len(images):
            rows[: len(images)] = output_std(model, *inputs, chosen.magnitudes, chosen.draws, stream)
    return spread


if __name__ == "__main__":
    run(main)
