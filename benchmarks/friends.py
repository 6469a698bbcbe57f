"""Time and memory of one whole FRIENDS run with Bernoulli noise, against the straightforward way of doing the same.

A run has some epochs with random noise, the making of friendly noise, and the other epochs with both. Ours is the way
of the workflow: a separate job makes the noise, so the first epochs are trained twice. The last column is the largest
relative difference of the epochs' losses, in a short float32 run of both ways with one batch per epoch, without random
noise and augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import reference_training
import torch
from contest import Contest, Contests
from noises import released, start_of
from reference_training import PerImage, Pictures
from torch import nn

from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.recipe import Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses import friendly_noise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.training.defense import Defense
from poisonlab.training.loop import train
from training import BERNOULLI, LR, MEAN, MU, STD, Task, drawn, large, normalisation, small


@dataclass(frozen=True)
class Plan:
    """A run.

    Attributes:
        random: the random noise of all epochs.
    """

    task: Task
    data: TrainingSet
    recipe: Recipe
    settings: FriendlyNoise
    random: tuple[Defense, ...]
    device: torch.device

    def ours(self) -> list[float]:
        """The losses of the epochs."""
        normalize, until = normalisation(self.device), self.settings.def_epoch
        maker, victim = self.task.model(self.device), self.task.model(self.device)
        train(maker, normalize, self.data, self.recipe, seed=0, defenses=self.random, until=until)
        made = friendly_noise.friendly_noise(
            nn.Sequential(normalize, maker),
            self.data.images,
            self.settings,
            device=self.device,
            precision=self.recipe.precision,
        )
        both = [friendly_noise.FriendlyNoise(made.to(self.device), until), *self.random]
        history = train(victim, normalize, self.data, self.recipe, seed=0, defenses=both).history
        return [record["train_loss"] for record in history]

    def reference(self, transform: PerImage, workers: int) -> list[float]:
        """The losses of the epochs; images are perturbed and augmented by ``transform``."""
        model = self.task.model(self.device)
        pictures = Pictures(self.data.images, self.data.labels, transform)

        def before_epoch(epoch: int) -> None:
            if epoch == self.settings.def_epoch:
                start = start_of(self.data.images)
                pictures.noise = released(model, self.data.images, start, self.settings, self.device)

        return reference_training.train(
            model,
            pictures,
            epochs=self.recipe.epochs,
            batch_size=self.recipe.batch_size,
            lr=LR,
            device=self.device,
            workers=workers,
            drops=self.recipe.drops,
            before_epoch=before_epoch,
        )


def whole_run(
    task: Task, images: int, epochs: int, def_epoch: int, steps: int, workers: int, device: torch.device
) -> Contest:
    settings = FriendlyNoise(
        steps=steps, lr=100.0, lam=10.0, zeta=16.0, def_epoch=def_epoch, batch_size=min(images, 128)
    )
    plan = Plan(task, drawn(images), task.recipe(epochs=epochs), settings, (RandomNoise(BERNOULLI),), device)
    return Contest(
        reference=lambda: plan.reference(PerImage(MEAN, STD, MU, task.shift), workers),
        ours=plan.ours,
        difference=lambda *_: agreement(task, min(images, 16), device),
        unit="run",
        precision="bfloat16",
    )


def agreement(task: Task, images: int, device: torch.device) -> float:
    """Largest relative difference of the losses of three epochs, two of them with friendly noise."""
    settings = FriendlyNoise(steps=2, lr=100.0, lam=10.0, zeta=16.0, def_epoch=1, batch_size=images)
    recipe = task.recipe(fast=False, epochs=3, batch_size=images)
    plan = Plan(task, drawn(images), recipe, settings, (), device)
    theirs = plan.reference(PerImage(MEAN, STD), workers=0)
    return max(abs(ours / loss - 1) for ours, loss in zip(plan.ours(), theirs, strict=True))


CONTESTS: Contests = {
    # The default study's run on half of its images.
    "small": {
        "FRIENDS-B, small residual network, 1000 images, 4 workers": partial(whole_run, small(), 1000, 18, 5, 20, 4)
    },
    "gpu": {"FRIENDS-B, ResNet-18, 5000 images, 4 workers": partial(whole_run, large(), 5000, 16, 5, 20, 4)},
    "tiny": {"FRIENDS-B, small residual network, 64 images": partial(whole_run, small(), 64, 2, 1, 1, 0)},
}
