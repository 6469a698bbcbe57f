"""The share of poisons that a network trained on clean data misclassifies: their strength as adversarial examples."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.transfer import Score
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import outputs_of


def transfer(network: nn.Module, normalize: Normalize, poisons: PoisonSet, clean_labels: Tensor, score: Score) -> float:
    """The share of a set's poisons that the network does not classify as their base's label.

    Args:
        network: maps normalised images to logits.
        normalize: on the network's device.
        poisons: a set of P poisons.
        clean_labels: (N,) int64, the labels of the training rows; an appended poison counts by its own label.
        score: ``misclassified`` (Sandoval-Segura et al. 2022, section 4.2) or ``agreement``, as in the authors' code.
            ``agreement`` counts the poisons for which exactly one of poison and base is misclassified, and divides by
            the number of correctly classified bases.

    Raises:
        PoisonlabError: ``score`` is ``agreement`` and every base is misclassified.
    """
    replaced = poisons.indices >= 0
    labels = torch.where(replaced, clean_labels[poisons.indices.clamp(min=0)], poisons.labels)

    def wrong(images: Tensor) -> Tensor:
        return outputs_of(network, normalize, images).argmax(1).cpu() != labels

    missed = wrong(poisons.images)
    if score == "misclassified":
        return float(missed.double().mean())
    right = ~wrong(poisons.base_images)
    if not bool(right.any()):
        raise PoisonlabError("transfer by agreement: the network classifies no clean image correctly: train it longer")
    return float((missed == right).sum() / right.sum())
