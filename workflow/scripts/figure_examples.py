"""Draw figure 1: poisons, what was changed in them, and their friendly noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import read_tensors
from poisonlab.errors import DataError
from poisonlab.figures.examples import examples, examples_caption, noise_places
from poisonlab.figures.program import drawing, parser
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--poisons", type=Path, required=True, help="poison set")
    arguments.add_argument("--noise", type=Path, required=True, help="friendly noise of the poisoned training set")
    options = arguments.parse_args(argv)
    look = drawing(settings(options.spec))
    poisons = PoisonSet.load(options.poisons)
    tensors, _ = read_tensors(options.noise, "friendly noise")
    if not {"noise", "origin"} <= set(tensors):
        raise DataError(f"{options.noise} lacks the noise, or whose it is: make it again")
    noise = tensors["noise"].numpy()
    shipped = poisons.images.numpy()
    places = noise_places(poisons.indices.numpy(), tensors["origin"].numpy())
    goal = poisons.goal
    targets = None if goal is None or goal.untriggered is None else goal.targets.numpy()
    # A column each, so no more than there are of both.
    shown = slice(look.examples if targets is None else min(look.examples, len(targets)))
    arrays = (
        poisons.base_images.numpy()[shown],
        shipped[shown] if shipped.dtype == np.uint8 else shipped[shown] * 255,
        noise[places[shown]].astype(np.float32) * 255,
    )
    figure = examples(*arrays, None if targets is None else targets[shown][: len(places)])
    caption = examples_caption(*arrays, total=len(places), triggered=targets is not None)
    save(figure, caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
