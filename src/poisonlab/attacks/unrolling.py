"""Unrolled steps of SGD, and the derivative of the target's margin after them with respect to the first batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad

from poisonlab.models.differences import directional, neighbours
from poisonlab.models.layout import layout
from poisonlab.precision import passes

_LOWEST_MARGIN = -100.0

Weights = dict[str, Tensor]
Batch = tuple[Tensor, Tensor]


def margin(logits: Tensor, label: int, convention: str = "ours") -> Tensor:
    """Carlini and Wagner's margin max_j z_j - z_label over j != label, not below -100.

    Args:
        logits: (B, K).
        label: the class whose logit should be largest.
        convention: with ``released``, zero is among the z_j, because MetaPoison's code masks the label's logit by a
            product.

    Returns:
        The mean over B, a scalar.
    """
    others = torch.cat([logits[:, :label], logits[:, label + 1 :]], 1).amax(1)
    if convention == "released":
        others = others.clamp(min=0)
    return (others - logits[:, label]).clamp(min=_LOWEST_MARGIN).mean()


@dataclass(frozen=True)
class Unrolling:
    """K steps of SGD without momentum, and the margin of a target after each.

    Attributes:
        model: normalised images to logits.
        buffers: of the model, by name; not changed.
        batches: normalised images (B, C, H, W) and labels (B,) of each step; the first batch begins with the poisons.
            There are K batches, or K + 1 in the released convention, which judges the target in the next step's batch.
        target: (T, C, H, W), normalised.
        label: the adversarial class.
        lr: step of SGD.
        precision: of the passes, ``float32`` or ``bfloat16``.
        batch_norm: mode of the network in the steps (and of its dropout), ``train`` or ``eval``.
        convention: ``ours``: the target is judged in eval mode, with the batch-norm statistics after the step as
            constants. ``released``: the target is appended to every batch, in the mode of the steps, but is left out of
            the batch's loss; see also ``margin``.
    """

    model: nn.Module
    buffers: Weights
    batches: Sequence[Batch]
    target: Tensor
    label: int
    lr: float
    precision: str = "float32"
    batch_norm: str = "train"
    convention: str = "ours"

    def loss(self, weights: Weights) -> Tensor:
        """Mean margin over the states after each step.

        Args:
            weights: theta_0 by name; not changed.

        Returns:
            A scalar, differentiable to second order with respect to whatever the batches' images depend on.
        """
        buffers, margins = self.buffers, []
        steps = len(self.batches) - self._inside
        for number, batch in enumerate(self.batches[:steps]):
            gradient, (buffers, said) = grad(self._entropy, has_aux=True)(weights, buffers, *batch)
            if self._inside and number > 0:
                margins.append(self._margin(said))
            weights = self._stepped(weights, gradient)
            if not self._inside:
                margins.append(self._margin(self._judged(weights, buffers)))
        if self._inside:
            _, (_, said) = self._entropy(weights, buffers, *self.batches[steps])
            margins.append(self._margin(said))
        return torch.stack(margins).mean()

    def slope(self, weights: Weights, relative: float, poisons: int) -> tuple[Tensor, Tensor]:
        """The loss and its gradient with respect to the first images, by first-order passes alone.

        With the margin m and lambda_K = grad m(theta_K) / K, the adjoint of a step theta' = theta - lr * grad L(theta)
        is

            lambda <- lambda - lr * (d^2 L / d theta^2) lambda + grad m(theta) / K

        and the images' gradient -lr * (d^2 L / dx d theta) lambda_1. Derivatives along lambda are central differences
        of gradients (``models.differences``), so that the error falls as the square of the step.

        Args:
            weights: theta_0 by name; not changed.
            relative: the differences' step as a share of the weights' norm.
            poisons: the gradient is computed for this many images, from the start of the first batch.

        Returns:
            A scalar and (``poisons``, C, H, W).
        """
        order = layout(self.model)
        weights = {
            name: weight.contiguous(memory_format=order) if weight.ndim == 4 else weight
            for name, weight in weights.items()
        }
        batches = [(images.detach().contiguous(memory_format=order), labels) for images, labels in self.batches]
        # Passes with moved weights must use the same dropout masks as the step.
        seeds = [int(seed) for seed in torch.randint(2**62, (len(batches),))]
        states, statistics = [weights], [self.buffers]
        margins, pulls = [], []
        for batch, seed in zip(batches, seeds, strict=True):
            torch.manual_seed(seed)
            leaves = _leaves(states[-1])
            entropy, (buffers, said) = self._entropy(leaves, statistics[-1], *batch)
            if self._inside and len(states) > 1:
                margins.append(self._margin(said))
                pulls.append(_gradient(margins[-1], leaves, keep=len(states) < len(batches)))
            if self._inside and len(states) == len(batches):
                break
            states.append(self._stepped(states[-1], _gradient(entropy, leaves)))
            statistics.append(buffers)
            if not self._inside:
                leaves = _leaves(states[-1])
                margins.append(self._margin(self._judged(leaves, buffers)))
                pulls.append(_gradient(margins[-1], leaves))
        steps = len(pulls)
        adjoint = {name: pull / steps for name, pull in pulls[-1].items()}
        for number in reversed(range(1, steps)):
            curved = self._along(states[number], statistics[number], batches[number], seeds[number], adjoint, relative)
            pull = pulls[number - 1]
            adjoint = {name: each + pull[name] / steps - self.lr * curved[name] for name, each in adjoint.items()}
        images = self._images_along(batches[0], seeds[0], weights, adjoint, relative, poisons)
        return torch.stack(margins).mean().detach(), -self.lr * images

    @property
    def _inside(self) -> bool:
        return self.convention == "released"

    def _stepped(self, weights: Weights, gradient: Weights) -> Weights:
        return {name: weight - self.lr * gradient[name] for name, weight in weights.items()}

    def _margin(self, logits: Tensor) -> Tensor:
        return margin(logits, self.label, self.convention)

    def _logits(self, weights: Weights, buffers: Weights, images: Tensor) -> Tensor:
        with passes(images.device, self.precision):
            logits: Tensor = functional_call(self.model, {**weights, **buffers}, (images,))
        return logits.float() if logits.dtype == torch.bfloat16 else logits

    def _judged(self, weights: Weights, buffers: Weights) -> Tensor:
        """The target's logits (T, K) in eval mode."""
        self.model.eval()
        return self._logits(weights, buffers, self.target)

    def _entropy(
        self, weights: Weights, buffers: Weights, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, tuple[Weights, Tensor]]:
        """Cross-entropy of a batch; the buffers after the pass; the target's logits if the target is in the batch."""
        self.model.train(self.batch_norm == "train")
        changed = {name: buffer.clone() for name, buffer in buffers.items()}
        shown = torch.cat([images, self.target]) if self._inside else images
        logits = self._logits(weights, changed, shown)
        return F.cross_entropy(logits[: len(images)], labels), (changed, logits[len(images) :])

    def _along(
        self, weights: Weights, buffers: Weights, batch: Batch, seed: int, direction: Weights, relative: float
    ) -> Weights:
        """(d^2 L / d theta^2) times the direction."""
        ahead, behind, width = neighbours(weights, direction, relative)

        def gradient(weights: Weights) -> Weights:
            torch.manual_seed(seed)
            leaves = _leaves(weights)
            return _gradient(self._entropy(leaves, buffers, *batch)[0], leaves)

        first, second = gradient(ahead), gradient(behind)
        return {name: (first[name] - second[name]) / width for name in weights}

    def _images_along(
        self, batch: Batch, seed: int, weights: Weights, direction: Weights, relative: float, count: int
    ) -> Tensor:
        """(d^2 L / dx d theta) times the direction, for the first ``count`` images."""
        images, labels = batch
        share = 1.0
        if self.batch_norm == "eval":
            # In eval mode images do not interact, so the other images have no influence on this gradient.
            share = count / len(images)
            images, labels = images[:count], labels[:count]

        def entropy(weights: Weights, images: Tensor) -> Tensor:
            torch.manual_seed(seed)
            return self._entropy(weights, self.buffers, images, labels)[0] * share

        return directional(entropy, weights, images, direction, relative)[:count]


def _leaves(weights: Weights) -> Weights:
    return {name: weight.detach().requires_grad_(True) for name, weight in weights.items()}


def _gradient(loss: Tensor, weights: Weights, *, keep: bool = False) -> Weights:
    found = torch.autograd.grad(loss, list(weights.values()), retain_graph=keep, materialize_grads=True)
    return dict(zip(weights, found, strict=True))
