"""Poisons without a goal, for a whole training set.

This module draws the poisoned rows and optimises their perturbations batch by batch. So memory is bounded, and an
interruption loses no more than the time between two saves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.shipping import ship
from poisonlab.attacks.threat import poison_count
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError
from poisonlab.models.chunks import memory_for, shape_of
from poisonlab.randomness import generator
from poisonlab.training.checkpoint import Checkpoint


def poisoned_rows(dataset: ImageDataset, attacker: Attacker, budget: float, seed: int, method: str) -> Tensor:
    """(P,) int64 sorted: the poisoned rows, ``budget`` of the victim's training rows, drawn uniformly by ``seed``."""
    pool = attacker.pool(dataset)
    order = torch.randperm(len(pool), generator=generator("cpu", seed, method, "rows"))
    return pool[order[: poison_count(budget, len(pool))]].sort().values


def with_class_noise(dataset: ImageDataset, rows: Tensor, noise: Tensor, eps: float) -> PoisonSet:
    """The images of ``rows`` as poisons, each with the noise of its class.

    Args:
        dataset: clean data.
        rows: (P,) int64 of the training split.
        noise: (K, C, H, W) int16, in levels.
        eps: bound of the noise, in levels.

    Returns:
        Poisons with the labels of their bases; pixels are cut off at 0 and 255. ``diagnostics["class_noise"]`` is
        ``noise``.
    """
    bases, labels = dataset.train_images[rows], dataset.train_labels[rows]
    parts = zip(torch.split(bases, 1000), torch.split(labels, 1000), strict=True)
    images = [ship(some, noise[these].float(), eps, "uint8") for some, these in parts]
    return PoisonSet(rows, torch.cat(images), labels, bases, diagnostics={"class_noise": noise})


class Piece(Protocol):
    """The perturbation of one batch of images, while it is optimised."""

    def step(self, number: int) -> Tensor:
        """Take step ``number`` (from 0); returns the loss before it, a scalar summed over the batch."""

    def images(self) -> Tensor:
        """(B, C, H, W) uint8 on the CPU: the current poisons."""

    def state(self) -> dict[str, Tensor]:
        """The tensors that ``restore`` needs to resume from here."""

    def restore(self, state: dict[str, Tensor]) -> None:
        """Set the tensors that ``state`` returned."""


@dataclass(frozen=True)
class Plan:
    """The sizes of the optimisation.

    Attributes:
        images: P, the number of images.
        batch_size: images optimised at once.
        steps: steps of each batch.
        restarts: runs over all images; the run with the lowest loss is kept.
    """

    images: int
    batch_size: int
    steps: int
    restarts: int = 1


def optimised(
    begin: Callable[[slice, int], Piece], plan: Plan, bases: Tensor, checkpoint: Checkpoint | None, progress: bool
) -> tuple[Tensor, Tensor]:
    """Optimise the perturbations of all images, one batch after another.

    Args:
        begin: makes the initial perturbation for a slice of the images and a restart; depends on nothing else.
        plan: batches, steps, restarts.
        bases: (P, C, H, W) uint8.
        checkpoint: where the state is saved between steps.
        progress: show images per second; each is one forward and one backward pass.

    Returns:
        (P, C, H, W) uint8: the poisons of the restart with the lowest mean loss before its last step. (restarts, steps)
        float64: the mean loss over all images before each step.

    Raises:
        PoisonlabError: the loss is not finite.
        TooLittleMemoryError: memory does not suffice for a batch.
    """
    images = torch.empty_like(bases)
    best = torch.empty_like(bases)
    losses = torch.zeros(plan.restarts, plan.steps, dtype=torch.float64)
    parts = [slice(at, min(at + plan.batch_size, plan.images)) for at in range(0, plan.images, plan.batch_size)]
    begun, inner = (0, 0), None
    if checkpoint is not None and (saved := checkpoint.load()) is not None:
        tensors, facts = saved
        images, losses = tensors.pop("images"), tensors.pop("losses")
        best = tensors.pop("best", best)
        begun, inner = (facts["job"], facts["step"]), tensors
    jobs = [(restart, part) for restart in range(plan.restarts) for part in parts]
    total = plan.restarts * plan.steps * plan.images
    done = plan.steps * sum(part.stop - part.start for _, part in jobs[: begun[0]])
    bar = tqdm(total=total, initial=done, unit="image", unit_scale=True, disable=not progress)
    for job, (restart, part) in list(enumerate(jobs))[begun[0] :]:
        what = f"{part.stop - part.start} poisons of {shape_of(bases)} at once"
        with memory_for(what, "lower the attack's batch_size"):
            piece, first = begin(part, restart), 0
            if inner is not None:
                piece.restore(inner)
                first, inner = begun[1], None
            for step in range(first, plan.steps):
                if checkpoint is not None and checkpoint.due():
                    own = {"images": images, "losses": losses} | ({"best": best} if restart > 0 else {})
                    checkpoint.save({**piece.state(), **own}, {"job": job, "step": step})
                losses[restart, step] += piece.step(step).item()
                bar.update(part.stop - part.start)
            images[part] = piece.images()
        if not bool(losses[restart].isfinite().all()):
            raise PoisonlabError(
                f"the loss of poisons {part.start} to {part.stop - 1} is not finite: check the surrogate and the data"
            )
        if part is parts[-1] and (restart == 0 or int(losses[: restart + 1, -1].argmin()) == restart):
            best.copy_(images)
    bar.close()
    return best, losses / plan.images


def frozen(networks: Sequence[nn.Module]) -> list[nn.Module]:
    """The networks in eval mode, with weights that require no gradient."""
    return [network.eval().requires_grad_(False) for network in networks]
