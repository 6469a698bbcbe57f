"""The hooks through which every training-time defense acts on the one training loop."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.data.training_set import TrainingSet
from poisonlab.models.classifier import Normalize


@dataclass(frozen=True)
class Batch:
    """One mini-batch before normalisation and augmentation.

    Attributes:
        images: (B, C, H, W) float32 pixels; [0, 1] before the first defense touches them.
        labels: (B,) int64.
        rows: (B,) int64, see ``TrainingSet.rows``.
        epoch: 0-based.
        generator: the random stream of this defense and epoch, on the images' device.
        model: maps normalised images to logits.
        normalize: makes normalised images of ``images``.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    epoch: int
    generator: torch.Generator
    model: nn.Module
    normalize: Normalize


@dataclass(frozen=True)
class Defense:
    """A training-time defense; override the hooks it needs.

    Composition is a list: hooks run in the list's order. A defense keeps no state of its own: what it needs comes from
    the batch, its random stream or the training set, so that an interrupted run goes on bit for bit.
    """

    @property
    def repeats(self) -> bool:
        """Whether ``change_batch`` gives the same for an example in every epoch, so that what follows can be kept."""
        return type(self).change_batch is Defense.change_batch

    def prepare(self, data: TrainingSet) -> TrainingSet:
        """Change the training set before the first epoch."""
        return data

    def change_batch(self, batch: Batch) -> Tensor:
        """Return the images to train on, (B, C, H, W)."""
        return batch.images

    def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
        """The training loss, a scalar; None leaves it to the other defenses, and at last to cross-entropy."""
        return None

    def change_gradients(self, parameters: list[nn.Parameter], generator: torch.Generator) -> None:
        """Change ``p.grad`` in place, before the optimiser's step."""

    def end_epoch(self, model: nn.Module, data: TrainingSet, epoch: int) -> TrainingSet:
        """React to the end of an epoch; return the training set of the next one (a subset of ``data``)."""
        return data
