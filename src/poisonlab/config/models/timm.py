"""Settings of the networks of timm."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.library_model import LibraryModel


class Timm(LibraryModel):
    """Any network of timm whose head is one linear layer, for the dataset's channels, size and classes."""

    name: Literal["timm"] = "timm"
