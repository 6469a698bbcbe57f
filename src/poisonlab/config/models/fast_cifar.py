"""Settings of the network of the fast protocol."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.models.model import Model, Norm

Channels = Annotated[int, Field(gt=0, le=4096)]


class FastCifar(Model):
    """Three groups of two convolutions behind a stem of 2x2 patches, made for accuracy per second of training."""

    name: Literal["fast-cifar"] = "fast-cifar"
    widths: Annotated[tuple[Channels, ...], Field(min_length=3, max_length=3)] = (32, 128, 256)
    """Channels of the three groups; multiples of 32 are the fastest."""
    stem_stride: Annotated[int, Field(ge=1, le=2)] = 2
    """Distance of the stem's patches in pixels: 1 gives four times as many, and costs up to four times as much."""
    whiten: bool = False
    """Whether the stem's filters are the principal components of the training images' patches, scaled to unit variance
    and fixed (Page 2019, "How to train your ResNet 8"; Jordan 2024); else they are drawn and trained. A tenth faster,
    but not for training on noise, which fills the components that images leave empty."""
    norm: Norm = "batch"
    """Normalisation layers: batch norm, or group norm, which keeps the examples of a batch apart (for dp-sgd)."""
