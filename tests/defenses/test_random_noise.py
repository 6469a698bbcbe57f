"""Random noise: its distributions, by their closed forms."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from poisonlab.config.defenses.random_noise import RandomNoise as Settings
from poisonlab.config.recipe import Augmentation
from poisonlab.data.augmentation import augment
from poisonlab.defenses.random_noise import RandomNoise, random_noise
from poisonlab.models.classifier import Normalize
from poisonlab.training.defense import Batch

SHAPE = torch.Size([40, 3, 24, 24])
Distribution = Literal["bernoulli", "uniform", "gaussian"]


def drawn(distribution: Distribution, mu: float = 16.0, seed: int = 0, shape: torch.Size = SHAPE) -> Tensor:
    settings = Settings(distribution=distribution, mu=mu)
    return random_noise(shape, settings, torch.Generator().manual_seed(seed)).double()


def batch_of(images: Tensor, seed: int = 0) -> Batch:
    rows = torch.arange(len(images))
    stream, plain = torch.Generator().manual_seed(seed), Normalize((0.0,), (1.0,))
    return Batch(images, torch.zeros_like(rows), rows, 0, stream, nn.Identity(), plain)


@pytest.mark.parametrize("mu", [1.0, 8.0, 16.0])
def test_bernoulli_has_exactly_two_values_with_equal_chance(mu: float) -> None:
    noise = drawn("bernoulli", mu)
    values = noise.unique()
    assert len(values) == 2
    assert values[0] == -values[1]
    assert values[1].item() == pytest.approx(mu / 255, rel=1e-6)
    up = int((noise > 0).sum())
    assert stats.binomtest(up, noise.numel()).pvalue > 1e-3


@pytest.mark.parametrize("mu", [1.0, 16.0])
def test_uniform_fills_its_interval_evenly(mu: float) -> None:
    scaled = drawn("uniform", mu) * 255 / mu
    assert scaled.abs().max() <= 1 + 1e-6
    assert scaled.var().item() == pytest.approx(1 / 3, rel=0.02)
    assert stats.kstest(scaled.flatten().numpy(), stats.uniform(-1, 2).cdf).pvalue > 1e-3


@pytest.mark.parametrize("mu", [1.0, 16.0])
def test_gaussian_has_standard_deviation_mu_and_is_not_cut(mu: float) -> None:
    scaled = drawn("gaussian", mu) * 255 / mu
    assert stats.kstest(scaled.flatten().numpy(), stats.norm.cdf).pvalue > 1e-3
    assert scaled.abs().max() > 3.5


@pytest.mark.parametrize("distribution", ["bernoulli", "uniform", "gaussian"])
def test_values_are_independent_over_channels_pixels_and_examples(distribution: Distribution) -> None:
    noise = drawn(distribution)
    noise = noise / noise.std()
    products = [
        noise[:, 0] * noise[:, 1],
        noise[:, 1] * noise[:, 2],
        noise[..., :-1] * noise[..., 1:],
        noise[..., :-1, :] * noise[..., 1:, :],
        noise[:-1] * noise[1:],
    ]
    for product in products:
        assert abs(product.mean().item()) < 4 / product.numel() ** 0.5


def test_noise_is_added_and_clipped_only_on_request() -> None:
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    kept = images.clone()
    for clip in (False, True):
        settings = Settings(distribution="uniform", mu=64, clip=clip)
        changed = RandomNoise(settings).change_batch(batch_of(images, seed=3))
        noise = random_noise(images.shape, settings, torch.Generator().manual_seed(3))
        plain = images + noise
        assert torch.equal(changed, plain.clamp(0, 1) if clip else plain)
        assert (plain < 0).any()
        assert (plain > 1).any()
        assert torch.equal(images, kept)


@pytest.mark.parametrize("distribution", ["bernoulli", "uniform", "gaussian"])
def test_a_random_subpixel_shift_leaves_four_ninths_of_the_variance(distribution: Distribution) -> None:
    """Bilinear weights of a uniform fraction u: E[(1-u)^2 + u^2] = 2/3 along each axis, so 4/9."""
    noise = drawn(distribution, shape=torch.Size([3000, 1, 18, 18])).float()
    shift = Augmentation(kind="shift", pixels=4, flip=False)
    moved = augment(noise, shift, torch.Generator().manual_seed(7)).double()
    inside = moved[..., 6:-6, 6:-6]
    # Var of the factor (1 - 2u + 2u^2) is 1/45 per axis, which bounds the error of 3000 images below 0.4 %.
    assert (inside.var() / noise.double().var()).item() == pytest.approx(4 / 9, abs=0.015)
