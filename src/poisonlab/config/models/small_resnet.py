"""Settings of the small residual network."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.models.model import Dropout, Model, Norm


class SmallResNet(Model):
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
