"""Channels last, but where oneDNN would damage memory."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from poisonlab.models import fast_cifar, resnet18, small_resnet
from poisonlab.models.layout import layout

SRC = Path(__file__).resolve().parents[2] / "src"
CHECKING = "libc_malloc_debug.so.0"
"""glibc's allocator that ends the process when a block's edges were overwritten."""
TRAINING = """
import torch
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.models import small_resnet
from poisonlab.models.classifier import Normalize
from poisonlab.training.loop import train

torch.set_num_threads(1)
images = torch.randint(256, (96, 3, 16, 16), dtype=torch.uint8)
data = TrainingSet(images, torch.arange(96) % 4, torch.arange(96))
still = Augmentation(pixels=0, flip=False)
model = small_resnet.build(4, (3, 16, 16), width=4)
train(model, Normalize((0.5,) * 3, (0.25,) * 3), data, Recipe(epochs=4, batch_size=32, augmentation=still), seed=0)
print("trained")
"""


@pytest.mark.parametrize(
    ("network", "order"),
    [
        (small_resnet.build(10, (3, 32, 32), width=16), torch.channels_last),
        (small_resnet.build(10, (3, 32, 32), width=15), torch.contiguous_format),
        (small_resnet.build(10, (3, 32, 32), width=4), torch.contiguous_format),
        (resnet18.build(10, (3, 32, 32)), torch.channels_last),
        (fast_cifar.build(10, (3, 32, 32)), torch.channels_last),
        (nn.Conv2d(3, 8, 1), torch.channels_last),
        (nn.Conv2d(3, 8, 3, stride=2), torch.channels_last),
        (nn.Conv2d(32, 32, 1, stride=2, groups=4), torch.contiguous_format),
    ],
)
def test_strided_convolutions_of_single_pixels_need_16_channels(network: nn.Module, order: torch.memory_format) -> None:
    assert layout(network) == order


def test_narrow_networks_are_trained_without_damage_to_memory() -> None:
    """With channels last, glibc ends this process with "free(): invalid pointer"."""
    path = os.pathsep.join(filter(None, [str(SRC), os.environ.get("PYTHONPATH")]))
    checks = {"LD_PRELOAD": CHECKING, "MALLOC_CHECK_": "3", "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, "-c", TRAINING], env={**os.environ, **checks}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "trained\n"), done.stderr
