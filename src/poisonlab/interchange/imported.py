"""Reading poisons of any known format, and completing them with what the dataset knows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError, DataWarning
from poisonlab.interchange import benchmark, tensors
from poisonlab.interchange.imported_poisons import ImportedPoisons, from_poison_set
from poisonlab.interchange.parts import plain_labels, to_levels
from poisonlab.interchange.png_folder import png_files, read_png_folder
from poisonlab.randomness import generator

_OTHERS = 16

__all__ = ["ImportedPoisons", "complete", "read_poisons"]


def read_poisons(
    path: Path, mean: Sequence[float] | None = None, std: Sequence[float] | None = None
) -> ImportedPoisons:
    """Read poisons; what lies at ``path`` tells the format.

    Args:
        path: a folder of the poisoning benchmark (``poisons.pickle``), a folder with ``poisons.pth`` or a ``.pth``
            file, a folder of PNGs named after training rows, or a ``.safetensors`` poison set of poisonlab.
        mean: three values in units of pixels in [0, 1], if the floats of a ``.pth`` are normalised.
        std: likewise.

    Raises:
        DataError: there is nothing of the kind, or it is damaged, hostile or contradicts itself.
    """
    if _holds_tensors(path):
        return tensors.read_tensors_pth(path, mean, std)
    if mean is not None or std is not None:
        raise DataError(f"{path} is no .pth, so its images are not normalised: leave out mean and std")
    if (path / benchmark.POISONS).is_file():
        return benchmark.read_benchmark(path)
    if path.is_file() and path.suffix == ".safetensors":
        return from_poison_set(PoisonSet.load(path), str(path))
    if path.is_dir() and png_files(path):
        return read_png_folder(path)
    if (path / "bd_train_dataset").is_dir():
        raise DataError(
            f"{path} is a record of BackdoorBench: put the images of bd_train_dataset/<class>/<row>.png into one "
            'folder, as <row>.png, with the labels in poisons.json ({"labels": {"<row>": <class>}}), and name that'
        )
    if (kind := other_kind(path, b"PK")) is not None or path.suffix == ".npz":
        called = "a NumPy archive (.npz)" if kind is None else kind.partition(":")[0]
        raise DataError(f"{path} is {called}, and no format of poisons: {tensors.EXPECTED} with torch.save, as a .pth")
    raise DataError(
        f"{path} holds no poisons: it must be a folder with poisons.pickle, with poisons.pth or with <row>.png, "
        "a .pth file, or a poison set (.safetensors)"
    )


def _holds_tensors(path: Path) -> bool:
    in_folder = (path / tensors.POISONS).is_file() and not (path / benchmark.POISONS).is_file()
    return in_folder or (path.is_file() and path.suffix in (".pth", ".pt"))


def complete(
    imported: ImportedPoisons,
    dataset: ImageDataset,
    *,
    targeted: bool = True,
    target_index: int | None = None,
    target_label: int | str | None = None,
    adversarial_label: int | str | None = None,
    all_to_all: bool = False,
    allow_mismatch: bool = False,
) -> PoisonSet:
    """Fill in what the import does not say, and check it against the dataset it is meant for.

    Labels that are missing are the training labels of the rows that are replaced. Base images are those rows; the
    base of an appended poison (index -1, and every poison of an import without indices) is the poison itself.
    Floats are rounded to whole levels.

    The adversarial label is the given one, or the import's; if neither says it, it is the label that all poisons
    carry, appended ones included, as the benchmark and FRIENDS take the first poison's. That holds for clean-label
    attacks, whose poisons come from the class the target shall be taken for. If the poisons have several labels it
    must be given, unless every class is to be taken for the next one (``all_to_all``).

    Of several targets, those that are of their adversarial class are left out with a ``DataWarning``: no attack can
    succeed or fail on them.

    Args:
        imported: what ``read_poisons`` returned.
        dataset: the dataset the poisons are for.
        targeted: whether the set gets a goal; without one it is an attack on the accuracy as a whole.
        target_index: row of the test split that is the target; only if the import has no targets.
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
    imported = _as_grey(imported, dataset)
    if tuple(imported.images.shape[1:]) != dataset.image_shape:
        raise DataError(
            f"{source}: poisons are {tuple(imported.images.shape[1:])} but the dataset's images are "
            f"{dataset.image_shape}: import poisons made for this dataset"
        )
    images = to_levels(imported.images)
    indices = _indices(imported, len(dataset.train_images))
    labels = _labels(imported, indices, dataset)
    _check_classes("label", labels, dataset.num_classes, source)
    if not targeted and imported.targets is not None:
        raise DataError(f"{source} has targets: leave out targeted: false, or remove the targets")
    bases = _bases(images, indices, dataset)
    if not allow_mismatch:
        _check_rows(images, bases, indices, labels, dataset, source)
    return PoisonSet(
        indices=indices,
        images=images,
        labels=labels,
        base_images=bases,
        goal=_goal(imported, dataset, labels, indices, target_index, true, wanted, all_to_all) if targeted else None,
        facts={} if target_index is None else {"target_index": target_index},
    )


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
    target_index: int | None,
    target_label: int | None,
    adversarial_label: int | None,
    all_to_all: bool,
) -> Goal:
    source = imported.source
    targets, true_label = _targets(imported, dataset, target_index)
    target_labels = _target_labels(imported, len(targets), true_label, target_label)
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


def _indices(imported: ImportedPoisons, rows: int) -> Tensor:
    if imported.indices is None:
        return torch.full((len(imported.images),), -1, dtype=torch.int64)
    highest = int(imported.indices.max())
    if highest >= rows:
        raise DataError(f"{imported.source}: index {highest} is beyond the dataset's {rows} training rows")
    return imported.indices


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
            "for, or set allow_mismatch: true if they are meant to look so"
        )
    warnings.warn(found, DataWarning, stacklevel=3)


def _targets(imported: ImportedPoisons, dataset: ImageDataset, target_index: int | None) -> tuple[Tensor, int | None]:
    """The targets, and the true label if they come from the test split."""
    source, rows = imported.source, len(dataset.test_images)
    if imported.targets is not None:
        if target_index is not None:
            raise DataError(f"{source} has targets of its own: leave out target_index")
        return imported.targets, None
    if target_index is None:
        raise DataError(
            f"{source} has no target: give target_index, its row in the test split, or targeted: false if the poisons "
            "are to spoil the accuracy as a whole"
        )
    if not 0 <= target_index < rows:
        raise DataError(f"{source}: target_index {target_index} is not among the dataset's {rows} test rows")
    return dataset.test_images[target_index : target_index + 1], int(dataset.test_labels[target_index])


def _target_labels(imported: ImportedPoisons, count: int, true_label: int | None, given: int | None) -> Tensor:
    known = imported.target_labels
    if true_label is not None:
        known = torch.tensor([true_label])
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
