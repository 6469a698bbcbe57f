"""Draw figure 4: histograms of friendly noise and of random noise."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from poisonlab.artifacts.tensors import read_tensors
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.types import PositiveLevels, Settings
from poisonlab.defenses.random_noise import random_noise
from poisonlab.errors import DataError, SettingsError
from poisonlab.figures.noise_histogram import noise_histogram, noise_histogram_caption
from poisonlab.figures.program import checked, drawing, parser
from poisonlab.figures.style import save
from poisonlab.runtime.program import run, settings


class Bound(Settings):
    """What bounds the friendly noise."""

    zeta: PositiveLevels


DRAWS = 1_000_000
SEED = 0


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--noise", type=Path, required=True, help="friendly noise of a training set")
    options = arguments.parse_args(argv)
    sections = settings(options.spec)
    look = drawing(sections)
    listed = sections.get("noise", [])
    if not isinstance(listed, list):
        raise SettingsError("noise must be a list: noise.0.distribution=..., noise.0.mu=..., noise.1. ...")
    bound = checked(Bound, sections.get("friendly", {}), "friendly")
    kinds = [checked(RandomNoise, value, f"noise.{place}") for place, value in enumerate(listed)]
    tensors, _ = read_tensors(options.noise, "friendly noise")
    if "noise" not in tensors:
        raise DataError(f"{options.noise} lacks the noise itself: make it again")
    stream = torch.Generator().manual_seed(SEED)
    drawn = [
        (kind.distribution, kind.mu, random_noise(torch.Size([DRAWS]), kind, stream).numpy() * 255) for kind in kinds
    ]
    noise = tensors["noise"].numpy()
    caption = noise_histogram_caption(noise, bound.zeta, drawn)
    save(noise_histogram(noise, drawn), caption, options.pdf, options.png, options.caption, look.dpi)


if __name__ == "__main__":
    run(main)
