"""Use a trained network of the user in place of one that the workflow trains."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.config.models.model import NamedModel
from poisonlab.config.types import Settings
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_network, build_normalize, save_weights
from poisonlab.models.outputs import accuracy
from poisonlab.models.own_network import load_foreign
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class Adopting(Settings):
    """The network's architecture."""

    model: NamedModel


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--own", type=Path, required=True, help="the user's weights (.safetensors)")
    arguments.add_argument("--weights", type=Path, required=True, help="output: the weights in the workflow's format")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: the network's accuracy (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Adopting)
    dataset = read_dataset(args.dataset)
    network = build_network(stage.model, dataset, seed=0, device=device)
    load_foreign(args.own, network)
    measured = accuracy(network, build_normalize(dataset, device), dataset.test_images, dataset.test_labels)
    write_sealed(args.metrics, {"final": {"accuracy": measured}, "history": []})
    card.write(args.card)
    save_weights(args.weights, network, {"accuracy": measured})


if __name__ == "__main__":
    run(main)
