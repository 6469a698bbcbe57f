"""Settings of CIFAR."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.data.source import FileDataset
from poisonlab.config.types import InputPath


class Cifar(FileDataset):
    """CIFAR-10 or CIFAR-100 as torchvision stores them."""

    source: Literal["cifar10", "cifar100"]
    """Which of the two."""
    root: InputPath = "data"
    """Folder that torchvision keeps the dataset in."""
    download: bool = False
    """Download it if it is not there."""
