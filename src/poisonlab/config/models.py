"""Settings of the network architectures; ``name`` names the module of ``poisonlab.models`` that builds it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings

Dropout = Annotated[float, Field(ge=0, lt=1)]
Norm = Literal["batch", "group"]


class ResNet18(Settings):
    """ResNet-18 with the CIFAR stem."""

    name: Literal["resnet18"] = "resnet18"
    dropout: Dropout = 0.0
    """Dropped share of the channels' values between the two convolutions of each block (convex polytope's
    substitutes)."""
    norm: Norm = "batch"
    """Normalisation layers: batch norm, or group norm, which keeps the examples of a batch apart (for dp-sgd)."""


class AlexNet(Settings):
    """AlexNet resized for 32 x 32 images, no batch norm."""

    name: Literal["alexnet"] = "alexnet"


class LeNet(Settings):
    """LeNet-5 with ReLU, no batch norm."""

    name: Literal["lenet"] = "lenet"


class SmallResNet(Settings):
    """Three residual blocks behind a strided stem: a network for studies on a CPU."""

    name: Literal["small-resnet"] = "small-resnet"
    width: Annotated[int, Field(gt=0, le=4096)] = 16
    """Channels of the first block; the others have two and four times as many."""
    stem_stride: Annotated[int, Field(ge=1, le=4)] = 2
    """Stride of the first convolution."""
    dropout: Dropout = 0.0
    """Dropped share between the two convolutions of each block (convex polytope's substitutes)."""
    norm: Norm = "batch"
    """Normalisation layers: batch norm, or group norm, which keeps the examples of a batch apart (for dp-sgd)."""


ModelSettings = Annotated[ResNet18 | AlexNet | LeNet | SmallResNet, Field(discriminator="name")]
