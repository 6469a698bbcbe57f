"""Streams of random numbers: named, apart from each other, and the same however they are drawn."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from scipy import stats

from poisonlab.randomness import generator, stream_seed, uniform_rows

_WORD = 2**64


def philox(counter: int, key: int) -> list[int]:
    """Four words of Philox-4x64-10, as Salmon et al. 2011 write it."""
    words = [(counter >> 64 * place) % _WORD for place in range(4)]
    keys = [key % _WORD, key >> 64]
    for _ in range(10):
        left, right = 0xD2E7470EE14C6C93 * words[0], 0xCA5A826395121157 * words[2]
        words = [right // _WORD ^ words[1] ^ keys[0], right % _WORD, left // _WORD ^ words[3] ^ keys[1], left % _WORD]
        keys = [(keys[0] + 0x9E3779B97F4A7C15) % _WORD, (keys[1] + 0xBB67AE8584CAA73B) % _WORD]
    return words


def test_the_slow_philox_gives_the_published_words() -> None:
    """The known answer of its authors' library for a counter and a key of 0."""
    truth = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert philox(0, 0) == truth


def test_uniform_rows_are_the_slow_philox() -> None:
    rows, values, first = 3, 21, 5
    drawn = uniform_rows((rows, 3, 7), first, 2, "test").double().reshape(rows, values)
    for row, place in itertools.product(range(rows), range(values)):
        # The counter begins at 1; 21 values take 3 of its steps, of 8 values each.
        words = philox(1 + 3 * (first + row) + place // 8, stream_seed(2, "test"))
        half = words[place % 8 // 2] >> 32 * (place % 2) & 0xFFFFFFFF
        assert drawn[row, place].item() == (half >> 8) / 2**24


@pytest.mark.parametrize("part", [1, 3, 10, 64])
def test_rows_do_not_depend_on_the_parts(part: int) -> None:
    whole = uniform_rows((64, 3, 5, 5), 0, 7, "a")
    parts = [uniform_rows((min(part, 64 - first), 3, 5, 5), first, 7, "a") for first in range(0, 64, part)]
    assert torch.equal(torch.cat(parts), whole)
    assert uniform_rows((0, 3, 5, 5), 9, 7, "a").shape == (0, 3, 5, 5)
    torch.manual_seed(0)
    assert torch.equal(uniform_rows((2, 3, 5, 5), 40, 7, "a"), whole[40:42])


def test_seed_and_purpose_decide() -> None:
    first = uniform_rows((4, 50), 0, 7, "a")
    for seed, purpose in ((8, "a"), (7, "b")):
        assert not bool((uniform_rows((4, 50), 0, seed, purpose) == first).all(1).any())
    assert stream_seed(1, "a", 2) == stream_seed(1, "a", "2") != stream_seed(1, "a", 3)
    one, same = (torch.rand(5, generator=generator("cpu", 3, "x")) for _ in "ab")
    assert torch.equal(one, same)


def test_values_are_uniform_and_neighbours_independent() -> None:
    drawn = uniform_rows((1000, 3, 8, 8), 12_345, 0, "friendly-noise").double()
    assert 0 <= drawn.min() < 1e-4
    assert 1 - 1e-4 < drawn.max() < 1
    assert stats.kstest(drawn.flatten().numpy(), "uniform").pvalue > 1e-3
    # Each image by itself, and each pixel over the images: their p-values are uniform in turn.
    for sets in (drawn.flatten(1), drawn.flatten(1).T):
        found = [stats.kstest(some.numpy(), "uniform").pvalue for some in sets[:150]]
        assert stats.kstest(found, "uniform").pvalue > 1e-3
    for axis, step in itertools.product(range(4), (1, 2)):
        near = drawn.narrow(axis, 0, drawn.shape[axis] - step).flatten().numpy()
        far = drawn.narrow(axis, step, drawn.shape[axis] - step).flatten().numpy()
        assert abs(np.corrcoef(near, far)[0, 1]) < 4 / len(near) ** 0.5
    # The lowest of the 24 bits are as fair as the highest.
    bits = (drawn.flatten() * 2**24).long()
    for place in range(24):
        ones = int((bits >> place & 1).sum())
        assert stats.binomtest(ones, len(bits)).pvalue > 1e-4
