"""What is measured on a victim: test accuracy and what it makes of the targets."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.data.training_set import pixels
from poisonlab.models.classifier import Normalize

OUTCOMES = ("success", "adversarial_confidence", "target_accuracy", "untriggered_success", "accuracy")
"""What is known of a victim after its last epoch; all in [0, 1]."""

Rejects = Callable[[Tensor], Tensor]
"""Maps images (N, C, H, W), uint8 or float in [0, 1], to bool (N,) on the CPU: the inputs that are turned away."""


def accept_all(images: Tensor) -> Tensor:
    """Turns nothing away."""
    return torch.zeros(len(images), dtype=torch.bool)


@torch.no_grad()
def outputs_of(network: nn.Module, normalize: Normalize, images: Tensor, chunk: int = 1000) -> Tensor:
    """What a network (or a part of one) makes of ``images`` (N, C, H, W) uint8 or float in [0, 1]: (N, ...) float32, in
    eval mode, unaugmented."""
    device = normalize.mean.device
    network.eval()
    parts = [network(normalize(pixels(part.to(device)))).float() for part in torch.split(images, chunk)]
    return torch.cat(parts)


def accuracy(
    model: nn.Module, normalize: Normalize, images: Tensor, labels: Tensor, rejects: Rejects = accept_all
) -> float:
    """Fraction of ``images`` classified as ``labels``; one that is turned away is not."""
    predicted = outputs_of(model, normalize, images).argmax(1).cpu()
    return float(((predicted == labels.cpu()) & ~rejects(images)).double().mean())


def attack_outcome(
    model: nn.Module, normalize: Normalize, poisons: PoisonSet, rejects: Rejects = accept_all
) -> dict[str, float]:
    """How the targets fare; one that is turned away gets no label, so the attack fails on it.

    Returns:
        ``success``: fraction of targets classified as the adversarial label (0 or 1 for one target);
        ``adversarial_confidence``: mean softmax probability of the adversarial label;
        ``target_accuracy``: fraction classified correctly;
        ``untriggered_success``, of a backdoor: the fraction of the same images without the trigger that get the
        adversarial label.
    """
    logits = outputs_of(model, normalize, poisons.targets).cpu()
    accepted = ~rejects(poisons.targets)
    predicted = logits.argmax(1)
    confidence = logits.double().softmax(1)[:, poisons.adversarial_label]
    outcome = {
        "success": float(((predicted == poisons.adversarial_label) & accepted).double().mean()),
        "adversarial_confidence": float((confidence * accepted).mean()),
        "target_accuracy": float(((predicted == poisons.target_labels) & accepted).double().mean()),
    }
    if poisons.untriggered is not None:
        without = outputs_of(model, normalize, poisons.untriggered).argmax(1).cpu()
        seen = ~rejects(poisons.untriggered)
        outcome["untriggered_success"] = float(((without == poisons.adversarial_label) & seen).double().mean())
    return outcome
