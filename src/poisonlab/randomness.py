"""Independent random streams, each a pure function of a seed and of what the stream is for.

No stream depends on how much another one has drawn, so a training that is resumed at an epoch's start draws what the
uninterrupted one would have drawn, and no random state needs to be saved.
"""

from __future__ import annotations

import hashlib

import torch


def stream_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for the stream that ``purpose`` names."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(device: torch.device | str, seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on ``device`` for the stream that ``purpose`` names."""
    return torch.Generator(device).manual_seed(stream_seed(seed, *purpose))
