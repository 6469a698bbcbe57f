"""Reading poisons of any known format, and completing them with what the dataset knows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError, DataWarning
from poisonlab.interchange import backdoorbench, benchmark, tensors
from poisonlab.interchange.class_folders import holds_class_folders, read_class_folders
from poisonlab.interchange.forms import EXPECTED, Holds
from poisonlab.interchange.imported_poisons import ImportedPoisons, from_poison_set
from poisonlab.interchange.parts import plain_labels, to_levels
from poisonlab.interchange.png_folder import png_files, read_png_folder
from poisonlab.randomness import generator

Split = Literal["test", "train"]
Signs = Literal["both", "plus"]

_OTHERS = 16
_CHUNK = 1000

__all__ = ["ImportedPoisons", "complete", "read_poisons"]


def read_poisons(
    path: Path,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    holds: Holds | None = None,
) -> ImportedPoisons:
    """Read poisons; what lies at ``path`` tells the format.

    Args:
        path: a folder of the poisoning benchmark (``poisons.pickle``), a file of arrays (``file_content``) or a folder
            with ``poisons.pth``, a folder of PNGs named after training rows, or of such folders by class, a record of
            BackdoorBench, or a ``.safetensors`` poison set of poisonlab.
        mean: three values in units of pixels in [0, 1], if the floats of a file of arrays are normalised.
        std: likewise.
        holds: what a bare array of floats means, where its values leave it open.

    Raises:
        DataError: there is nothing of the kind, or it is damaged, hostile or contradicts itself.
    """
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
    """Fill in what the import does not say, and check it against the dataset it is meant for.

    Labels that are missing are the training labels of the rows that are replaced. Base images are those rows; the
    base of an appended poison (index -1) is the poison itself. Changes are added to the images of their rows, and cut
    to valid pixels. Floats are rounded to whole levels. An import without rows is of the whole training set, if it has
    as many images, or changes of as many classes; images of the whole set that are as they were are no poisons.

    The adversarial label is the given one, or the import's; if neither says it, it is the label that all poisons
    carry, appended ones included, as the benchmark and FRIENDS take the first poison's. That holds for clean-label
    attacks, whose poisons come from the class the target shall be taken for. If the poisons have several labels it
    must be given, unless every class is to be taken for the next one (``all_to_all``).

    Of several targets, those that are of their adversarial class are left out with a ``DataWarning``: no attack can
    succeed or fail on them.

    Args:
        imported: what ``read_poisons`` returned.
        dataset: the dataset the poisons are for.
        rows: (R,) int64, the training row that each position means, or each poison of an import without positions;
            "appended" if such poisons replace none.
        signs: "plus" leaves out the negative part of changes, as the loader of Unlearnable Examples does.
        targeted: whether the set gets a goal; without one it is an attack on the accuracy as a whole.
        target_index: row of a split that is the target; only if the import has no targets.
        target_split: which split.
        photos: (T, C, H, W) uint8, images of no split as targets; likewise.
        target_label: the true class of the targets, if the import has targets without labels; its number or name.
        adversarial_label: the class the attacker wants, likewise.
        all_to_all: whether a target of class k is to be taken for class k + 1, and one of the last class for the first
            (BadNets, Gu et al. 2017, section 4.1.2); poisons must be labelled so.
        allow_mismatch: whether most poisons may look unlike the images that they replace, see ``_check_rows``.

    Returns:
        A set with uint8 images; ``facts`` has the ``target_index`` if one was given.

    Raises:
        DataError: something is missing or contradicts the dataset: an image size, an index, a label, a target.
        SettingsError: a class that is named does not exist.
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
    indices = _indices(imported, dataset, rows)
    labels = _labels(imported, indices, dataset)
    _check_classes("label", labels, dataset.num_classes, source)
    images = _shipped(imported, indices, dataset, signs)
    if not allow_mismatch:
        _check_labels(imported, indices, labels, dataset)
    images, labels, indices = _poisoned(images, labels, indices, dataset, source)
    bases = _bases(images, indices, dataset)
    if not allow_mismatch and not imported.changes:
        _check_rows(images, bases, indices, labels, dataset, source)
    goal = None
    if targeted:
        imported = _with_targets(imported, dataset, target_index, target_split, photos, allow_mismatch)
        goal = _goal(imported, dataset, labels, indices, true, wanted, all_to_all)
    return PoisonSet(
        indices=indices,
        images=images,
        labels=labels,
        base_images=bases,
        goal=goal,
        facts={} if target_index is None else {"target_index": target_index},
    )


def _with_classes(imported: ImportedPoisons, dataset: ImageDataset) -> ImportedPoisons:
    """Labels for the names of classes."""

    def numbers(names: Sequence[str] | None) -> Tensor | None:
        return None if names is None else torch.tensor([_number_of(name, dataset, imported.source) for name in names])

    if imported.label_names is not None:
        imported = replace(imported, labels=numbers(imported.label_names), label_names=None)
    if imported.adversarial_names is not None:
        imported = replace(imported, adversarial_labels=numbers(imported.adversarial_names), adversarial_names=None)
    return imported


def _number_of(name: str, dataset: ImageDataset, source: str) -> int:
    """The class that a folder is called by, by its name, or by its number where no class has that name."""
    if name not in dataset.class_names and name.isascii() and name.isdigit() and len(name) < 10:
        return dataset.class_number(int(name), f"{source}: a folder")
    return dataset.class_number(name, f"{source}: a folder")


def _as_grey(imported: ImportedPoisons, dataset: ImageDataset) -> ImportedPoisons:
    """Of RGB images that are grey, for a dataset of grey images, one channel; image files are always read as RGB."""

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


def _goal(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    labels: Tensor,
    indices: Tensor,
    target_label: int | None,
    adversarial_label: int | None,
    all_to_all: bool,
) -> Goal:
    source = imported.source
    targets = imported.targets
    assert targets is not None
    target_labels = _target_labels(imported, len(targets), target_label)
    _check_classes("target label", target_labels, dataset.num_classes, source)
    relabelled = _relabelled_as_next(labels, indices, dataset)
    if all_to_all:
        if adversarial_label is not None or imported.adversarial_labels is not None:
            raise DataError(f"{source}: all_to_all and an adversarial label contradict each other: leave one out")
        if odd := int((~relabelled).sum()):
            raise DataError(
                f"{source}: {odd} of {len(relabelled)} poisons that replace a training image do not have the label of "
                "the class after its own: leave out all_to_all, and give adversarial_label"
            )
        aims = (target_labels + 1) % dataset.num_classes
    else:
        next_one = len(relabelled) > 0 and bool(relabelled.all())
        aims = _adversarial_labels(imported, labels, adversarial_label, next_one).expand(len(targets)).clone()
    _check_classes("adversarial label", aims, dataset.num_classes, source)
    return _attackable(Goal(targets, target_labels, aims, imported.unpatched_targets), dataset, source)


def _relabelled_as_next(labels: Tensor, indices: Tensor, dataset: ImageDataset) -> Tensor:
    """(R,) bool, of the poisons that replace an image: whether they are labelled with the class after its own."""
    replaced = indices >= 0
    return labels[replaced] == (dataset.train_labels[indices[replaced]] + 1) % dataset.num_classes


def _attackable(goal: Goal, dataset: ImageDataset, source: str) -> Goal:
    """The targets that are not of their adversarial class.

    Raises:
        DataError: there is none.
    """
    kept = goal.adversarial_labels != goal.target_labels
    left_out = len(kept) - int(kept.sum())
    if left_out == 0:
        return goal
    first = int(goal.adversarial_labels[~kept][0])
    named = f"class {first} ({dataset.class_names[first]})"
    if left_out == len(kept):
        raise DataError(
            f"{source}: {'the target is' if len(kept) == 1 else f'all {len(kept)} targets are'} of {named}, which is "
            "the adversarial class: there is nothing to attack; check the targets, their labels and adversarial_label"
        )
    warnings.warn(
        f"{source}: {left_out} of {len(kept)} targets are of their adversarial class, as {named}, and left out: no "
        "attack can succeed on them",
        DataWarning,
        stacklevel=3,
    )
    untriggered = None if goal.untriggered is None else goal.untriggered[kept]
    return Goal(goal.targets[kept], goal.target_labels[kept], goal.adversarial_labels[kept], untriggered)


def _indices(imported: ImportedPoisons, dataset: ImageDataset, rows: Tensor | str | None) -> Tensor:
    """The training row that each poison replaces, (P,) int64; -1 is appended."""
    source, count, total = imported.source, len(imported.images), len(dataset.train_images)
    if isinstance(rows, str):
        if imported.indices is not None:
            raise DataError(f"{source} says which rows its poisons replace: leave out rows: appended")
        return torch.full((count,), -1, dtype=torch.int64)
    if rows is not None:
        return _rows_of_positions(imported, rows, total)
    if imported.indices is not None:
        highest = int(imported.indices.max())
        if highest >= total:
            raise DataError(f"{source}: index {highest} is beyond the dataset's {total} training rows")
        return imported.indices
    if count == total or (imported.changes and count == dataset.num_classes):
        return torch.arange(total)
    raise DataError(
        f"{source} does not say which of the dataset's {total} training rows its {count} poisons replace: give rows, a "
        "file of these, or rows: appended, if they are added to the training set"
    )


def _rows_of_positions(imported: ImportedPoisons, rows: Tensor, total: int) -> Tensor:
    source, count = imported.source, len(imported.images)
    if len(rows) == 0 or int(rows.min()) < 0 or int(rows.max()) >= total or len(set(rows.tolist())) < len(rows):
        raise DataError(f"{source}: rows must be different training rows among the dataset's {total}")
    if imported.indices is None:
        if len(rows) != count:
            raise DataError(f"{source}: rows names {len(rows)} training rows for {count} poisons: name one for each")
        return rows
    lowest, highest = int(imported.indices.min()), int(imported.indices.max())
    if lowest < 0 or highest >= len(rows):
        odd = lowest if lowest < 0 else highest
        raise DataError(f"{source}: position {odd} is none of the {len(rows)} rows that rows names: correct rows")
    return rows[imported.indices]


def _shipped(imported: ImportedPoisons, indices: Tensor, dataset: ImageDataset, signs: Signs) -> Tensor:
    """The poisons in uint8, changes added to the images of their rows; of few at a time, because they may be many."""
    if signs == "plus" and not imported.changes:
        raise DataError(f"{imported.source} holds images, and no changes: leave out signs")
    if not imported.changes:
        return torch.cat([to_levels(part) for part in torch.split(imported.images, _CHUNK)])
    if bool((indices < 0).any()):
        raise DataError(f"{imported.source} holds changes of images, which cannot be appended: give rows")
    per_class = len(imported.images) != len(indices)
    changed = []
    for place in torch.split(torch.arange(len(indices)), _CHUNK):
        own = imported.images[dataset.train_labels[indices[place]] if per_class else place].double()
        own = own.clamp(min=0) if signs == "plus" else own
        changed.append(to_levels((dataset.train_images[indices[place]].double() / 255 + own).clamp(0, 1)))
    return torch.cat(changed)


def _poisoned(
    images: Tensor, labels: Tensor, indices: Tensor, dataset: ImageDataset, source: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, labels and rows without those of a whole training set that are as they were."""
    if len(indices) != len(dataset.train_images) or bool((indices < 0).any()):
        return images, labels, indices
    changed = (labels != dataset.train_labels[indices]) | (images != dataset.train_images[indices]).flatten(1).any(1)
    if not bool(changed.any()):
        raise DataError(f"{source} is the dataset's training set as it is: there is no poison in it")
    return images[changed], labels[changed], indices[changed]


def _labels(imported: ImportedPoisons, indices: Tensor, dataset: ImageDataset) -> Tensor:
    if imported.labels is not None:
        return imported.labels
    if bool((indices < 0).any()):
        raise DataError(
            f"{imported.source}: appended poisons replace no training row, so they need labels of their own"
        )
    return dataset.train_labels[indices]


def _bases(images: Tensor, indices: Tensor, dataset: ImageDataset) -> Tensor:
    replaced = indices >= 0
    bases = images.clone()
    bases[replaced] = dataset.train_images[indices[replaced]]
    return bases


def _check_rows(
    images: Tensor, bases: Tensor, indices: Tensor, labels: Tensor, dataset: ImageDataset, source: str
) -> None:
    """Check that the rows count this order of the training images.

    A poison is a changed version of its base, so it is nearer to that, by the mean absolute change, than to each of
    ``_OTHERS`` images drawn at random. If the rows counted another order, a base would be a random image, and nearest
    in one of ``_OTHERS`` + 1 cases.

    Raises:
        DataError: more than half of the poisons are nearer to another image.
    """
    replaced = torch.nonzero(indices >= 0).flatten()
    if len(replaced) == 0:
        return
    drawn = torch.randperm(len(dataset.train_images), generator=generator("cpu", 0, "imported", "others"))[:_OTHERS]
    others = dataset.train_images[drawn].float()
    changes, unlike = [], 0
    for rows in torch.split(replaced, 1000):
        poisons = images[rows].float()
        change = (poisons - bases[rows].float()).abs()
        nearest = torch.stack([(poisons - other).abs().flatten(1).mean(1) for other in others]).amin(0)
        unlike += int((change.flatten(1).mean(1) > nearest).sum())
        changes.append((float(change.max()), float(change.mean()) * len(rows)))
    if unlike == 0:
        return
    largest, mean = max(most for most, _ in changes), sum(total for _, total in changes) / len(replaced)
    relabelled = int((labels[replaced] != dataset.train_labels[indices[replaced]]).sum())
    found = (
        f"{source}: {unlike} of {len(replaced)} poisons are nearer to other training images than to those that they "
        f"replace, pixels change by up to {largest:g} levels ({mean:.0f} on average), and {relabelled} labels differ"
    )
    if 2 * unlike > len(replaced):
        raise DataError(
            f"{found}: their rows count another order of the images or another dataset; use the dataset they were made "
            "for, say with rows which rows they mean, or set allow_mismatch: true if they are meant to look so"
        )
    warnings.warn(found, DataWarning, stacklevel=3)


def _check_labels(imported: ImportedPoisons, indices: Tensor, labels: Tensor, dataset: ImageDataset) -> None:
    """Check that the rows count this order of the training images, by the labels that the file knows.

    Raises:
        DataError: the true classes differ, or most labels of changes, which are of the images as they are.
    """
    known, most = imported.original_labels, 0
    if known is None and imported.changes and imported.labels is not None:
        known, most = labels, len(labels) // 2
    if known is None:
        return
    differ = int((known != dataset.train_labels[indices]).sum())
    if differ > most:
        raise DataError(
            f"{imported.source}: {differ} of {len(known)} poisons are of another class than the images that they "
            "replace: their rows count another order of the images or another dataset; use the dataset they were made "
            "for, say with rows which rows they mean, or set allow_mismatch: true"
        )


def _with_targets(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    target_index: int | None,
    split: Split,
    photos: Tensor | None,
    allow_mismatch: bool,
) -> ImportedPoisons:
    """The import with targets: its own, a row of a split, or photos; and with what their rows say of them."""
    source = imported.source
    if imported.targets is not None:
        if target_index is not None or photos is not None:
            given = "target_files" if target_index is None else "target_index"
            raise DataError(f"{source} has targets of its own: leave out {given}")
        return imported if imported.target_rows is None else _of_rows(imported, dataset, allow_mismatch)
    if photos is not None:
        return replace(imported, targets=photos)
    if target_index is None:
        raise DataError(
            f"{source} has no target: give target_index, its row in the test split, target_files, or targeted: false "
            "if the poisons are to spoil the accuracy as a whole"
        )
    images, labels = (
        (dataset.test_images, dataset.test_labels) if split == "test" else (dataset.train_images, dataset.train_labels)
    )
    if not 0 <= target_index < len(images):
        raise DataError(f"{source}: target_index {target_index} is not among the dataset's {len(images)} {split} rows")
    if split == "train":
        warnings.warn(
            f"{source}: the target is training image {target_index}: victims that train on it learn its true class, so "
            "leave it out of what they are fine-tuned on",
            DataWarning,
            stacklevel=3,
        )
    place = slice(target_index, target_index + 1)
    return replace(imported, targets=images[place], target_labels=labels[place])


def _of_rows(imported: ImportedPoisons, dataset: ImageDataset, allow_mismatch: bool) -> ImportedPoisons:
    """Targets that are test images: their classes, and, if they bear a trigger, the images without it."""
    source, rows, targets = imported.source, imported.target_rows, imported.targets
    assert rows is not None
    assert targets is not None
    if int(rows.max()) >= len(dataset.test_images):
        raise DataError(
            f"{source}: target {int(rows.max())} is beyond the dataset's {len(dataset.test_images)} test rows"
        )
    plain, classes = dataset.test_images[rows], dataset.test_labels[rows]
    # One level apart are a release that rounds and one that cuts off.
    alike = bool(((targets.int() - plain.int()).abs() <= 1).all())
    known = imported.target_labels
    fits = alike if known is None else torch.equal(known, classes)
    if not fits and not allow_mismatch:
        what = "unlike the test images" if known is None else "of another class than the test images"
        raise DataError(
            f"{source}: targets are {what} of their rows, which count another order of the images or another dataset: "
            "use the dataset they were made for, or set allow_mismatch: true"
        )
    return replace(
        imported,
        target_labels=classes if known is None else known,
        unpatched_targets=None if alike else plain,
    )


def _target_labels(imported: ImportedPoisons, count: int, given: int | None) -> Tensor:
    known = imported.target_labels
    if known is None:
        if given is None:
            raise DataError(f"{imported.source} does not say the true class of its targets: give target_label")
        return torch.full((count,), given, dtype=torch.int64)
    if given is not None and bool((known != given).any()):
        raise DataError(
            f"{imported.source}: target_label {given} contradicts the known class {int(known[0])}: leave it out"
        )
    return known


def _adversarial_labels(imported: ImportedPoisons, labels: Tensor, given: int | None, next_one: bool) -> Tensor:
    """(1,) or (T,) int64."""
    known = imported.adversarial_labels
    if known is not None:
        if given is not None and bool((known != given).any()):
            own = plain_labels(known)
            raise DataError(f"{imported.source}: adversarial_label {given} contradicts its own {own}: leave it out")
        return known
    if given is not None:
        return torch.tensor([given])
    found: Tensor = torch.unique(labels)
    if len(found) > 1:
        cure = (
            "each is the class after that of the image it replaces, so set all_to_all: true"
            if next_one
            else "give adversarial_label, the class that targets are to be taken for"
        )
        raise DataError(f"{imported.source}: its poisons have {len(found)} different labels: {cure}")
    return found


def _check_classes(name: str, labels: Tensor, classes: int, source: str) -> None:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        odd = lowest if lowest < 0 else highest
        raise DataError(f"{source}: {name} {odd} is none of the dataset's classes 0 ... {classes - 1}")
