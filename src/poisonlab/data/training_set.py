"""The training set a victim sees: images in memory, poisons in place."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.start import Start
from poisonlab.config.validation import Validation
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError
from poisonlab.randomness import generator


@dataclass(frozen=True)
class TrainingSet:
    """Images and labels to train on.

    Attributes:
        images: (N, C, H, W) uint8, or float32 in [0, 1].
        labels: (N,) int64.
        rows: (N,) int64: the position of each example in the poisoned set before any example was dropped. The noise of
            an example is looked up by its row.

    Raises:
        DataError: labels or rows are not int64 tensors of shape (N,), or a label is negative.
    """

    images: Tensor
    labels: Tensor
    rows: Tensor

    def __post_init__(self) -> None:
        count = len(self.images)
        for name, numbers in (("labels", self.labels), ("rows", self.rows)):
            if not isinstance(numbers, Tensor) or numbers.dtype != torch.int64:
                found = numbers.dtype if isinstance(numbers, Tensor) else f"a {type(numbers).__name__}"
                raise DataError(f"{name} of a training set are {found}: give torch.as_tensor({name}).long()")
            if numbers.shape != (count,):
                raise DataError(f"{name} of {count} training images have shape {tuple(numbers.shape)}: give one each")
        if bool((self.labels < 0).any()):
            raise DataError(f"a label of the training set is {int(self.labels.min())}: labels are 0, 1, 2, ...")

    def __len__(self) -> int:
        return len(self.labels)

    def to(self, device: torch.device) -> TrainingSet:
        return TrainingSet(self.images.to(device), self.labels.to(device), self.rows.to(device))

    def keep(self, positions: Tensor) -> TrainingSet:
        """Only the examples at ``positions`` (int64, or a bool mask)."""
        return TrainingSet(self.images[positions], self.labels[positions], self.rows[positions])


def pixels(images: Tensor) -> Tensor:
    """Images as float32 in [0, 1], from uint8 or float."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()


def held_out(labels: Tensor, validation: Validation) -> Tensor:
    """(V,) int64 sorted: positions in ``labels`` (N,) int64 of the validation examples, drawn from every class.

    Raises:
        DataError: a class would have no training images left.
    """
    chosen = []
    for label in torch.unique(labels):
        rows = torch.nonzero(labels == label).flatten()
        count = validation.per_class or max(1, round((validation.share or 0) * len(rows)))
        if count >= len(rows):
            raise DataError(
                f"dataset.validation takes {count} images of class {int(label)}, which has {len(rows)}: leave some to "
                "train on"
            )
        order = torch.randperm(len(rows), generator=generator("cpu", validation.seed, "validation", int(label)))
        chosen.append(rows[order[:count]])
    return torch.cat(chosen).sort().values


def clean_rows(dataset: ImageDataset) -> Tensor | None:
    """(F,) int64 sorted: the training rows without those held out for validation before poisoning; None for all."""
    if dataset.validation is None or dataset.validation.poisoned:
        return None
    return without(len(dataset.train_labels), held_out(dataset.train_labels, dataset.validation))


def split_validation(dataset: ImageDataset, data: TrainingSet) -> tuple[TrainingSet, TrainingSet | None]:
    """Split ``data`` into a part to train on and the validation set, which is None if ``dataset`` asks for none.

    Args:
        dataset: has the validation settings, and the images that were held out before poisoning.
        data: a whole ``training_set``.
    """
    if dataset.validation is None:
        return data, None
    if dataset.validation.poisoned:
        chosen = held_out(data.labels, dataset.validation)
        return data.keep(without(len(data), chosen)), data.keep(chosen)
    rows = held_out(dataset.train_labels, dataset.validation)
    return data, TrainingSet(dataset.train_images[rows], dataset.train_labels[rows], torch.full_like(rows, -1))


def last_of_each_class(labels: Tensor, count: int, rows: Tensor | None = None) -> Tensor:
    """Sorted positions of the last ``count`` examples of each class, in the order of ``labels`` (N,) int64.

    Args:
        labels: of all examples.
        count: examples to take of each class.
        rows: (F,) int64 sorted, the positions to take them from; all if not given.

    Raises:
        DataError: a class has fewer than ``count`` examples.
    """
    among = torch.arange(len(labels)) if rows is None else rows
    chosen = [among[labels[among] == label][-count:] for label in torch.unique(labels)]
    fewest = min(len(rows) for rows in chosen)
    if fewest < count:
        raise DataError(
            f"class {int(torch.unique(labels)[[len(rows) for rows in chosen].index(fewest)])} (counted from 0) has "
            f"only {fewest} training images, fewer than {count}: lower fine_tune_per_class, or held_out_per_class"
        )
    return torch.cat(chosen).sort().values


def fine_tuning_rows(dataset: ImageDataset, start: Start) -> Tensor | None:
    """(F,) int64 sorted: the training rows that a victim is trained on, some of which may be set apart after poisoning;
    None for all.

    Raises:
        DataError: a class has fewer images than ``start.fine_tune_per_class``.
    """
    rows = clean_rows(dataset)
    if start.fine_tune_per_class is None:
        return rows
    return last_of_each_class(dataset.train_labels, start.fine_tune_per_class, rows)


def pretraining_rows(dataset: ImageDataset, held_out_per_class: int) -> Tensor | None:
    """(F,) int64 sorted: the training rows that a surrogate is trained on; None for all.

    Args:
        dataset: clean data.
        held_out_per_class: images of each class that victims are fine-tuned on, see ``fine_tuning_rows``.
    """
    rows = clean_rows(dataset)
    if held_out_per_class == 0:
        return rows
    kept = without(len(dataset.train_labels), last_of_each_class(dataset.train_labels, held_out_per_class, rows))
    return kept if rows is None else kept[torch.isin(kept, rows)]


def origins(dataset: ImageDataset, poisons: PoisonSet | None = None, rows: Tensor | None = None) -> Tensor:
    """(N,) int64: the training row that each example of ``training_set`` stands for, -1 for an appended poison."""
    kept = torch.arange(len(dataset.train_labels)) if rows is None else rows
    appended = 0 if poisons is None else int((poisons.indices < 0).sum())
    return torch.cat([kept, torch.full((appended,), -1)])


def poisoned_examples(dataset: ImageDataset, poisons: PoisonSet | None = None, rows: Tensor | None = None) -> Tensor:
    """(N,) bool: which examples of ``training_set`` are poisons."""
    rows_of = origins(dataset, poisons, rows)
    if poisons is None:
        return torch.zeros(len(rows_of), dtype=torch.bool)
    return (rows_of < 0) | torch.isin(rows_of, poisons.indices[poisons.indices >= 0])


def without(size: int, rows: Tensor) -> Tensor:
    """The sorted positions 0 ... size - 1 without ``rows`` (int64)."""
    kept = torch.ones(size, dtype=torch.bool)
    kept[rows] = False
    return torch.nonzero(kept).flatten()


def training_set(dataset: ImageDataset, poisons: PoisonSet | None = None, rows: Tensor | None = None) -> TrainingSet:
    """The training split, with ``poisons`` put in place of their bases or appended.

    Args:
        dataset: clean data.
        poisons: to insert; none if not given.
        rows: (F,) int64 sorted, the training rows to take; all if not given. The ``rows`` of the result are 0, 1, ...

    Raises:
        DataError: ``dataset``, ``poisons`` or ``rows`` are of another kind, or the poisons do not fit the dataset, or
            replace rows that are not taken.
    """
    if not isinstance(dataset, ImageDataset):
        raise DataError(f"training_set takes an ImageDataset, not a {type(dataset).__name__}: load_dataset gives one")
    if not isinstance(poisons, PoisonSet | None):
        raise DataError(f"the poisons are a {type(poisons).__name__}: give a PoisonSet, as PoisonSet.load(file) does")
    # A mask would be taken for the rows 0 and 1.
    if rows is not None and not (isinstance(rows, Tensor) and rows.dtype == torch.int64):
        raise DataError("rows must be an int64 tensor of row numbers: of a mask, give mask.nonzero()[:, 0]")
    images, labels = dataset.train_images, dataset.train_labels
    if poisons is not None:
        _check_labels("poison labels", poisons.labels, dataset.num_classes)
        if poisons.goal is not None:
            _check_labels("adversarial labels", poisons.goal.adversarial_labels, dataset.num_classes)
        images, labels = _with_poisons(images, labels, poisons)
    if rows is not None:
        if poisons is not None and not bool(torch.isin(poisons.indices[poisons.indices >= 0], rows).all()):
            raise DataError(
                "a poison replaces an image that the victim is not trained on: "
                "were the poisons made for another victim, or without dataset.validation?"
            )
        chosen = torch.cat([rows, torch.arange(len(dataset.train_labels), len(labels))])
        images, labels = images[chosen], labels[chosen]
    return TrainingSet(images, labels, torch.arange(len(labels)))


def _check_labels(name: str, labels: Tensor, classes: int) -> None:
    lowest, highest = int(labels.min()), int(labels.max())
    if lowest < 0 or highest >= classes:
        raise DataError(
            f"{name} lie in [{lowest}, {highest}] but the dataset has {classes} classes: were the poisons made for "
            "another dataset?"
        )


def _with_poisons(images: Tensor, labels: Tensor, poisons: PoisonSet) -> tuple[Tensor, Tensor]:
    if poisons.images.shape[1:] != images.shape[1:]:
        raise DataError(
            f"poisons are {tuple(poisons.images.shape[1:])} but the dataset's images are "
            f"{tuple(images.shape[1:])}: were the poisons made for another dataset?"
        )
    if int(poisons.indices.max()) >= len(images):
        raise DataError(
            f"a poison replaces training row {int(poisons.indices.max())} but the dataset has {len(images)}: "
            "were the poisons made for another dataset or subset?"
        )
    images, labels = images.clone(), labels.clone()
    if poisons.images.dtype != torch.uint8:
        images = pixels(images)
    replaced = poisons.indices >= 0
    images[poisons.indices[replaced]] = poisons.images[replaced]
    labels[poisons.indices[replaced]] = poisons.labels[replaced]
    return (
        torch.cat([images, poisons.images[~replaced]]),
        torch.cat([labels, poisons.labels[~replaced]]),
    )
