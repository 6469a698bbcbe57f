"""Decide which training examples a row's filters keep, by the features of a victim trained on all of them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import save_keep_list
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import write_diverged
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed
from poisonlab.config.start import Start
from poisonlab.config.types import Settings
from poisonlab.data.training_set import fine_tuning_rows, split_validation, training_set
from poisonlab.errors import DivergedError
from poisonlab.filters.chain import judge_all
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.models.outputs import outputs_of
from poisonlab.randomness import stream_seed
from poisonlab.runtime.cards import RunCard
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin


class Filtering(Settings):
    """Settings of one filter job; the filters are the row's own, in order."""

    model: NamedModel
    start: Start
    filters: tuple[dict[str, object], ...]
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, help="the poison set; clean data if not given")
    arguments.add_argument("--network", type=Path, required=True, help="weights of the victim whose features count")
    arguments.add_argument("--keep", type=Path, required=True, help="output: the keep-list (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Filtering)
    try:
        _filter(args, stage, device, card)
    except DivergedError as error:
        card.write_failed(args.card, error)
        write_diverged(args.keep, error)


def _filter(args: argparse.Namespace, stage: Filtering, device: torch.device, card: RunCard) -> None:
    dataset = read_dataset(args.dataset)
    poisons = PoisonSet.load(args.poisons) if args.poisons else None
    data, _ = split_validation(dataset, training_set(dataset, poisons, fine_tuning_rows(dataset, stage.start)))
    network = read_network(args.network, stage.model, dataset, device)
    normalize = build_normalize(dataset, device)
    features = outputs_of(nn.Sequential(network.extract, nn.Flatten()), normalize, data.images)
    kept = judge_all(stage.filters, features, data.labels.to(device), seed=stream_seed(stage.seed, "filter"))
    methods = [str(row["method"]) for row in stage.filters]
    card.write(args.card, filters=methods, dropped=list(kept.dropped))
    save_keep_list(args.keep, kept, methods)


if __name__ == "__main__":
    run(main)
