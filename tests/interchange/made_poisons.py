"""Small poison sets and datasets for the tests of import and export."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError

HEIGHT, WIDTH = 5, 7


def pixels(count: int, seed: int = 0) -> torch.Tensor:
    """(count, 3, HEIGHT, WIDTH) uint8; not square, so that no axis can be taken for another."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, HEIGHT, WIDTH), generator=generator, dtype=torch.uint8)


def dataset() -> ImageDataset:
    return ImageDataset(
        train_images=pixels(40, 1),
        train_labels=torch.arange(40) % 4,
        test_images=pixels(12, 2),
        test_labels=torch.arange(12) % 4,
        class_names=("a", "b", "c", "d"),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.3),
    )


def poison_set(target_count: int = 1, **changes: Any) -> PoisonSet:
    indices = torch.tensor([29, 5, 13])
    parts: dict[str, Any] = {
        "indices": indices,
        "images": dataset().train_images[indices] ^ 1,
        "labels": torch.tensor([1, 1, 1]),
        "base_images": dataset().train_images[indices],
        "goal": goal(target_count),
    }
    return PoisonSet(**{**parts, **changes})


def goal(count: int = 1, **changes: Any) -> Goal:
    """Of targets of class 2 that are to get class 1."""
    parts: dict[str, Any] = {
        "targets": pixels(count, 4),
        "target_labels": torch.full((count,), 2),
        "adversarial_labels": torch.full((count,), 1),
    }
    return Goal(**{**parts, **changes})


def as_pil(image: torch.Tensor) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))


def pil_pairs(images: torch.Tensor, labels: Any) -> list[tuple[Image.Image, Any]]:
    return [(as_pil(image), label) for image, label in zip(images, labels, strict=True)]


def refusal(caught: pytest.ExceptionInfo[PoisonlabError], *words: object) -> str:
    """The message, which has one line and holds every word."""
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    for word in words:
        assert str(word) in message, message
    return message
