"""Measure how many poisons of one set are misclassified by networks that were trained on clean data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.transfer import transfer
from poisonlab.config.models.model import NamedNetwork
from poisonlab.config.stages import Seed
from poisonlab.config.transfer import Score
from poisonlab.config.types import Name, Settings
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class TransferMeasurement(Settings):
    """Settings of one poison set's transfer."""

    attack: Name
    networks: tuple[NamedNetwork, ...]
    score: Score
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--networks", type=Path, nargs="+", required=True, help="weights, in the settings' order")
    arguments.add_argument("--measured", type=Path, required=True, help="output: a share for each network (.json)")
    arguments.add_argument("--settings", help="digest of all settings that the shares depend on, for the output")
    args, stage, device, _ = begin(arguments, argv, TransferMeasurement)
    dataset, poisons = read_dataset(args.dataset), PoisonSet.load(args.poisons)
    normalize = build_normalize(dataset, device)
    shares = {}
    for path, judge in zip(args.networks, stage.networks, strict=True):
        network = read_network(path, judge.model, dataset, device)
        shares[judge.name] = transfer(network, normalize, poisons, dataset.train_labels, stage.score)
    found = {"attack": stage.attack, "seed": stage.seed, "shares": shares, "settings": args.settings}
    write_sealed(args.measured, found)


if __name__ == "__main__":
    run(main)
