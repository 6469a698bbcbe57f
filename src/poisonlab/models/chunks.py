"""Passes over many images in chunks that fit into memory."""

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
"""Values of one CIFAR image; callers name the sizes of chunks for such images."""

_CURE = "run fewer jobs at once (--cores; on a GPU jobs_per_gpu), or take smaller images or a smaller network"


def images_at_once(images: Tensor, most: int = 1000) -> int:
    """The number of images (N, C, H, W) in one pass: ``most`` if an image has up to 3 x 32 x 32 values. For larger
    images, a smaller number with the same bytes in total, at least 1."""
    return max(1, min(most, most * _VALUES // max(1, prod(images.shape[1:]))))


def in_chunks(work: Callable[[slice], T], count: int, at_once: int, what: str = "images") -> Iterator[T]:
    """The results of ``work`` on slices that cover 0 ... count - 1 in order.

    There is at least one slice, which is empty if ``count`` is 0. If memory runs out, on the CPU or a GPU, the slice is
    halved and tried again, and later slices keep the smaller size.

    Args:
        work: maps a slice to its result, which is not None. If it runs out of memory, it is called again on the first
            half of the slice.
        count: number of items.
        at_once: length of a slice, at least 1.
        what: names the items in the error.

    Raises:
        TooLittleMemoryError: memory does not suffice for one item.
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
    """The result, or None if memory ran out. On return, the memory of the failed call and its exception are free."""
    try:
        return work(part)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()  # does nothing if CUDA is not in use
    return None


@contextmanager
def memory_for(what: str, cure: str) -> Iterator[None]:
    """If memory runs out inside the block, raise an error that names the purpose ``what`` and the ``cure``.

    Raises:
        TooLittleMemoryError: memory ran out.
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
