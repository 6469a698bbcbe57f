"""Settings of DPN-92."""

from __future__ import annotations

from typing import ClassVar, Literal

from poisonlab.config.models.model import Dropout, Model


class DPN92(Model):
    """DPN-92 with the CIFAR stem."""

    name: Literal["dpn92"] = "dpn92"
    batch_normed: ClassVar[bool] = True
    dropout: Dropout = 0.0
    """Dropped share of the values before the last convolution of each block (convex polytope's substitutes)."""
