"""Signed Adam on a bounded perturbation: every step written out by hand, the bound, and what it must not touch."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch
from tiny import MEAN, STD, network
from torch import Tensor, nn

from poisonlab.defenses.signed_adam import perturb, uncompiled
from poisonlab.models.classifier import Normalize

NORMALIZE = Normalize(MEAN, STD)


@dataclass(frozen=True)
class Strength:
    eps: float = 16.0
    steps: int = 5
    lr: float = 0.1


def images_of(count: int = 5) -> Tensor:
    stream = torch.Generator().manual_seed(2)
    # Some lie at the ends of the range, and some beyond, where earlier noise has put them.
    return torch.rand(count, 2, 6, 6, dtype=torch.float64, generator=stream) * 1.2 - 0.1


def pixels(inputs: Tensor) -> Tensor:
    return inputs * NORMALIZE.std + NORMALIZE.mean


def objective(inputs: Tensor) -> Tensor:
    return (inputs.sin() * inputs[:, :1]).sum()


@pytest.mark.parametrize("steps", [1, 5])
@pytest.mark.parametrize("lr", [0.1, 0.004])
def test_against_steps_written_out(steps: int, lr: float) -> None:
    images, strength = images_of(), Strength(steps=steps, lr=lr)
    normalize = Normalize(MEAN, STD).double()
    changed = perturb(normalize(images), normalize, objective, strength, torch.Generator().manual_seed(4))

    mean, std = (torch.tensor(v).double().numpy().reshape(1, 2, 1, 1) for v in (MEAN, STD))
    x, eps = images.numpy(), 16 / 255
    start = torch.randn(images.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64).numpy()

    def box(pixels: np.ndarray) -> np.ndarray:
        pixels = np.minimum(np.maximum(pixels, -eps), eps)
        return np.minimum(np.maximum(x + pixels, np.minimum(x, 0)), np.maximum(x, 1)) - x

    delta = box(start * eps) / std
    first = second = np.zeros_like(delta)
    for number in range(1, steps + 1):
        u = (x - mean) / std + delta
        gradient = np.cos(u) * u[:, :1]
        gradient[:, :1] += np.sin(u).sum(1, keepdims=True)
        sign = np.sign(gradient)
        first, second = 0.9 * first + 0.1 * sign, 0.999 * second + 0.001 * sign**2
        step = first / (1 - 0.9**number) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
        delta = box((delta - lr * step) * std) / std
    np.testing.assert_allclose(changed.numpy(), (x - mean) / std + delta, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eps", [0.5, 16.0, 255.0])
def test_the_bound_and_the_range_are_kept(eps: float) -> None:
    images = images_of(40).float()
    inputs = NORMALIZE(images)
    kept = inputs.clone()
    perturbed = perturb(inputs, NORMALIZE, objective, Strength(eps, lr=1.0), torch.Generator().manual_seed(0))
    assert torch.equal(inputs, kept)
    assert perturbed.dtype == torch.float32
    assert not perturbed.requires_grad
    changed = pixels(perturbed)
    assert (changed - images).abs().max() <= eps / 255 + 1e-6
    assert (changed - images).abs().max() >= 0.9 * min(eps / 255, 0.5)
    assert (changed >= images.clamp(max=0) - 1e-6).all()
    assert (changed <= images.clamp(min=1) + 1e-6).all()


def test_the_start_is_a_cut_normal() -> None:
    """With steps too short to see: |start| reaches the bound with chance P(|z| > 1) = 0.317."""
    inputs = NORMALIZE(torch.full((200, 2, 6, 6), 0.5))
    still = Strength(eps=16, steps=1, lr=1e-9)
    changed = perturb(inputs, NORMALIZE, objective, still, torch.Generator().manual_seed(0))
    scaled = (changed - inputs) * NORMALIZE.std * 255 / 16
    assert (scaled.abs() > 1 - 1e-5).double().mean().item() == pytest.approx(0.3173, abs=0.01)
    inside = scaled[scaled.abs() < 1 - 1e-5]
    # Variance of a standard normal cut off at +-1.
    assert inside.double().var().item() == pytest.approx(0.2911, abs=0.01)


def test_where_the_objective_is_flat_nothing_moves() -> None:
    images = NORMALIZE(images_of().float())
    flat, long = (
        perturb(images, NORMALIZE, lambda inputs: (inputs * 0).sum(), Strength(steps=steps), stream)
        for steps, stream in ((1, torch.Generator().manual_seed(0)), (9, torch.Generator().manual_seed(0)))
    )
    torch.testing.assert_close(flat, long, rtol=0, atol=1e-6)
    assert bool(torch.isfinite(flat).all())


def test_of_a_compiled_network_the_original_is_taken() -> None:
    model = network()
    assert uncompiled(model) is model
    assert uncompiled(cast(nn.Module, SimpleNamespace(_orig_mod=model))) is model
