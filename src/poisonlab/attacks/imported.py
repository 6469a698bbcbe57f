"""Poisons made elsewhere, as an attack like any other (docs/import-poisons.md lists the formats)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.imported import APPENDED, LastPerClass
from poisonlab.config.attacks.imported import Imported as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.interchange.imported import complete, read_poisons
from poisonlab.interchange.rows import last_per_class, read_photos, read_rows


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Read the poisons of ``seed`` and set them into the dataset; nothing is crafted or drawn.

    Raises:
        DataError: the files are damaged, refused (a pickle that would run code), or do not fit the dataset.
    """
    return complete(
        read_poisons(settings.at(seed), settings.mean, settings.std, settings.holds),
        dataset,
        rows=_rows(settings, dataset, seed),
        signs=settings.signs,
        targeted=settings.targeted,
        target_index=settings.target_index,
        target_split=settings.target_split,
        photos=read_photos(photos, dataset) if (photos := settings.photos_at(seed)) else None,
        target_label=settings.target_label,
        adversarial_label=settings.adversarial_label,
        all_to_all=settings.all_to_all,
        allow_mismatch=settings.allow_mismatch,
    )


def _rows(settings: Settings, dataset: ImageDataset, seed: int) -> Tensor | Literal["appended"] | None:
    """The training rows that positions mean, see ``complete``."""
    if isinstance(settings.rows, LastPerClass):
        return last_per_class(dataset.train_labels, settings.rows.last_per_class)
    file = settings.rows_at(seed)
    return read_rows(file) if file is not None else "appended" if settings.rows == APPENDED else None
