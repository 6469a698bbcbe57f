"""Settings of the networks of torchvision."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.library_model import LibraryModel


class Torchvision(LibraryModel):
    """Any classifier of torchvision whose head is one linear layer, for the dataset's channels, size and classes."""

    name: Literal["torchvision"] = "torchvision"
