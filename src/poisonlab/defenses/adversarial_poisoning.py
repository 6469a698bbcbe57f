"""Adversarial poisoning: the victim poisons its own batches and learns to classify the poisons correctly.

Geiping, Fowl, Somepalli, Goldblum, Moeller, Goldstein 2021, "What doesn't kill you makes you robust(er)", as released
(white-box gradient matching, "recombine"); AP-0.25, AP-0.5 and AP-0.75 of FRIENDS' table 1. Each batch, normalised and
augmented, is divided into

    poisons   the first ``share``, images x_i with labels y_i
    targets   the rest, all given one fake label: the most frequent y_i of the poisons

    minimise over |delta| <= eps   1 - cos(grad_w mean CE(x_i + delta_i, y_i), grad_w mean CE(targets, fake label))

for the trainable weights w, in eval mode and in float32, without further augmentation. Then the training step uses the
perturbed poisons and the unchanged targets, all with their true labels. If an earlier defense has mixed the labels, CE
takes the mixed labels. For the fake label, each poison then counts as the class with its largest share.

The release recomputes the targets' gradient in each step, with a graph. It does not depend on delta, so here it is
computed once, without a graph.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.config.defenses.adversarial_poisoning import AdversarialPoisoning as Settings
from poisonlab.defenses.signed_adam import perturb, uncompiled
from poisonlab.models.double_backward import check_twice_differentiable, twice_differentiable
from poisonlab.models.evaluating import evaluating
from poisonlab.models.gradient_angle import matching_loss
from poisonlab.training.defense import Batch, Defense

_CURE = "replace the layer, or take a defense that differentiates once (adversarial-training)"


@dataclass(frozen=True)
class AdversarialPoisoning(Defense):
    """Poison the first part of each batch against the rest of it."""

    settings: Settings

    def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        count = poison_count(len(batch.labels), self.settings.share)
        if count == 0:
            return batch.images, batch.labels
        labels, targets = batch.labels[:count], batch.images[count:]
        fake = most_frequent(labels.argmax(1) if labels.ndim == 2 else labels).expand(len(targets))
        model = uncompiled(batch.model)
        with evaluating(model), twice_differentiable(model, targets, _CURE):
            goal = weight_gradient(model, targets, fake)

            def objective(inputs: Tensor) -> Tensor:
                return matching_loss(weight_gradient(model, inputs, labels, create_graph=True), goal)

            poisons = perturb(batch.images[:count], batch.normalize, objective, self.settings, batch.generator)
        return torch.cat([poisons, targets]), batch.labels


def poison_count(size: int, share: float) -> int:
    """The number of poisons in a batch of ``size``: nearest to ``share * size``, leaving at least one poison and one
    target; 0 for a batch of one."""
    return max(1, min(round(share * size), size - 1)) if size > 1 else 0


def most_frequent(labels: Tensor) -> Tensor:
    """(1,) int64: the most frequent of labels (P,) int64, the smallest among equals; the device is not read."""
    counts = (labels[:, None] == labels).sum(1)
    return torch.where(counts == counts.max(), labels, labels.max()).min()[None]


def weight_gradient(model: nn.Module, inputs: Tensor, labels: Tensor, create_graph: bool = False) -> tuple[Tensor, ...]:
    """Gradient of the mean cross-entropy with respect to each trainable weight; leaves the weights' ``grad`` unchanged.

    Args:
        inputs: (B, C, H, W), normalised.
        labels: (B,) int64, or (B, K) probabilities.
        create_graph: make the gradient differentiable.

    Raises:
        SettingsError: ``create_graph`` is true and a layer has no second derivative.
    """
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    logits = model(inputs)
    if create_graph:
        check_twice_differentiable(model, inputs, logits, _CURE)
    loss = F.cross_entropy(logits, labels)
    return torch.autograd.grad(loss, weights, create_graph=create_graph, materialize_grads=True)


def build(settings: Settings, noise: Tensor | None = None) -> AdversarialPoisoning:
    """The defense that ``settings`` describes."""
    return AdversarialPoisoning(settings)
