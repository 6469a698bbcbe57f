"""Compute what one network makes of every image, once for all filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Settings
from poisonlab.data.training_set import training_set
from poisonlab.determinism import prepare_torch
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import parser, run, settings
from poisonlab.scanning.features import features_of, has_test_split


class Featuring(Settings):
    """The network's architecture."""

    model: NamedModel


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--network", type=Path, required=True, help="trained weights")
    arguments.add_argument("--poisons", type=Path, help="planted poisons; test images are left out then")
    arguments.add_argument("--features", type=Path, required=True, help="output: the features (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args = arguments.parse_args(argv)
    stage = read_stage(Featuring, settings(args.spec))
    device = prepare_torch(args.device, args.threads, args.jobs_per_gpu)
    card = RunCard(device, args.spec)
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons) if args.poisons else None
    network = read_network(args.network, stage.model, dataset, device)
    tests = dataset.test_images if poisons is None and has_test_split(dataset) else dataset.test_images[:0]
    found = features_of(network, build_normalize(dataset, device), training_set(dataset, poisons), tests)
    card.write(args.card, fitted=found.fitted)
    found.save(args.features)


if __name__ == "__main__":
    run(main)
