"""Make friendly noise for a row that squeezes its training images (JPEG, gray) before it trains on them.

The victim adds the noise to squeezed images, so it is made for these: noise.py is called on a dataset and poisons whose
training images were squeezed beforehand. Validation images are squeezed with them, and only watched.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

import noise
from poisonlab.artifacts.dataset import read_dataset, save_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Settings
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.runtime.program import run, settings
from poisonlab.training.defense import Defense


class Squeezed(Settings):
    """What is done to the images."""

    squeezes: tuple[dict[str, object], ...]


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, allow_abbrev=False, epilog="All other options are those of noise.py."
    )
    arguments.add_argument("--squeezes", nargs="+", required=True, metavar="KEY=VALUE", help="in their order")
    arguments.add_argument("--dataset", type=Path, required=True, help="the dataset (.safetensors)")
    arguments.add_argument("--poisons", type=Path, help="the poison set; clean data if not given")
    arguments.add_argument("--checkpoint", type=Path, required=True, help="squeezed images lie beside it meanwhile")
    args, others = arguments.parse_known_args(argv)
    squeezes = build_defenses(read_stage(Squeezed, settings(args.squeezes)).squeezes, noise=None)
    # Called as parts of the checkpoint, they go with it should this process be killed.
    dataset, poisons = (args.checkpoint.with_name(f"{args.checkpoint.stem}.{kind}.safetensors") for kind in _KINDS)
    try:
        clean = read_dataset(args.dataset)
        save_dataset(dataset, replace(clean, train_images=squeezed(clean.train_images, squeezes)))
        inputs = ["--dataset", str(dataset)]
        if args.poisons is not None:
            whole = PoisonSet.load(args.poisons)
            replace(whole, images=squeezed(whole.images, squeezes)).save(poisons)
            inputs += ["--poisons", str(poisons)]
        noise.main([*others, *inputs, "--checkpoint", str(args.checkpoint)])
    finally:
        for path in (dataset, poisons):
            path.unlink(missing_ok=True)


_KINDS = ("dataset", "poisons")


def squeezed(images: Tensor, squeezes: Sequence[Defense]) -> Tensor:
    """Images (N, C, H, W), as the defenses leave them for the training: uint8."""
    data = TrainingSet(images, torch.zeros(len(images), dtype=torch.int64), torch.arange(len(images)))
    for squeeze in squeezes:
        data = squeeze.prepare(data)
    return data.images


if __name__ == "__main__":
    run(main)
