"""Compute the features and logits of every image by one network, once for all filters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.models.model import NamedModel
from poisonlab.config.types import Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import training_set
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.models.own_network import load_own
from poisonlab.models.wrapping import wrap
from poisonlab.runtime.program import parser, run
from poisonlab.scanning.features import features_of, has_test_split
from poisonlab.stage_program import begin


class Featuring(Settings):
    """The network's architecture: one of the lab's, or a function of the user's that returns it."""

    model: NamedModel | None = None
    network: str | None = None


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--network", type=Path, required=True, help="trained weights")
    arguments.add_argument("--poisons", type=Path, help="planted poisons; with them, test images are left out")
    arguments.add_argument("--features", type=Path, required=True, help="output: the features (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Featuring)
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons) if args.poisons else None
    if stage.model is not None:
        network = read_network(args.network, stage.model, dataset, device)
        normalize = build_normalize(dataset, device)
    else:
        network, normalize = _own(str(stage.network), args.network, dataset, device)
    tests = len(dataset.test_labels) if poisons is None and has_test_split(dataset) else 0
    found = features_of(
        network, normalize, training_set(dataset, poisons), dataset.test_images[:tests], dataset.test_labels[:tests]
    )
    card.write(args.card, fitted=found.fitted)
    found.save(args.features)


def _own(named: str, weights: Path, dataset: ImageDataset, device: torch.device) -> tuple[Classifier, Normalize]:
    """The user's network, which takes pixels in [0, 1], and a normalisation that changes nothing."""
    network = load_own(named, weights, dataset.image_shape, dataset.num_classes, device)
    channels = dataset.image_shape[0]
    return wrap(network), Normalize((0.0,) * channels, (1.0,) * channels).to(device)


if __name__ == "__main__":
    run(main)
