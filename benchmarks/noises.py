"""Time and memory of making friendly noise, against the straightforward way of doing the same.

Ours runs the network in bfloat16, the reference in float32. The last column is the largest difference of the noises, in
levels of 1/255, after the same steps from the same start in float32 on one batch.
"""

from __future__ import annotations

from functools import partial

import reference_training
import torch
from contest import Contest, Contests
from torch import Tensor, nn

from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.friendly_noise import friendly_noise
from poisonlab.models.classifier import Classifier
from poisonlab.randomness import uniform_rows
from training import MEAN, STD, Task, drawn, large, normalisation, small


def noise(task: Task, images: int, steps: int, device: torch.device) -> Contest:
    """The noise of ``images`` images; the network has random weights, in the memory layout as after training."""
    data = drawn(images).images
    theirs, mine = task.model(device), task.model(device).to(memory_format=torch.channels_last)
    settings, start = chosen(steps, min(images, 128)), start_of(data)
    network = nn.Sequential(normalisation(device), mine)
    few = min(images, 16)

    def difference() -> float:
        # One batch of full size, for which their batch means equal ours.
        some = chosen(2, few)
        found = friendly_noise(nn.Sequential(normalisation(device), theirs), data[:few], some, device=device)
        return float((found - released(theirs, data[:few], start[:few], some, device)).abs().max()) * 255

    return Contest(
        reference=lambda: released(theirs, data, start, settings, device),
        ours=lambda: friendly_noise(network, data, settings, device=device, precision="bfloat16"),
        difference=lambda *_: difference(),
        unit="image and step",
        per_call=images * steps,
        precision="bfloat16",
    )


def chosen(steps: int, batch_size: int) -> FriendlyNoise:
    return FriendlyNoise(steps=steps, lr=100.0, lam=10.0, zeta=16.0, batch_size=batch_size)


def start_of(images: Tensor) -> Tensor:
    """The same start as in our way, so that both ways take the same path; on the CPU."""
    return (uniform_rows(tuple(images.shape), 0, 0, "friendly-noise") * 2 - 1) * (8 / 255)


def released(model: Classifier, images: Tensor, start: Tensor, settings: FriendlyNoise, device: torch.device) -> Tensor:
    """The reference with our settings."""
    return reference_training.friendly_noise(
        model,
        images,
        start,
        mean=MEAN,
        std=STD,
        device=device,
        steps=settings.steps,
        lr=settings.lr,
        lam=settings.lam,
        zeta=settings.zeta,
        batch_size=settings.batch_size,
    )


CONTESTS: Contests = {
    "small": {
        "friendly noise, ResNet-18": partial(noise, large(), 128, 2),
        "friendly noise, small residual network": partial(noise, small(), 512, 5),
    },
    "gpu": {
        "friendly noise, ResNet-18": partial(noise, large(), 1024, 10),
    },
    "tiny": {"friendly noise, small residual network": partial(noise, small(), 16, 2)},
}
