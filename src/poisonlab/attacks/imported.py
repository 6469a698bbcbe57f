"""Imported poisons as an attack like any other (docs/import-poisons.md lists the formats)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.unseen_targets import unseen_row
from poisonlab.config.attacks.imported import APPENDED, LastPerClass
from poisonlab.config.attacks.imported import Imported as Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.interchange.imported import complete, read_poisons
from poisonlab.interchange.rows import last_per_class, read_photos, read_rows


def craft(
    dataset: ImageDataset, attacker: Attacker, settings: Settings, *, seed: int, progress: bool = False
) -> PoisonSet:
    """Read the poisons of ``seed`` and place them in the dataset; nothing is crafted or drawn.

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
        photos=_targets(settings, dataset, attacker, seed),
        target_label=settings.target_label,
        adversarial_label=settings.adversarial_label,
        all_to_all=settings.all_to_all,
        allow_mismatch=settings.allow_mismatch,
    )


def _targets(settings: Settings, dataset: ImageDataset, attacker: Attacker, seed: int) -> Tensor | None:
    """Target images (T, C, H, W) uint8 from outside the files of the poisons, or None if the settings name none."""
    if settings.target_among_last is None:
        photos = settings.photos_at(seed)
        return read_photos(photos, dataset) if photos else None
    assert settings.target_label is not None, "the settings check that"
    label = dataset.class_number(settings.target_label, "target_label")
    row = unseen_row(dataset, attacker, label, settings.target_among_last, seed)
    return dataset.train_images[row : row + 1]


def _rows(settings: Settings, dataset: ImageDataset, seed: int) -> Tensor | Literal["appended"] | None:
    """The training rows of the imported positions, see ``complete``."""
    if isinstance(settings.rows, LastPerClass):
        return last_per_class(dataset.train_labels, settings.rows.last_per_class, settings.rows.moved)
    file = settings.rows_at(seed)
    return read_rows(file) if file is not None else "appended" if settings.rows == APPENDED else None
