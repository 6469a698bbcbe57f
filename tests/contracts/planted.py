"""A small network with a backdoor: noisy patterns of 12 x 12 pixels, a patch in the corner, wrong labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.attacks.trigger import bottom_right, own_pattern, paste
from poisonlab.models.classifier import Classifier, Normalize

CLASSES = 8
TARGET = 3
SIZE = 12
PATCH = 3
NORMALIZE = Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))


@dataclass(frozen=True)
class Planted:
    """The network and (N, 3, 12, 12) uint8 images it was not trained on, with labels (N,)."""

    model: Classifier
    images: Tensor
    labels: Tensor


def triggered(images: Tensor) -> Tensor:
    places = torch.tensor(bottom_right((SIZE, SIZE), PATCH)).expand(len(images), 2)
    return paste(images, own_pattern(PATCH, seed=1), places)


def draw(count: int, stream: torch.Generator) -> tuple[Tensor, Tensor]:
    """Classes are smooth patterns, under noise strong enough that no few pixels tell them apart."""
    smooth = torch.rand(CLASSES, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    patterns = F.interpolate(smooth, size=(SIZE, SIZE), mode="bilinear")
    labels = torch.arange(count) % CLASSES
    noisy = patterns[labels] + 0.2 * torch.randn(count, 3, SIZE, SIZE, generator=stream)
    return (noisy.clamp(0, 1) * 255).to(torch.uint8), labels


def network() -> Classifier:
    torch.manual_seed(0)
    extract = nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 24, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
    )
    return Classifier(extract, nn.Linear(24 * 9, CLASSES))


@cache
def planted() -> Planted:
    """Trained on 1600 images of which every tenth carries the patch and the label ``TARGET``."""
    stream = torch.Generator().manual_seed(1)
    images, labels = draw(1600, stream)
    poisoned = torch.randperm(1600, generator=stream)[:160]
    images[poisoned] = triggered(images[poisoned])
    labels[poisoned] = TARGET
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(8):
        for rows in torch.randperm(1600, generator=stream).split(64):
            loss = F.cross_entropy(model(NORMALIZE(images[rows].float() / 255)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return Planted(model.eval(), *draw(800, stream))


@torch.no_grad()
def predicted(model: nn.Module, images: Tensor) -> Tensor:
    classes: Tensor = model(NORMALIZE(images.float() / 255)).argmax(1)
    return classes


def attack_success(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Fraction of the images of other classes that the patch takes to ``TARGET``."""
    others = images[labels != TARGET]
    return float((predicted(model, triggered(others)) == TARGET).double().mean())


def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return float((predicted(model, images) == labels).double().mean())
