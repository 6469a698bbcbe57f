"""Time and memory of training with random noise, against the straightforward way of doing the same.

Ours trains in bfloat16, the reference in float32. The last column is the largest relative difference of losses in two
float32 steps from the same weights, on one batch without noise and augmentation. For a prepared batch, it is the
largest difference of pixels without noise and augmentation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import reference_training
import torch
from contest import Contest, Contests
from reference_training import PerImage, Pictures
from torch import Tensor

from poisonlab.config.defenses.random_noise import RandomNoise as NoiseSettings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.augmentation import augment
from poisonlab.data.training_set import TrainingSet, pixels
from poisonlab.defenses.random_noise import RandomNoise, random_noise
from poisonlab.models import fast_cifar, resnet18, small_resnet
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import generator
from poisonlab.training.loop import train

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
CLASSES, SHAPE = 10, (3, 32, 32)
MU, LR = 16.0, 0.01
BERNOULLI = NoiseSettings(distribution="bernoulli", mu=MU)


@dataclass(frozen=True)
class Task:
    """A network and how it is trained.

    Attributes:
        shift: largest translation in pixels, of augmentation.
    """

    build: Callable[[], Classifier]
    batch_size: int
    shift: float = 4.0

    def model(self, device: torch.device) -> Classifier:
        torch.manual_seed(0)
        return self.build().to(device)

    def recipe(self, *, fast: bool = True, epochs: int = 40, batch_size: int | None = None) -> Recipe:
        """The recipe of configs, with mixed precision and augmentation; without both for comparisons."""
        augmentation = Augmentation(kind="shift", pixels=self.shift) if fast else Augmentation(kind="none")
        return Recipe(
            epochs=epochs,
            batch_size=batch_size or self.batch_size,
            lr=LR,
            precision="bfloat16" if fast else "float32",
            augmentation=augmentation,
        )


def large(batch_size: int = 128) -> Task:
    """ResNet-18, as the papers train it."""
    return Task(lambda: resnet18.build(CLASSES, SHAPE), batch_size)


def fast() -> Task:
    """The network of config/cifar10-fast.yaml."""
    return Task(lambda: fast_cifar.build(CLASSES, SHAPE), 128)


def small(batch_size: int = 32) -> Task:
    """The network of config.yaml."""
    return Task(lambda: small_resnet.build(CLASSES, SHAPE), batch_size, shift=2.0)


def drawn(count: int) -> TrainingSet:
    stream = generator("cpu", 0, "benchmark", "images")
    images = torch.randint(0, 256, (count, *SHAPE), generator=stream, dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % CLASSES, torch.arange(count))


def normalisation(device: torch.device) -> Normalize:
    return Normalize(MEAN, STD).to(device)


def epoch(task: Task, images: int, workers: int, device: torch.device, *, capture: bool = False) -> Contest:
    """An epoch on ``images`` images; ``workers`` processes put the reference's batches together, 0: its own process.

    Operations are not counted if ours is a CUDA graph, which starts all of them at once.
    """
    data, recipe = drawn(images), task.recipe()
    placed, normalize = data.to(device), normalisation(device)
    pictures = Pictures(data.images, data.labels, PerImage(MEAN, STD, MU, task.shift))
    mine, theirs = task.model(device), task.model(device)

    def reference() -> list[float]:
        return reference_training.train(
            theirs, pictures, epochs=1, batch_size=task.batch_size, lr=LR, device=device, workers=workers
        )

    return Contest(
        reference=reference,
        ours=lambda: train(
            mine, normalize, placed, recipe, seed=0, defenses=[RandomNoise(BERNOULLI)], until=1, capture=capture
        ),
        difference=lambda *_: first_steps(task, min(images, 32), device),
        unit="image",
        per_call=images,
        precision=None if capture else "bfloat16",
    )


def first_steps(task: Task, images: int, device: torch.device) -> float:
    """Largest relative difference of the losses of two steps of both ways on the same batch."""
    data, model = drawn(images), task.model(device)
    pictures = Pictures(data.images, data.labels, PerImage(MEAN, STD))
    theirs = reference_training.train(
        copy.deepcopy(model), pictures, epochs=2, batch_size=images, lr=LR, device=device, workers=0
    )
    recipe = task.recipe(fast=False, batch_size=images)
    history = train(model, normalisation(device), data, recipe, seed=0, until=2).history
    return max(abs(record["train_loss"] / loss - 1) for record, loss in zip(history, theirs, strict=True))


def preparing(batch_size: int, device: torch.device) -> Contest:
    """A batch on the device, perturbed, normalised and augmented: the loader's work without its processes."""
    data, task = drawn(4 * batch_size), small()
    placed, normalize = data.images.to(device), normalisation(device)
    stream = generator(device, 0, "benchmark", "noise")
    chosen = torch.randperm(len(data), generator=generator("cpu", 0, "benchmark", "order"))[:batch_size]
    there, rows = chosen.to(device), chosen.tolist()
    plain = Pictures(data.images, data.labels, PerImage(MEAN, STD))
    pictures = Pictures(data.images, data.labels, PerImage(MEAN, STD, MU, task.shift))

    def ours() -> Tensor:
        images = pixels(placed[there])
        noisy = images + random_noise(images.shape, BERNOULLI, stream, device)
        inputs = augment(normalize(noisy), task.recipe().augmentation, stream, normalize.black)
        return inputs.contiguous(memory_format=torch.channels_last)

    def reference(source: Pictures) -> Tensor:
        return torch.stack([source[row][0] for row in rows]).to(device)

    return Contest(
        reference=lambda: reference(pictures),
        ours=ours,
        difference=lambda *_: float((normalize(pixels(placed[there])) - reference(plain)).abs().max()),
        unit="image",
        per_call=batch_size,
        # Each value is read as a byte and written as float32.
        traffic=5.0 * data.images[:batch_size].numel(),
    )


CONTESTS: Contests = {
    "small": {
        "training, ResNet-18, batches of 128, 4 workers": partial(epoch, large(), 256, 4),
        "training, small residual network, batches of 32, 4 workers": partial(epoch, small(), 2000, 4),
        "training, the same, no workers": partial(epoch, small(), 2000, 0),
        "training, small residual network, batches of 128, 4 workers": partial(epoch, small(128), 2000, 4),
        "preparing a batch of 128": partial(preparing, 128),
    },
    "gpu": {
        "training, ResNet-18, batches of 128, 4 workers": partial(epoch, large(), 12_800, 4),
        "training, ResNet-18, batches of 128, 4 workers, captured": partial(epoch, large(), 12_800, 4, capture=True),
        "training, small residual network, batches of 128, 4 workers": partial(epoch, small(128), 12_800, 4),
        "training, small residual network, batches of 128, 4 workers, captured": partial(
            epoch, small(128), 12_800, 4, capture=True
        ),
        "preparing a batch of 128": partial(preparing, 128),
    },
    "tiny": {
        "training, small residual network, batches of 32, no workers": partial(epoch, small(), 64, 0),
        "training, small residual network, batches of 32, no workers, captured": partial(
            epoch, small(), 64, 0, capture=True
        ),
        "preparing a batch of 8": partial(preparing, 8),
    },
}
