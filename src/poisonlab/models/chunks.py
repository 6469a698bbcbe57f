"""Passes over many images, so many at once that they fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import TypeVar

import torch
from torch import Tensor

from poisonlab.errors import TooLittleMemoryError, is_out_of_memory

T = TypeVar("T")

_VALUES = 3 * 32 * 32
"""Of one CIFAR image: chunks of these have the sizes that the callers name."""

_CURE = "run fewer jobs at once (--cores; on a GPU jobs_per_gpu), or take smaller images or a smaller network"


def images_at_once(images: Tensor, most: int = 1000) -> int:
    """Images (N, C, H, W) of one pass: ``most`` of up to 3 x 32 x 32 values, of larger ones as many as have the same
    number of bytes, at least 1."""
    return max(1, min(most, most * _VALUES // max(1, prod(images.shape[1:]))))


def in_chunks(work: Callable[[slice], T], count: int, at_once: int, what: str = "images") -> Iterator[T]:
    """The results of ``work`` on slices that cover 0 ... count - 1 in order.

    At least one slice, an empty one of 0. Where memory runs out, on the CPU or a GPU, the slice is halved and tried
    again, and later ones have its size.

    Args:
        work: maps a slice to its result, which is not None; called again on the first half of a slice that it failed
            on.
        count: how many there are.
        at_once: length of a slice, at least 1.
        what: names them in the error.

    Raises:
        TooLittleMemoryError: memory does not suffice for one of them.
    """
    start = 0
    while True:
        part = slice(start, min(start + at_once, count))
        if (result := _tried(work, part)) is not None:
            yield result
            if (start := part.stop) == count:
                return
        elif part.stop - part.start <= 1:
            raise TooLittleMemoryError(f"out of memory, even with one of the {what} at a time: {_CURE}")
        else:
            at_once = (part.stop - part.start) // 2


def _tried(work: Callable[[slice], T], part: slice) -> T | None:
    """The result, or None if memory ran out. What the failed call held is free on return, with its exception."""
    try:
        return work(part)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # nothing where CUDA is not in use
    return None


@contextmanager
def memory_for(what: str, cure: str) -> Iterator[None]:
    """Name ``what`` memory did not suffice for and the ``cure`` if it runs out inside the block.

    Raises:
        TooLittleMemoryError: it did.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise TooLittleMemoryError(f"out of memory for {what}: {cure}, or {_CURE}") from error


def shape_of(images: Tensor) -> str:
    """``3 x 32 x 32``, of images (N, C, H, W)."""
    return " x ".join(map(str, images.shape[1:]))
