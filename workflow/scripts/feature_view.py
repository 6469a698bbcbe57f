"""Compute the features of a target, its poisons and clean images of both classes, and which of them filters drop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.keep_list import load_keep_list
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.models.model import NamedModel
from poisonlab.config.stages import Seed
from poisonlab.config.start import Start
from poisonlab.config.types import Name, Settings
from poisonlab.data.squeezing import in_bytes
from poisonlab.landscapes.feature_view import Shown, examples_of, shown_examples, view_of
from poisonlab.models.networks import build_normalize, read_network
from poisonlab.runtime.program import parser, run
from poisonlab.stage_program import begin

_MOST = 20
"""Images of a row in the file; a figure shows some of them."""


class Viewed(Settings):
    """One network: its victim and row, and the training set that it is shown with."""

    victim: Name
    defense: Name
    known_as: Name
    """The defense's name in published tables, or else its own."""
    model: NamedModel
    start: Start
    filtered: bool
    """Whether the row has filters, and so a keep-list."""


class View(Settings):
    """Settings of one view."""

    networks: tuple[Viewed, ...]
    seed: Seed


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="the poison set")
    arguments.add_argument(
        "--networks", type=Path, nargs="+", required=True, help="weights, in the order of the settings"
    )
    arguments.add_argument("--keep", type=Path, nargs="*", default=[], help="keep-lists of the rows with filters")
    arguments.add_argument("--view", type=Path, required=True, help="output: features, distances and images (.npz)")
    args, stage, device, _ = begin(arguments, argv, View)
    dataset, poisons = read_dataset(args.dataset), PoisonSet.load(args.poisons)
    normalize, keeps = build_normalize(dataset, device), iter(args.keep)
    arrays: dict[str, NDArray[Any]] = {}
    for place, (path, viewed) in enumerate(zip(args.networks, stage.networks, strict=True)):
        shown = shown_examples(dataset, poisons, viewed.start)
        network = read_network(path, viewed.model, dataset, device)
        projection, layers = view_of(network, normalize, shown)
        dropped = ~load_keep_list(next(keeps), shown.total)[shown.places] if viewed.filtered else None
        found = {
            "points": projection.points,
            "target": projection.target,
            "to_target": projection.to_target,
            "between": torch.tensor(projection.between),
            "group": shown.group,
            "dropped": torch.zeros(len(shown.group), dtype=torch.bool) if dropped is None else dropped,
            "layer_poisons": layers.poisons,
            "layer_bases": layers.bases,
            "layer_norms": layers.norms,
            **({} if dropped is None else _images(shown, dropped, stage.seed)),
        }
        arrays |= {f"{name}.{place}": tensor.numpy() for name, tensor in found.items()}
        arrays[f"layers.{place}"] = np.array(layers.layers)
    write_arrays(
        args.view,
        victims=np.array([viewed.victim for viewed in stage.networks]),
        defenses=np.array([viewed.defense for viewed in stage.networks]),
        known_as=np.array([viewed.known_as for viewed in stage.networks]),
        filtered=np.array([viewed.filtered for viewed in stage.networks]),
        classes=np.array([dataset.class_names[label] for label in shown.classes]),
        **arrays,
    )


def _images(shown: Shown, dropped: Tensor, seed: int) -> dict[str, Tensor]:
    """Images of the target, and of some poisons and clean examples, (E, C, H, W) uint8; which poisons were dropped."""
    chosen = examples_of(shown, dropped, _MOST, seed)
    images = {f"images_{kind}": in_bytes(shown.images[places]) for kind, places in chosen.items()}
    return {"images_target": in_bytes(shown.target), **images, "poisons_dropped": dropped[chosen["poisons"]]}


if __name__ == "__main__":
    run(main)
