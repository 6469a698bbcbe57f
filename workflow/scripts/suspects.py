"""Rank the training images by every filter, and join the rankings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.stages import Seed
from poisonlab.config.types import Name, PositiveInt, Settings
from poisonlab.data.training_set import training_set
from poisonlab.runtime.program import parser, run
from poisonlab.scanning.features import Features
from poisonlab.scanning.ranking import join
from poisonlab.scanning.scores import Examples, score
from poisonlab.stage_program import begin


class Suspecting(Settings):
    """The filters."""

    filters: Annotated[tuple[Name, ...], Field(min_length=1)]
    neighbours: PositiveInt
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--features", type=Path, required=True, help="the features (.safetensors)")
    arguments.add_argument("--poisons", type=Path, help="planted poisons, if the features are of data with them")
    arguments.add_argument("--memory", type=int, default=512, help="MiB that distances may take")
    arguments.add_argument("--suspects", type=Path, required=True, help="output: the ranking (.safetensors)")
    arguments.add_argument("--card", type=Path, required=True, help="output: run card (.json)")
    args, stage, device, card = begin(arguments, argv, Suspecting)
    poisons = PoisonSet.load(args.poisons) if args.poisons else None
    labels = training_set(read_dataset(args.dataset), poisons).labels
    found = Features.load(args.features)
    examples = Examples(
        found.features.to(device),
        found.logits.to(device),
        labels.to(device),
        neighbours=stage.neighbours,
        memory=args.memory * 2**20,
        seed=stage.seed,
    )
    scores, seconds = [], {}
    for name in stage.filters:
        begun = card.seconds()
        scores.append(score(name, examples))
        seconds[name] = round(card.seconds() - begun, 3)
        print(f"{name}: {seconds[name]:.1f} s", flush=True)
    card.write(args.card, seconds_of=seconds)
    join(stage.filters, torch.stack(scores)).save(args.suspects)


if __name__ == "__main__":
    run(main)
