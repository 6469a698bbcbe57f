"""Random noise, drawn independently for every pixel of every example in every epoch (FRIENDS, section 3.3)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.config.defenses.random_noise import RandomNoise as Settings
from poisonlab.training.defense import Batch, Defense


@dataclass(frozen=True)
class RandomNoise(Defense):
    """Add independent noise of magnitude ``settings.mu`` levels to every value."""

    settings: Settings

    @property
    def captured(self) -> bool:
        return True

    def change_batch(self, batch: Batch) -> Tensor:
        noise = random_noise(batch.images.shape, self.settings, batch.generator, batch.images.device)
        noisy = batch.images + noise
        return noisy.clamp(0, 1) if self.settings.clip else noisy


def random_noise(
    shape: torch.Size, settings: Settings, generator: torch.Generator, device: torch.device | str = "cpu"
) -> Tensor:
    """Noise of ``shape``, float32, in units of the [0, 1] pixel range.

    bernoulli: -mu or mu with equal chance; uniform: on [-mu, mu]; gaussian: standard deviation mu, unbounded.
    """
    mu = settings.mu / 255
    if settings.distribution == "gaussian":
        return torch.randn(shape, generator=generator, device=device) * mu
    uniform = torch.rand(shape, generator=generator, device=device)
    if settings.distribution == "bernoulli":
        return (uniform < 0.5).to(uniform.dtype) * (2 * mu) - mu
    return (uniform * 2 - 1) * mu


def build(settings: Settings, noise: Tensor | None = None) -> RandomNoise:
    """The defense that ``settings`` describes."""
    return RandomNoise(settings)
