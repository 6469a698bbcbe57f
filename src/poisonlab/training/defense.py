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
"""One epoch's numbers: ``epoch``, ``lr``, ``train_loss``, ``examples``; with a validation set, ``validation_accuracy``
and ``validation_loss``; and the measurements of ``observe``."""


@dataclass(frozen=True)
class Batch:
    """One mini-batch, before normalisation and augmentation, or after (see the hooks).

    Attributes:
        images: (B, C, H, W) float32 pixels; in [0, 1] before the first defense changes them. For ``change_inputs``:
            normalised and augmented.
        labels: (B,) int64. For ``change_inputs``: as changed by earlier defenses.
        rows: (B,) int64, see ``TrainingSet.rows``.
        epoch: 0-based.
        generator: the random stream of this defense and epoch, on the images' device.
        model: maps normalised images to logits.
        normalize: maps pixels to normalised images.
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
        epoch: the epoch that has ended, 0-based.
        model: in eval mode; maps normalised images to logits.
        normalize: maps pixels to normalised images.
        data: the training set of this epoch.
        full: the training set before the first epoch; ``data`` is a part of it.
        recipe: the training's recipe.
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

    Composition is a list: hooks run in the list's order. A defense keeps no state. It uses only the batch, its random
    stream, the training set and the history, so that an interrupted run resumes bit for bit.
    """

    @property
    def needs_validation(self) -> bool:
        """Whether the defense needs a validation set."""
        return False

    @property
    def squeezes(self) -> bool:
        """Whether ``prepare`` changes every image permanently; friendly noise is then made for the changed images."""
        return False

    @property
    def repeats(self) -> bool:
        """Whether the network's input for an example is the same in every epoch, so that fixed features can be kept."""
        return self._lacks(Defense.change_batch, Defense.change_inputs)

    @property
    def captured(self) -> bool:
        """Whether the steps of an epoch may be recorded once and repeated as a CUDA graph (``training.capture``).

        If true, the hooks must not look at values on the device, and must depend on nothing in Python that changes
        except the epoch. By default true if the defense has no hook within a step.
        """
        within = Defense.change_batch, Defense.change_inputs, Defense.loss, Defense.change_gradients
        return self._lacks(*within, Defense.draw_batches, Defense.attached)

    def _lacks(self, *hooks: Callable[..., object]) -> bool:
        return all(getattr(type(self), hook.__name__) is hook for hook in hooks)

    def schedule(self, recipe: Recipe) -> Recipe:
        """The recipe to use instead, for defenses with their own phases."""
        return recipe

    def learning_rate(self, recipe: Recipe, at: float) -> float | None:
        """The learning rate at ``at`` epochs since the start; None leaves it to the recipe."""
        return None

    def prepare(self, data: TrainingSet) -> TrainingSet:
        """Change the training set before the first epoch."""
        return data

    def attached(self, model: nn.Module) -> AbstractContextManager[None]:
        """A context around the training, for defenses that put hooks on the network's layers."""
        return nullcontext()

    def draw_batches(self, examples: int, recipe: Recipe, generator: torch.Generator) -> Sequence[Tensor] | None:
        """Positions (int64, CPU) of the examples of each step of one epoch; None means a shuffled pass.

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
        """The training loss, a scalar; None leaves it to the next defense, and finally to cross-entropy.

        ``labels`` are those that ``change_inputs`` returned.
        """
        return None

    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        """Change ``p.grad`` in place, before the optimiser's step."""

    def stops(self, history: Sequence[EpochRecord]) -> bool:
        """Whether the training ends after the last epoch of ``history``, whose record lacks ``observe``'s numbers."""
        return False

    def best_epoch(self, history: Sequence[EpochRecord]) -> int | None:
        """The best epoch (0-based) of ``history``, whose weights are the outcome if the training ends now: its last
        epoch, or the earlier best. None leaves the choice to the next defense, and finally to the last epoch."""
        return None

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        """React to the end of an epoch; return the training set of the next one, a part of ``end.full``. It is not
        called after the last epoch of a training that ends before the recipe's schedule."""
        return end.data

    def report(self, recipe: Recipe, examples: int, history: Sequence[EpochRecord]) -> dict[str, float]:
        """Numbers about a training that has ended.

        Args:
            recipe: the recipe before ``schedule``.
            examples: number of examples in the training set at the start.
            history: records of all epochs.
        """
        return {}
