"""Augmentation against loops over pixels."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from poisonlab.config.recipe import Augmentation
from poisonlab.data.augmentation import alternating_flips, augment, translate
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Normalize


def pictures(count: int, channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, height, width, generator=stream, dtype=torch.float64)


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slow_translate(image: NDArray[np.float64], dy: float, dx: float, flip: bool) -> NDArray[np.float64]:
    """Bilinear reading of (C, H, W) at (i + dy, j + dx), 0 outside; then mirrored."""
    channels, height, width = image.shape

    def read(c: int, y: int, x: int) -> float:
        return float(image[c, y, x]) if 0 <= y < height and 0 <= x < width else 0.0

    moved = np.zeros_like(image)
    for c, i, j in itertools.product(range(channels), range(height), range(width)):
        y, x = i + dy, j + dx
        top, left = math.floor(y), math.floor(x)
        v, u = y - top, x - left
        moved[c, i, j] = (
            (1 - v) * (1 - u) * read(c, top, left)
            + (1 - v) * u * read(c, top, left + 1)
            + v * (1 - u) * read(c, top + 1, left)
            + v * u * read(c, top + 1, left + 1)
        )
    return moved[:, :, ::-1] if flip else moved


def ramps(count: int, size: int = 32) -> Tensor:
    """Channel 0 holds each pixel's row, channel 1 its column: a moved image tells by how much."""
    rows = torch.arange(size, dtype=torch.float64)[:, None].expand(size, size)
    return torch.stack([rows, rows.T])[None].repeat(count, 1, 1, 1)


def offsets_of(moved: Tensor) -> Tensor:
    """(N, 2) offsets read off moved, unmirrored ramps at an inner pixel."""
    return moved[:, :, 16, 16] - 16


def test_zero_shift_is_the_identity() -> None:
    images = pictures(3, 2, 7, 5).float()
    zero = torch.zeros(3, 2)
    assert torch.equal(translate(images, zero), images)
    still = Augmentation(kind="shift", pixels=0, flip=False)
    assert torch.equal(augment(images, still, stream()), images)
    assert augment(images, Augmentation(kind="none"), stream()) is images


@given(
    height=st.integers(1, 6),
    width=st.integers(1, 6),
    dy=st.floats(-7, 7, allow_subnormal=False),
    dx=st.floats(-7, 7, allow_subnormal=False),
    flip=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_translate_is_the_slow_bilinear_loop(height: int, width: int, dy: float, dx: float, flip: bool) -> None:
    images = pictures(2, 2, height, width)
    # The second image has another offset and no mirror: images do not share them.
    offsets = torch.tensor([[dy, dx], [0.25, -1.5]], dtype=torch.float64)
    ours = translate(images, offsets, torch.tensor([flip, False]))
    slow = [slow_translate(images[0].numpy(), dy, dx, flip), slow_translate(images[1].numpy(), 0.25, -1.5, False)]
    assert np.allclose(ours.numpy(), np.stack(slow), rtol=0, atol=1e-14)


@given(
    dy=st.integers(-6, 6), dx=st.integers(-6, 6), flip=st.booleans(), height=st.integers(1, 5), width=st.integers(1, 5)
)
@settings(max_examples=60, deadline=None)
def test_whole_shifts_copy_pixels(dy: int, dx: int, flip: bool, height: int, width: int) -> None:
    images = pictures(1, 3, height, width)
    offsets, flips = torch.tensor([[dy, dx]]), torch.tensor([flip])
    slow = slow_translate(images[0].numpy(), dy, dx, flip)
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        truth = torch.from_numpy(slow.copy())[None].to(dtype)
        assert torch.equal(translate(images.to(dtype), offsets, flips), truth)
        assert torch.equal(translate(images.to(dtype), offsets.float(), flips), truth)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 2.0**-22), (torch.bfloat16, 2.0**-8)])
def test_the_shares_of_pixels_are_exact_to_the_images_rounding(
    dtype: torch.dtype, error: float, autocast: bool
) -> None:
    """Also far from the origin and inside autocast, which would round matrices to bfloat16."""
    images = pictures(4, 1, 9, 200).to(dtype)
    offsets = torch.rand(4, 2, generator=stream(4)) * 8 - 4
    flips, black = torch.tensor([True, False, True, False]), torch.tensor(-2.0, dtype=dtype).view(1, 1, 1, 1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        ours, padded = translate(images, offsets, flips), translate(images, offsets, flips, black)
    assert ours.dtype == padded.dtype == dtype
    for image, result, other, (dy, dx), flip in zip(images, ours, padded, offsets.tolist(), flips, strict=True):
        slow = torch.from_numpy(slow_translate(image.double().numpy(), dy, dx, bool(flip)).copy())
        assert torch.allclose(result.double(), slow, rtol=error, atol=8 * 2.0**-24)
        slow = torch.from_numpy(slow_translate(image.double().numpy() + 2, dy, dx, bool(flip)).copy()) - 2
        assert torch.allclose(other.double(), slow, rtol=error, atol=16 * 2.0**-24)


def test_a_batch_of_batches_under_vmap() -> None:
    images = pictures(6, 2, 5, 7).view(2, 3, 2, 5, 7)
    offsets, flips = torch.rand(2, 3, 2, generator=stream(1)) * 4 - 2, torch.rand(2, 3, generator=stream(2)) < 0.5
    black = torch.tensor(0.3).view(1, 1, 1, 1)
    ours = torch.func.vmap(translate, (0, 0, 0, None))(images, offsets, flips, black)
    slow = [translate(*each, black) for each in zip(images, offsets, flips, strict=True)]
    assert torch.allclose(ours, torch.stack(slow), rtol=0, atol=1e-14)

    def squares(images: Tensor, offsets: Tensor) -> Tensor:
        return translate(images, offsets).square().sum()

    gradient = torch.func.vmap(torch.func.grad(squares))(images, offsets)
    (truth,) = torch.autograd.grad(sum(map(squares, leaves := images.clone().requires_grad_(), offsets)), leaves)
    assert torch.allclose(gradient, truth, rtol=0, atol=1e-13)


@given(dy=st.floats(-4, 4, allow_subnormal=False), dx=st.floats(-4, 4, allow_subnormal=False), flip=st.booleans())
@settings(max_examples=40, deadline=None)
def test_black_outside_is_to_pad_before_normalising(dy: float, dx: float, flip: bool) -> None:
    """Zeros around pixels in [0, 1], then the normalisation, as the public poisoning benchmark has it."""
    images, flips = pictures(1, 2, 5, 4).sigmoid(), torch.tensor([flip])
    normalize = Normalize((0.5, 0.4), (0.25, 0.2)).double()
    slow = normalize(torch.from_numpy(slow_translate(images[0].numpy(), dy, dx, flip).copy())[None])
    offsets = torch.tensor([[dy, dx]], dtype=torch.float64)
    assert torch.allclose(translate(normalize(images), offsets, flips, normalize.black), slow, atol=1e-9)
    dy, dx = round(dy), round(dx)
    slow = normalize(torch.from_numpy(slow_translate(images[0].numpy(), dy, dx, flip).copy())[None])
    whole = translate(normalize(images), torch.tensor([[dy, dx]]), flips, normalize.black)
    assert torch.allclose(whole, slow, rtol=0, atol=1e-15)


@pytest.mark.parametrize("kind", ["shift", "crop"])
def test_padding_changes_the_outside_alone(kind: str) -> None:
    normalize = Normalize((0.5, 0.4), (0.25, 0.2)).double()
    images = normalize(pictures(40, 2, 8, 8).sigmoid())
    mean, black = (Augmentation(kind=kind, pixels=3, padding=padding) for padding in ("mean", "black"))
    first, second = augment(images, mean, stream(2)), augment(images, black, stream(2), normalize.black)
    # A white image in a black world tells how much of each pixel comes from inside.
    inside = augment(torch.ones_like(images), mean, stream(2))
    assert torch.allclose(second, first + (1 - inside) * normalize.black, atol=1e-12)
    assert bool((inside < 1).any())
    with pytest.raises(SettingsError, match="padding: black") as caught:
        augment(images, black, stream())
    assert "\n" not in str(caught.value)


def test_flip_mirrors_the_marked_images_only() -> None:
    images = pictures(3, 2, 4, 6)
    flips = torch.tensor([True, False, True])
    truth = torch.stack([images[0].flip(-1), images[1], images[2].flip(-1)])
    assert torch.equal(translate(images, torch.zeros(3, 2), flips), truth)


def test_half_a_pixel_averages_neighbours() -> None:
    images = pictures(1, 2, 6, 6)
    right = translate(images, torch.tensor([[0.0, 0.5]]))
    assert torch.allclose(right[..., :-1], (images[..., :-1] + images[..., 1:]) / 2)
    assert torch.allclose(right[..., -1], images[..., -1] / 2)
    down = translate(images, torch.tensor([[0.5, 0.0]]))
    assert torch.allclose(down[..., :-1, :], (images[..., :-1, :] + images[..., 1:, :]) / 2)


def test_gradients() -> None:
    images = pictures(2, 1, 4, 5).requires_grad_()
    offsets = torch.tensor([[0.3, -1.2], [1.0, 0.6]], dtype=torch.float64)
    flips = torch.tensor([True, False])
    assert torch.autograd.gradcheck(lambda x: translate(x, offsets, flips), (images,))
    assert torch.autograd.gradgradcheck(lambda x: translate(x, offsets, flips).square(), (images,))
    assert torch.autograd.gradcheck(lambda x: translate(x, offsets.round().long(), flips), (images,))
    for kind in ("shift", "crop"):
        chosen = Augmentation(kind=kind, pixels=2)
        assert torch.autograd.gradcheck(lambda x, chosen=chosen: augment(x, chosen, stream(3)), (images,))
        dark = chosen.model_copy(update={"padding": "black"})
        black = torch.tensor(-1.5).view(1, 1, 1, 1)
        assert torch.autograd.gradcheck(lambda x, dark=dark, black=black: augment(x, dark, stream(3), black), (images,))


@pytest.mark.parametrize("pixels", [0.5, 4.0])
def test_shifts_are_uniform_along_each_axis(pixels: float) -> None:
    moved = augment(ramps(2000), Augmentation(kind="shift", pixels=pixels, flip=False), stream(1))
    offsets = offsets_of(moved)
    assert offsets.abs().max() <= pixels + 1e-5
    for axis in (0, 1):
        drawn = offsets[:, axis].numpy()
        assert stats.kstest(drawn, stats.uniform(-pixels, 2 * pixels).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(offsets.T.numpy())[0, 1]) < 4 / 2000**0.5


def test_crop_moves_by_whole_pixels_within_range() -> None:
    offsets = offsets_of(augment(ramps(2000), Augmentation(kind="crop", pixels=3, flip=False), stream(1)))
    assert torch.equal(offsets, offsets.round())
    for axis in (0, 1):
        assert offsets[:, axis].unique().tolist() == [-3, -2, -1, 0, 1, 2, 3]
    still = augment(ramps(50), Augmentation(kind="crop", pixels=0.9, flip=False), stream())
    assert torch.equal(still, ramps(50))


def test_crop_draws_every_offset_equally_often() -> None:
    """Padding by p and cropping at random, as EPIC and the poisoning benchmark do, has 2p + 1 equal offsets."""
    offsets = offsets_of(augment(ramps(2000), Augmentation(kind="crop", pixels=4, flip=False), stream(2)))
    for axis in (0, 1):
        counts = torch.bincount(offsets[:, axis].long() + 4, minlength=9)
        assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_crop_stays_within_a_fractional_limit() -> None:
    offsets = offsets_of(augment(ramps(500), Augmentation(kind="crop", pixels=1.7, flip=False), stream()))
    assert offsets.abs().max() <= 1.7


@pytest.mark.parametrize("kind", ["shift", "crop"])
def test_half_of_the_images_are_mirrored(kind: str) -> None:
    moved = augment(ramps(1000), Augmentation(kind=kind, pixels=2, flip=True), stream(5))
    mirrored = int((moved[:, 1, 16, 17] < moved[:, 1, 16, 16]).sum())
    assert stats.binomtest(mirrored, 1000).pvalue > 1e-3
    unmirrored = augment(ramps(100), Augmentation(kind=kind, pixels=2, flip=False), stream(5))
    assert bool((unmirrored[:, 1, 16, 17] > unmirrored[:, 1, 16, 16]).all())


@pytest.mark.parametrize("kind", ["shift", "crop"])
def test_images_are_independent_of_each_other(kind: str) -> None:
    chosen = Augmentation(kind=kind, pixels=3)
    images = pictures(4, 2, 8, 8)
    others = images.clone()
    others[1] += 5
    first, second = augment(images, chosen, stream(2)), augment(others, chosen, stream(2))
    assert torch.equal(first[[0, 2, 3]], second[[0, 2, 3]])
    assert not torch.equal(first[1], second[1])
    same = augment(images[:1].repeat(40, 1, 1, 1), chosen, stream(2))
    assert len({image.numpy().tobytes() for image in same}) > 20
    assert torch.equal(first, augment(images, chosen, stream(2)))
    assert first.dtype == images.dtype


@pytest.mark.parametrize("kind", ["shift", "crop"])
def test_given_flips_are_not_drawn(kind: str) -> None:
    flips = torch.arange(40) % 3 == 0
    for flip in (True, False, "alternating"):
        moved = augment(ramps(40), Augmentation(kind=kind, pixels=2, flip=flip), stream(5), flips=flips)
        assert torch.equal(moved[:, 1, 16, 17] < moved[:, 1, 16, 16], flips)


def test_without_epochs_alternating_flips_are_random() -> None:
    random, alternating = (
        augment(ramps(100), Augmentation(pixels=2, flip=flip), stream(5)) for flip in (True, "alternating")
    )
    assert torch.equal(random, alternating)


def test_a_row_s_coin_is_fair_and_its_own() -> None:
    coins = alternating_flips(5000, 3)
    assert stats.binomtest(int(coins.sum()), 5000).pvalue > 1e-3
    for rows in (1, 7, 16, 1000, 4999):
        assert torch.equal(alternating_flips(rows, 3), coins[:rows])
    assert not torch.equal(alternating_flips(5000, 4), coins)
