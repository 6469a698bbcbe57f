"""The hooks through which every training-time defense acts on the one training loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.config.recipe import Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.models.classifier import Normalize

EpochRecord = dict[str, float]
"""One epoch's numbers: ``epoch``, ``lr``, ``train_loss``, ``examples``; ``validation_accuracy`` and ``validation_loss``
of a training with a validation set; and what ``observe`` measured."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch before normalisation and augmentation, or after (see the hooks).

    Attributes:
        images: (B, C, H, W) float32 pixels; [0, 1] before the first defense touches them. For ``change_inputs``:
            normalised and augmented.
        labels: (B,) int64. For ``change_inputs``: what an earlier defense made of them.
        rows: (B,) int64, see ``TrainingSet.rows``.
        epoch: 0-based.
        generator: the random stream of this defense and epoch, on the images' device.
        model: maps normalised images to logits.
        normalize: makes normalised images of pixels.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor
    epoch: int
    generator: torch.Generator
    model: nn.Module
    normalize: Normalize


@dataclass(frozen=True)
class EpochEnd:
    """The state of a training between two epochs.

    Attributes:
        epoch: the one that has ended, 0-based.
        model: in eval mode; maps normalised images to logits.
        normalize: makes normalised images of pixels.
        data: what the epoch was trained on.
        full: the training set as it was before the first epoch; ``data`` is a part of it.
        recipe: by which the network is trained.
    """

    epoch: int
    model: nn.Module
    normalize: Normalize
    data: TrainingSet
    full: TrainingSet
    recipe: Recipe


@dataclass(frozen=True)
class Defense:
    """A training-time defense; override the hooks it needs.

    Composition is a list: hooks run in the list's order. A defense keeps no state of its own: what it needs comes from
    the batch, its random stream, the training set or the history, so that an interrupted run goes on bit for bit.
    """

    @property
    def needs_validation(self) -> bool:
        """Whether it cannot do without a validation set."""
        return False

    @property
    def squeezes(self) -> bool:
        """Whether ``prepare`` changes every image once and for all: friendly noise is made for what it leaves."""
        return False

    @property
    def repeats(self) -> bool:
        """Whether the network is given the same for an example in every epoch, so that what follows can be kept."""
        return self._lacks(Defense.change_batch, Defense.change_inputs)

    @property
    def captured(self) -> bool:
        """Whether the steps of an epoch may be recorded once and repeated as a CUDA graph (``training.capture``).

        Its hooks then never look at values on the device, and change with nothing in Python but the epoch. By default,
        whether it has no hook within a step.
        """
        within = Defense.change_batch, Defense.change_inputs, Defense.loss, Defense.change_gradients
        return self._lacks(*within, Defense.draw_batches, Defense.attached)

    def _lacks(self, *hooks: Callable[..., object]) -> bool:
        return all(getattr(type(self), hook.__name__) is hook for hook in hooks)

    def schedule(self, recipe: Recipe) -> Recipe:
        """The recipe to train by instead, for defenses with phases of their own."""
        return recipe

    def learning_rate(self, recipe: Recipe, at: float) -> float | None:
        """The learning rate at ``at`` epochs since the beginning; None leaves it to the recipe."""
        return None

    def prepare(self, data: TrainingSet) -> TrainingSet:
        """Change the training set before the first epoch."""
        return data

    def attached(self, model: nn.Module) -> AbstractContextManager[None]:
        """Surrounds the training, for defenses that watch the network's layers."""
        return nullcontext()

    def draw_batches(self, examples: int, recipe: Recipe, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Positions (int64, CPU) of the examples of each step of one epoch; None leaves it to a shuffled pass.

        ``generator`` is on the CPU.
        """
        return None

    def change_batch(self, batch: Batch) -> Tensor:
        """Return the images to train on, (B, C, H, W) pixels, before normalisation and augmentation."""
        return batch.images

    def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the network's inputs (M, C, H, W) and their labels, (M,) int64 or (M, K) probabilities, after
        normalisation and augmentation."""
        return batch.images, batch.labels

    def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
        """The training loss, a scalar; None leaves it to the other defenses, and at last to cross-entropy.

        ``labels``: as ``change_inputs`` gives them.
        """
        return None

    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        """Change ``p.grad`` in place, before the optimiser's step."""

    def stops(self, history: Sequence[EpochRecord]) -> bool:
        """Whether the training ends with the last epoch of ``history``, whose record has nothing of ``observe`` yet."""
        return False

    def best_epoch(self, history: Sequence[EpochRecord]) -> int | None:
        """The epoch (0-based) whose weights the training ends with, as far as ``history`` tells: the last, or the one
        that was the best before it. None leaves it to the other defenses, and at last to the last epoch."""
        return None

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        """React to the end of an epoch; return the training set of the next one, a part of ``end.full``."""
        return end.data

    def report(self, recipe: Recipe, examples: int, history: Sequence[EpochRecord]) -> dict[str, float]:
        """What is to be known of a training that has ended.

        Args:
            recipe: as it was given, before ``schedule``.
            examples: in the training set at the beginning.
            history: of all epochs.
        """
        return {}
