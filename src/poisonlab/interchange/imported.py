"""Reads poisons of any known format, and completes them from the dataset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError
from poisonlab.interchange import backdoorbench, benchmark, tensors
from poisonlab.interchange.aiming import Split, are_test_images, goal_of, warn_of_next_labels, with_targets
from poisonlab.interchange.class_folders import holds_class_folders, read_class_folders
from poisonlab.interchange.forms import EXPECTED, Holds
from poisonlab.interchange.imported_poisons import ImportedPoisons, from_poison_set
from poisonlab.interchange.placing import Signs, place
from poisonlab.interchange.png_folder import png_files, read_png_folder

_TARGET_ROW = {"test": "target_index", "train": "target_training_row"}

__all__ = ["ImportedPoisons", "complete", "read_poisons"]


def read_poisons(
    path: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    holds: Holds | None = None,
) -> ImportedPoisons:
    """Read poisons in the format that ``path`` shows.

    Args:
        path: a folder of the poisoning benchmark (``poisons.pickle``), a file of arrays (``file_content``) or a folder
            with ``poisons.pth``, a folder of PNGs named after training rows, or of such folders by class, a record of
            BackdoorBench, or a ``.safetensors`` poison set of poisonlab.
        mean: three values in units of pixels in [0, 1], if the floats of a file of arrays are normalised.
        std: three values in the same units, with ``mean``.
        holds: the meaning of a bare array of floats whose values are ambiguous.

    Raises:
        DataError: ``path`` holds no poisons, or they are damaged, hostile or contradictory.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no file or folder of poisons here: correct the path")
    record = path.name == backdoorbench.RECORD or (path / backdoorbench.RECORD).is_file()
    if not record and not (path / benchmark.POISONS).is_file() and tensors.holds_tensors(path):
        return tensors.read_tensors(path, mean, std, holds)
    if mean is not None or std is not None or holds is not None:
        raise DataError(f"{path} is no file of arrays, so its images are 8-bit: leave out mean and std, and holds")
    if record:
        return backdoorbench.read_record(path)
    if (path / benchmark.POISONS).is_file():
        return benchmark.read_benchmark(path)
    if path.is_file() and path.suffix == ".safetensors":
        return from_poison_set(PoisonSet.load(path), str(path))
    if path.is_dir() and png_files(path):
        return read_png_folder(path)
    if (path / "bd_train_dataset").is_dir():
        raise DataError(
            f"{path} is a record of BackdoorBench without {backdoorbench.RECORD}, which holds the labels: copy it "
            "beside bd_train_dataset"
        )
    if holds_class_folders(path):
        return read_class_folders(path)
    if (kind := other_kind(path)) is not None:
        raise DataError(
            f"{path} is {kind.partition(':')[0]}, and no format of poisons: {EXPECTED} with torch.save, as a .pth"
        )
    raise DataError(
        f"{path} holds no poisons: it must be a folder with poisons.pickle, with poisons.pth, with <row>.png or with "
        "<class>/<row>.png, a record of BackdoorBench, a file of arrays (.pth, .pt, .npz, .npy, .pickle), or a poison "
        "set (.safetensors)"
    )


def complete(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    *,
    rows: Tensor | Literal["appended"] | None = None,
    signs: Signs = "both",
    targeted: bool = True,
    target_index: int | None = None,
    target_split: Split = "test",
    photos: Tensor | None = None,
    target_label: int | str | None = None,
    adversarial_label: int | str | None = None,
    all_to_all: bool = False,
    allow_mismatch: bool = False,
) -> PoisonSet:
    """Fill in from the dataset what the import does not say, and check that both fit together.

    Missing labels are the training labels of the replaced rows. Base images are these rows; the base of an appended
    poison (index -1) is the poison itself. Changes are added to the images of their rows, clipped to valid pixels, and
    rounded to whole levels. An import without rows covers the whole training set, if it has one image for
    each row, or one change for each class. Images of a whole set that are unchanged are not poisons.

    The adversarial label is the given one, else the import's, else the one label of all poisons, including appended
    poisons (the benchmark and FRIENDS take the first poison's). The last choice suits clean-label attacks, whose
    poisons come from the class the target shall be taken for. If the poisons have several labels, the adversarial label
    must be given, unless every class shall be taken for the next one (``all_to_all``).

    If all poisons replace one class and have the next label, a ``DataWarning`` is issued, unless a target or the
    adversarial label shows that labels count from 0.

    Targets that already are of their adversarial class are left out with a ``DataWarning``, because no attack can
    succeed or fail on them. At least one target must be left.

    Args:
        imported: what ``read_poisons`` returned.
        dataset: the dataset the poisons are for.
        rows: (R,) int64, the training row of each position, or of each poison if the import has no positions;
            "appended" if poisons without positions replace no row.
        signs: "plus" leaves out the negative part of changes, as the loader of Unlearnable Examples does.
        targeted: whether the set gets a goal; without a goal, the attack is on the accuracy as a whole.
        target_index: row of the target in ``target_split``; only if the import has no targets.
        target_split: the split of ``target_index``.
        photos: (T, C, H, W) uint8, targets that are in no split; only if the import has no targets.
        target_label: the true class of the targets, if the import has targets without labels; its number or name.
        adversarial_label: the class the attacker wants; its number or name.
        all_to_all: whether a target of class k shall be taken for class k + 1, and a target of the last class for the
            first (BadNets, Gu et al. 2017, section 4.1.2); poisons must have these labels.
        allow_mismatch: whether most poisons may look unlike the images that they replace, see ``placing``, and targets
            may have other labels than test images of the same pixels.

    Returns:
        A set with uint8 images; ``facts`` has the ``target_index`` (or ``target_training_row``) if one was given.

    Raises:
        DataError: something is missing or contradicts the dataset: an image size, an index, a label, a target.
        SettingsError: a given class does not exist.
    """
    source = imported.source
    true = None if target_label is None else dataset.class_number(target_label, f"{source}: target_label")
    wanted = (
        None if adversarial_label is None else dataset.class_number(adversarial_label, f"{source}: adversarial_label")
    )
    imported = _as_grey(_with_classes(imported, dataset), dataset)
    if tuple(imported.images.shape[1:]) != dataset.image_shape:
        raise DataError(
            f"{source}: poisons are {tuple(imported.images.shape[1:])} but the dataset's images are "
            f"{dataset.image_shape}: import poisons made for this dataset"
        )
    if not targeted and imported.targets is not None:
        raise DataError(f"{source} has targets: leave out targeted: false, or remove the targets")
    placed = place(imported, dataset, rows, signs, allow_mismatch)
    goal = None
    if targeted:
        aimed = with_targets(imported, dataset, target_index, target_split, photos, allow_mismatch)
        goal = goal_of(aimed, dataset, placed.labels, placed.indices, true, wanted, all_to_all)
        known = allow_mismatch or (target_index is None and are_test_images(goal, dataset, source))
        # Labels of targets show how labels of poisons count only if both come from the files.
        if wanted is None and not all_to_all and not (known and imported.target_labels is not None):
            warn_of_next_labels(placed.labels, placed.indices, dataset, source)
    return PoisonSet(
        indices=placed.indices,
        images=placed.images,
        labels=placed.labels,
        base_images=placed.bases,
        goal=goal,
        facts={} if target_index is None else {_TARGET_ROW[target_split]: target_index},
    )


def _with_classes(imported: ImportedPoisons, dataset: ImageDataset) -> ImportedPoisons:
    """The import with labels in place of class names."""

    def numbers(names: Sequence[str] | None) -> Tensor | None:
        return None if names is None else torch.tensor([_number_of(name, dataset, imported.source) for name in names])

    if imported.label_names is not None:
        imported = replace(imported, labels=numbers(imported.label_names), label_names=None)
    if imported.adversarial_names is not None:
        imported = replace(imported, adversarial_labels=numbers(imported.adversarial_names), adversarial_names=None)
    return imported


def _number_of(name: str, dataset: ImageDataset, source: str) -> int:
    """The class that has the name of a folder, else the class of that number."""
    if name not in dataset.class_names and name.isascii() and name.isdigit() and len(name) < 10:
        return dataset.class_number(int(name), f"{source}: a folder")
    return dataset.class_number(name, f"{source}: a folder")


def _as_grey(imported: ImportedPoisons, dataset: ImageDataset) -> ImportedPoisons:
    """For a dataset of grey images, one channel of grey RGB images: image files are always read as RGB."""

    def grey(images: Tensor | None) -> Tensor | None:
        if images is None or images.shape[1] != 3 or not torch.equal(images, images[:, :1].expand_as(images)):
            return images
        return images[:, :1].contiguous()

    if dataset.image_shape[0] != 1:
        return imported
    images = grey(imported.images)
    assert images is not None
    return replace(
        imported, images=images, targets=grey(imported.targets), unpatched_targets=grey(imported.unpatched_targets)
    )
