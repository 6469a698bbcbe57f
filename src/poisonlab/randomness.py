"""Independent random streams, each a pure function of a seed and the stream's purpose.

No stream depends on how much another has drawn. A training resumed at the start of an epoch therefore draws the same
numbers as an uninterrupted one. No random state needs to be saved.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import torch
from torch import Tensor


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for the stream that ``purpose`` names."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on ``device`` for the stream that ``purpose`` names."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *purpose))


def uniform_rows(shape: tuple[int, ...], first: int, seed: int, *purpose: str | int) -> Tensor:
    """Rows ``first``, ``first`` + 1, ... of an endless table of uniform numbers, drawn in parts of any size.

    Philox-4x64-10 (Salmon et al. 2011) makes the numbers, with the place in the table as its counter. So each number
    depends only on the stream, its row and its place in the row, and is the same on every device.

    Args:
        shape: (rows, *shape of a row).
        first: first row of the part.
        seed, purpose: name the stream.

    Returns:
        ``shape``, float32 on the CPU, multiples of 2^-24 in [0, 1).
    """
    rows, values = shape[0], math.prod(shape[1:])
    steps = -(-values // 8)  # steps of the counter per row; each gives four words of 64 bits
    words = np.random.Philox(key=stream_seed(seed, *purpose)).advance(first * steps).random_raw(rows * steps * 4)
    high = (words.view(np.uint32) >> 8).astype(np.float32).reshape(rows, steps * 8)[:, :values]
    return torch.from_numpy(high).mul_(2.0**-24).reshape(shape)
