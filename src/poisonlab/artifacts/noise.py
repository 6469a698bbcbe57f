"""Friendly noise on disk: one half-precision value per pixel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.errors import DataError

KIND = "friendly noise"


def save_noise(path: Path, noise: Tensor, origin: Tensor, facts: dict[str, Any], made: Tensor | None = None) -> None:
    """Write noise in units of the [0, 1] pixel range, as float16: exact to 1/32 of a level, or to 1/16 beyond 127
    levels.

    Args:
        noise: (N, C, H, W).
        origin: (N,) int64, the training row that each noise belongs to, -1 for an appended poison.
        facts: how the noise was made.
        made: (N,) bool, which rows have noise; the others, filtered or held out, are zeros. All if not given.
    """
    made = torch.ones(len(noise), dtype=torch.bool) if made is None else made
    write_tensors(path, KIND, {"noise": noise.to(torch.float16), "origin": origin, "made": made}, facts)


def load_noise(path: Path) -> Tensor:
    """Noise (N, C, H, W) float16.

    Raises:
        DataError: the file is missing, damaged, or not friendly noise.
    """
    tensors, _ = read_tensors(path, KIND)
    if "noise" not in tensors or tensors["noise"].ndim != 4:
        raise DataError(f"{path} lacks the noise: delete it and run the workflow again")
    return tensors["noise"]
