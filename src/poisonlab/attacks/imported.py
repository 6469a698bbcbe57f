"""Poisons made elsewhere, as an attack like any other (docs/import-poisons.md lists the formats)."""

from __future__ import annotations

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.imported import Imported as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.interchange.imported import complete, read_poisons


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Read the poisons of ``seed`` and set them into the dataset; nothing is crafted or drawn.

    Raises:
        DataError: the files are damaged, refused (a pickle that would run code), or do not fit the dataset.
    """
    return complete(
        read_poisons(settings.at(seed), settings.mean, settings.std),
        dataset,
        targeted=settings.targeted,
        target_index=settings.target_index,
        target_label=settings.target_label,
        adversarial_label=settings.adversarial_label,
        all_to_all=settings.all_to_all,
        allow_mismatch=settings.allow_mismatch,
    )
