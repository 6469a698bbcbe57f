"""Gradient shaping: the clip's closed form, the noise's distribution, and its place in the training loop."""

from __future__ import annotations

import copy
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from tiny import MEAN, STD, network
from torch import Tensor, nn

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.gradient_shaping import Settings, build
from poisonlab.models.classifier import Normalize
from poisonlab.training.loop import train


def parameters(scale: float) -> list[nn.Parameter]:
    """Three with float64 gradients of joint norm 13 ``scale``, and one without a gradient."""
    made = [nn.Parameter(torch.zeros(shape, dtype=torch.float64)) for shape in ((2, 2), (1,), (3,), (5,))]
    for parameter, values in zip(made, ([[3.0, 0.0], [0.0, 0.0]], [4.0], [0.0, -12.0, 0.0]), strict=False):
        parameter.grad = torch.tensor(values, dtype=torch.float64) * scale
    return made


def shaped(settings: Settings, scale: float, seed: int = 0) -> Tensor:
    chosen = parameters(scale)
    build(settings).change_gradients(chosen, Recipe(), torch.Generator().manual_seed(seed))
    assert chosen[-1].grad is None
    return torch.cat([p.grad.flatten() for p in chosen if p.grad is not None])


@pytest.mark.parametrize("clip", [1.0, 0.1, 6.5])
def test_a_long_gradient_is_shortened_to_the_clip(clip: float) -> None:
    original = torch.tensor([3, 0, 0, 0, 4, 0, -12, 0], dtype=torch.float64)
    clipped = shaped(Settings(clip=clip, noise=0), scale=1.0)
    assert clipped.norm().item() == pytest.approx(clip, rel=1e-5)
    torch.testing.assert_close(clipped, original * clip / (13 + 1e-6), rtol=1e-12, atol=0)


@pytest.mark.parametrize("distribution", ["gaussian", "laplacian"])
@pytest.mark.parametrize(("clip", "noise"), [(1.0, 0.01), (4.0, 0.5)])
def test_the_noise_has_the_stated_distribution(
    distribution: Literal["gaussian", "laplacian"], clip: float, noise: float
) -> None:
    parameter = nn.Parameter(torch.zeros(300, 200))
    parameter.grad = torch.zeros(300, 200)
    settings = Settings(clip=clip, noise=noise, distribution=distribution)
    build(settings).change_gradients([parameter], Recipe(), torch.Generator().manual_seed(1))
    scaled = parameter.grad.double() / (clip * noise)
    known = stats.norm if distribution == "gaussian" else stats.laplace
    assert scaled.var().item() == pytest.approx({"gaussian": 1.0, "laplacian": 2.0}[distribution], rel=0.03)
    assert stats.kstest(scaled.flatten().numpy(), known.cdf).pvalue > 1e-3
    assert abs((scaled[:, 1:] * scaled[:, :-1]).mean().item()) < 4 * 2 / scaled.numel() ** 0.5


def test_noise_comes_after_the_clip_and_the_generator_decides() -> None:
    settings = Settings(noise=0.3)
    drawn = torch.get_rng_state()
    first, again, other = (shaped(settings, 1.0, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    stream = torch.Generator().manual_seed(1)
    z = [torch.randn(shape, generator=stream, dtype=torch.float64).flatten() for shape in ((2, 2), (1,), (3,))]
    torch.testing.assert_close(first, shaped(Settings(noise=0), 1.0) + 0.3 * torch.cat(z))


def test_a_step_of_the_loop_is_the_clipped_one() -> None:
    """One step of plain SGD with weight decay, which is not clipped."""
    model = network(dropout=0)
    plain = copy.deepcopy(model).train()
    images, labels = torch.rand(6, 2, 6, 6, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 3
    still = Augmentation(kind="none")
    recipe = Recipe(epochs=1, batch_size=6, lr=0.5, milestones=(), momentum=0, weight_decay=0.1, augmentation=still)
    normalize = Normalize(MEAN, STD)
    data = TrainingSet(images, labels, torch.arange(6))
    train(model, normalize, data, recipe, seed=0, defenses=[build(Settings(clip=0.01, noise=0))])

    weights = list(plain.parameters())
    gradients = torch.autograd.grad(F.cross_entropy(plain(normalize(images)), labels), weights)
    length = torch.cat([gradient.flatten() for gradient in gradients]).norm()
    assert length > 0.02
    for new, old, gradient in zip(model.parameters(), weights, gradients, strict=True):
        torch.testing.assert_close(new, old - 0.5 * (gradient * 0.01 / length + 0.1 * old), rtol=1e-4, atol=1e-6)
