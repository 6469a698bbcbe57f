"""Examine one victim with a row's detector, and measure the outcome for targets and clean images."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import write_diverged, write_tensors
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed
from poisonlab.config.types import Name, Settings
from poisonlab.detection.deployment import deploy, draw_clean
from poisonlab.errors import DivergedError
from poisonlab.files import write_sealed
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.models.outputs import Rejects, accept_all, accuracy
from poisonlab.randomness import generator, stream_seed
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin
from poisonlab.training.outcome import goal_outcome


class Detection(Settings):
    """Settings of one detection."""

    attack: Name
    victim: Name
    defense: Name
    model: NamedModel
    detector: dict[str, object]
    clean_share: float
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument("--network", type=Path, required=True, help="weights of the victim")
    arguments.add_argument("--found", type=Path, required=True, help="output: findings and network (.safetensors)")
    arguments.add_argument("--metrics", type=Path, required=True, help="output: outcome (.json)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    arguments.add_argument("--settings", help="digest of all settings that the outcome depends on, for the card")
    args, stage, device, card = begin(arguments, argv, Detection)
    try:
        _examine(args, stage, device, card)
    except DivergedError as error:
        write_sealed(args.metrics, {**_who(stage), "failed": error.facts()})
        card.write_failed(args.card, error, settings=args.settings)
        write_diverged(args.found, error)


def _examine(args: argparse.Namespace, stage: Detection, device: torch.device, card: RunCard) -> None:
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons)
    network = read_network(args.network, stage.model, dataset, device)
    normalize = build_normalize(dataset, device)
    seed = stream_seed(stage.seed, "detector")
    clean = draw_clean(
        dataset.train_images,
        dataset.train_labels,
        dataset.num_classes,
        stage.clean_share,
        generator("cpu", seed, "clean images"),
    )
    deployed = deploy(stage.detector, network, normalize, clean, seed=seed)
    measures = {name: value for name, value in deployed.facts.items() if not isinstance(value, list)}
    rejects: Rejects = accept_all
    if deployed.rejects is not None:
        # STRIP costs a hundred predictions, and several measures use the same images.
        rejects = cache(deployed.rejects)
        measures["false_alarms"] = float(rejects(dataset.test_images).double().mean())
        if poisons.goal is not None:
            measures["targets_rejected"] = float(rejects(poisons.goal.targets).double().mean())
    if poisons.goal is not None:
        measures |= goal_outcome(deployed.network, normalize, poisons.goal, rejects)
    images, labels = dataset.test_images, dataset.test_labels
    measures["accuracy"] = accuracy(deployed.network, normalize, images, labels, rejects)
    targets = None if poisons.goal is None else len(poisons.goal)
    lists = {name: value for name, value in deployed.facts.items() if isinstance(value, list)}
    classes = poisons.classes(dataset.class_names, dataset.train_labels)
    found = {"measures": measures, "targets": targets, "classes": classes, "facts": lists}
    write_sealed(args.metrics, {**_who(stage), **found})
    card.write(args.card, measures=measures, settings=args.settings)
    weights = {f"network.{name}": tensor for name, tensor in deployed.network.state_dict().items()}
    write_tensors(args.found, "detection", {**deployed.tensors, **weights}, {})


def _who(stage: Detection) -> dict[str, str | int]:
    return {"attack": stage.attack, "victim": stage.victim, "defense": stage.defense, "seed": stage.seed}


if __name__ == "__main__":
    run(main)
