"""The numbers behind the figures of features, layers and filtered images: how networks represent a target, its poisons
and clean images of the two classes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.start import Start
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import fine_tuning_rows, poisoned_examples, split_validation, training_set
from poisonlab.errors import DataError
from poisonlab.landscapes.layer_distances import LayerDistances, layer_distances
from poisonlab.landscapes.projection import Projection, projected
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.outputs import outputs_of
from poisonlab.randomness import generator

OWN, ADVERSARIAL, POISON = range(3)
"""Groups: clean images of the target's true class, clean images of the adversarial class, poisons."""


@dataclass(frozen=True)
class Shown:
    """The target and the training images of the two classes.

    Attributes:
        target: (1, C, H, W) uint8, the first of the attack's targets.
        classes: the target's true class and the adversarial class.
        images: (M, C, H, W) uint8 or float in [0, 1].
        group: (M,) int64: ``OWN``, ``ADVERSARIAL`` or ``POISON``.
        places: (M,) int64, the positions in the training set.
        poisons, bases: (P, C, H, W), the poisons of the two classes and their clean originals, in the same order.
        total: number of examples in the whole training set.
    """

    target: Tensor
    classes: tuple[int, int]
    images: Tensor
    group: Tensor
    places: Tensor
    poisons: Tensor
    bases: Tensor
    total: int


def shown_examples(dataset: ImageDataset, poisons: PoisonSet, start: Start) -> Shown:
    """The victim's training examples that the figures show.

    Args:
        dataset: clean data.
        poisons: with a goal; its first target is shown.
        start: determines the images that the victim is trained on.

    Raises:
        DataError: the poisons have no goal, or none has a label of the two classes.
    """
    if poisons.goal is None:
        raise DataError("figures of features cannot show an attack without a target: leave this attack out of them")
    rows = fine_tuning_rows(dataset, start)
    data, _ = split_validation(dataset, training_set(dataset, poisons, rows))
    own, adversarial = int(poisons.goal.target_labels[0]), int(poisons.goal.adversarial_labels[0])
    poisoned = poisoned_examples(dataset, poisons, rows)[data.rows]
    group = torch.where(data.labels == own, OWN, ADVERSARIAL)
    group[poisoned] = POISON
    places = torch.nonzero((data.labels == own) | (data.labels == adversarial)).flatten()
    chosen = (poisons.labels == own) | (poisons.labels == adversarial)
    if not bool(chosen.any()) or not bool((group[places] == POISON).any()):
        raise DataError("no poison has the label of the target's class or of the adversarial class")
    return Shown(
        target=poisons.goal.targets[:1],
        classes=(own, adversarial),
        images=data.images[places],
        group=group[places],
        places=places,
        poisons=poisons.images[chosen],
        bases=poisons.base_images[chosen],
        total=len(data),
    )


def view_of(network: Classifier, normalize: Normalize, shown: Shown) -> tuple[Projection, LayerDistances]:
    """A network's penultimate features of the shown examples on a plane, and their distances layer by layer."""
    extract = nn.Sequential(network.extract, nn.Flatten())
    features = outputs_of(extract, normalize, shown.images).cpu()
    target = outputs_of(extract, normalize, shown.target)[0].cpu()
    weights = network.head.weight.detach().cpu()[list(shown.classes)]
    projection = projected(features, target, shown.group == OWN, shown.group == ADVERSARIAL, weights)
    clean = shown.images[shown.group != POISON]
    return projection, layer_distances(network, normalize, shown.target, shown.poisons, shown.bases, clean)


def examples_of(shown: Shown, dropped: Tensor, most: int, seed: int) -> dict[str, Tensor]:
    """Poisons, and clean images that a filter dropped and kept: positions in ``shown``, at most ``most`` of each kind.

    Args:
        shown: the examples.
        dropped: (M,) bool.
        most: the largest number of images in a row.
        seed: of the choice.

    Returns:
        ``poisons``; ``dropped``: clean images, those of the adversarial class first; ``kept``: clean images, as many of
        the target's class as in ``dropped``.
    """
    stream = generator("cpu", seed, "filtered images")

    def drawn(where: Tensor, count: int) -> Tensor:
        places = torch.nonzero(where).flatten()
        return places[torch.randperm(len(places), generator=stream)[:count]]

    clean = shown.group != POISON
    gone = torch.cat([drawn(dropped & (shown.group == each), most) for each in (ADVERSARIAL, OWN)])[:most]
    own = int((shown.group[gone] == OWN).sum()) if len(gone) else 0
    counts = {ADVERSARIAL: most - own, OWN: own}
    kept = torch.cat([drawn(~dropped & clean & (shown.group == each), count) for each, count in counts.items()])
    return {"poisons": drawn(shown.group == POISON, most), "dropped": gone, "kept": kept}
