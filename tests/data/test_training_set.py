"""The victim's training set against one example at a time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from poisonlab.artifacts.dataset import read_dataset, save_dataset
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.config.start import Start
from poisonlab.config.validation import Validation
from poisonlab.data.dataset import ImageDataset, channel_statistics
from poisonlab.data.training_set import (
    TrainingSet,
    clean_rows,
    fine_tuning_rows,
    held_out,
    origins,
    pixels,
    poisoned_examples,
    pretraining_rows,
    split_validation,
    training_set,
)
from poisonlab.errors import DataError


def pictures(count: int, seed: int = 0, shape: tuple[int, int, int] = (2, 3, 4)) -> Tensor:
    return torch.randint(0, 256, (count, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def dataset(count: int = 8) -> ImageDataset:
    labels = torch.arange(count) % 3
    return ImageDataset(
        pictures(count), labels, pictures(4, 1), torch.arange(4) % 3, ("a", "b", "c"), (0.5, 0.4), (0.2, 0.3)
    )


def poison_set(indices: list[int], images: Tensor | None = None, labels: list[int] | None = None) -> PoisonSet:
    images = pictures(len(indices), 9) if images is None else images
    return PoisonSet(
        indices=torch.tensor(indices),
        images=images,
        labels=torch.tensor(labels or [2] * len(indices)),
        base_images=torch.zeros(images.shape, dtype=torch.uint8),
    )


def test_without_poisons_it_is_the_training_split() -> None:
    data = dataset()
    made = training_set(data)
    assert torch.equal(made.images, data.train_images)
    assert torch.equal(made.labels, data.train_labels)
    assert made.rows.tolist() == list(range(8))
    assert len(made) == 8


@given(
    places=st.lists(st.integers(0, 7), unique=True, max_size=8),
    appended=st.integers(0, 4),
    order=st.randoms(use_true_random=False),
    in_floats=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_poisons_replace_and_append(places: list[int], appended: int, order: object, in_floats: bool) -> None:
    indices = places + [-1] * appended
    if not indices:
        return
    order.shuffle(indices)  # type: ignore[attr-defined]
    data = dataset()
    before = data.train_images.clone(), data.train_labels.clone()
    images = pictures(len(indices), 9)
    poisons = poison_set(indices, images.float() / 255 if in_floats else images, [i % 3 for i in range(len(indices))])
    made = training_set(data, poisons)

    truth: list[tuple[Tensor, int]] = [(data.train_images[i], int(data.train_labels[i])) for i in range(8)]
    for place, index in enumerate(indices):
        example = images[place], int(poisons.labels[place])
        if index >= 0:
            truth[index] = example
        else:
            truth.append(example)
    scale = 255 if in_floats else 1
    assert made.images.dtype == (torch.float32 if in_floats else torch.uint8)
    for got, (image, label), got_label in zip(made.images, truth, made.labels, strict=True):
        assert torch.equal((got * scale).round().to(torch.uint8), image)
        assert int(got_label) == label
    assert made.rows.tolist() == list(range(8 + appended))
    assert torch.equal(data.train_images, before[0])
    assert torch.equal(data.train_labels, before[1])


@given(
    replaced=st.lists(st.integers(0, 7), unique=True, max_size=5),
    appended=st.integers(0, 3),
    spare=st.none() | st.lists(st.integers(0, 7), unique=True, max_size=8),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=60, deadline=None)
def test_poisons_are_known_by_their_looks(
    replaced: list[int], appended: int, spare: list[int] | None, order: object
) -> None:
    """White poisons among images that are not. A victim that is fine-tuned takes some rows, all replaced ones among
    them."""
    indices = replaced + [-1] * appended
    order.shuffle(indices)  # type: ignore[attr-defined]
    rows = None if spare is None else torch.tensor(sorted({*spare, *replaced}), dtype=torch.int64)
    data = dataset()
    assert int(data.train_images.flatten(1).amin(1).max()) < 255
    poisons = poison_set(indices, torch.full((len(indices), 2, 3, 4), 255, dtype=torch.uint8)) if indices else None
    made = training_set(data, poisons, rows)
    found = poisoned_examples(data, poisons, rows)
    assert found.dtype == torch.bool
    assert found.tolist() == [bool((image == 255).all()) for image in made.images]
    assert int(found.sum()) == len(indices)
    # What is no appended poison stands where its origin says.
    for place, row in enumerate(origins(data, poisons, rows).tolist()):
        clean = -1 if row < 0 else int(data.train_labels[row])
        assert int(made.labels[place]) == (2 if found[place] else clean)


def test_without_poisons_nothing_is_poisoned() -> None:
    rows = torch.tensor([1, 4, 6])
    assert poisoned_examples(dataset()).tolist() == [False] * 8
    assert poisoned_examples(dataset(), None, rows).tolist() == [False] * 3
    # By hand: rows 1, 4, 6 of which 4 is replaced, then two appended ones.
    poisons = poison_set([-1, 4, -1])
    assert poisoned_examples(dataset(), poisons, rows).tolist() == [False, True, False, True, True]
    assert poisoned_examples(dataset(), poisons).tolist() == [False] * 4 + [True] + [False] * 3 + [True] * 2


def test_poisons_of_another_dataset_are_refused() -> None:
    with pytest.raises(DataError, match="another dataset"):
        training_set(dataset(), poison_set([0], pictures(1, shape=(2, 4, 4))))
    nowhere = Goal(pictures(1), torch.tensor([0]), torch.tensor([3]))
    with pytest.raises(DataError, match=r"adversarial labels lie in \[3, 3\] but the dataset has 3 classes"):
        training_set(dataset(), replace(poison_set([0]), goal=nowhere))
    with pytest.raises(DataError, match="row 8"):
        training_set(dataset(), poison_set([3, 8]))


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(DataError):
        training_set(dataset(), poison_set([0], labels=[3]))


@pytest.mark.parametrize(
    ("labels", "rows", "words"),
    [
        ([0, 1], [0, 1, 2], r"labels of 3 training images have shape \(2,\)"),
        ([[0], [1], [2]], [0, 1, 2], r"labels of 3 training images have shape \(3, 1\)"),
        ([0, 1, 2], [0, 1, 2, 3], r"rows of 3 training images have shape \(4,\)"),
        ([0, -1, 2], [0, 1, 2], "a label of the training set is -1: labels are 0, 1, 2"),
    ],
)
def test_a_training_set_has_a_label_and_a_row_for_each_image(labels: list[Any], rows: list[int], words: str) -> None:
    with pytest.raises(DataError, match=words):
        TrainingSet(pictures(3), torch.tensor(labels), torch.tensor(rows))
    assert len(TrainingSet(pictures(0), torch.arange(0), torch.arange(0))) == 0


def test_keep_takes_positions_or_a_mask() -> None:
    data = TrainingSet(pictures(5), torch.arange(5) % 3, torch.tensor([9, 7, 5, 3, 1]))
    for chosen in (torch.tensor([4, 1]), torch.tensor([False, True, False, False, True])):
        kept = data.keep(chosen)
        places = [4, 1] if chosen.dtype == torch.int64 else [1, 4]
        assert torch.equal(kept.images, torch.stack([data.images[i] for i in places]))
        assert kept.rows.tolist() == [data.rows[i].item() for i in places]
        assert kept.labels.tolist() == [data.labels[i].item() for i in places]


def test_pixels() -> None:
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(pixels(images).flatten(), torch.arange(256) / 255)
    floats = torch.rand(1, 1, 2, 2, dtype=torch.float64)
    assert pixels(floats).dtype == torch.float32
    assert torch.allclose(pixels(floats).double(), floats)


def test_channel_statistics_are_numpys() -> None:
    images = pictures(20)
    mean, std = channel_statistics(images)
    scaled = images.numpy() / 255.0
    assert mean == pytest.approx(scaled.mean((0, 2, 3)), abs=1e-6)
    assert std == pytest.approx(scaled.std((0, 2, 3)), abs=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"train_images": pictures(8).float()},
        {"train_labels": torch.arange(7) % 3},
        {"train_labels": torch.arange(8)},
        {"train_labels": torch.arange(8) % 3 - 1},
        {"train_labels": (torch.arange(8) % 3).int()},
        {"test_images": pictures(4, shape=(2, 4, 4))},
        {"test_images": pictures(0), "test_labels": torch.arange(0)},
        {"mean": (0.5,)},
        {"std": (0.5, 0.0)},
    ],
)
def test_datasets_that_contradict_themselves_are_refused(change: dict[str, object]) -> None:
    parts = {**vars(dataset()), **change}
    with pytest.raises(DataError) as caught:
        ImageDataset(**parts)
    assert "\n" not in str(caught.value)


# --- validation -------------------------------------------------------------------------------------------------------


def validated(count: int = 30, **options: Any) -> ImageDataset:
    return replace(dataset(count), validation=Validation(**options))


def test_nothing_is_set_apart_by_default() -> None:
    data = training_set(dataset())
    assert split_validation(dataset(), data) == (data, None)
    assert clean_rows(dataset()) is None


@pytest.mark.parametrize(
    ("options", "of_each"),
    [({"per_class": 2}, 2), ({"share": 0.34}, 3), ({"share": 0.27}, 3), ({"share": 0.01}, 1), ({"share": 0.9}, 9)],
)
def test_images_of_every_class_are_set_apart(options: dict[str, Any], of_each: int) -> None:
    data = validated(**options)
    rows = held_out(data.train_labels, data.validation)
    assert rows.tolist() == sorted(set(rows.tolist()))
    assert torch.bincount(data.train_labels[rows]).tolist() == [of_each] * 3
    others = [held_out(data.train_labels, Validation(seed=seed, **options)) for seed in (0, 1)]
    assert torch.equal(rows, others[0])
    assert not torch.equal(rows, others[1])


def test_a_clean_split_is_neither_poisoned_nor_trained_on() -> None:
    data = validated(per_class=2)
    kept = fine_tuning_rows(data, Start())
    assert kept is not None
    train, held = split_validation(data, training_set(data, poison_set(kept[:5].tolist()), kept))
    assert held is not None
    apart = held_out(data.train_labels, data.validation)
    assert sorted([*kept.tolist(), *apart.tolist()]) == list(range(30))
    assert torch.equal(held.images, data.train_images[apart])
    assert torch.equal(held.labels, data.train_labels[apart])
    assert len(train) == 24
    assert int(poisoned_examples(data, poison_set(kept[:5].tolist()), kept).sum()) == 5
    with pytest.raises(DataError, match="not trained on"):
        training_set(data, poison_set([int(apart[0])]), kept)


def test_a_split_of_the_poisoned_set_holds_poisons_and_rows_keep_their_numbers() -> None:
    data = validated(per_class=4, poisoned=True)
    assert fine_tuning_rows(data, Start()) is None
    poisons = poison_set([3, 4, 5, *[-1] * 15])
    whole = training_set(data, poisons)
    train, held = split_validation(data, whole)
    assert held is not None
    assert sorted([*train.rows.tolist(), *held.rows.tolist()]) == list(range(45))
    assert torch.bincount(held.labels).tolist() == [4, 4, 4]
    for part in (train, held):
        assert torch.equal(part.images, whole.images[part.rows])
        assert torch.equal(part.labels, whole.labels[part.rows])
    # Four of the 25 of the class that most poisons are labelled with; by this seed some of them are poisons.
    assert bool(poisoned_examples(data, poisons)[held.rows].any())


def test_victims_and_surrogates_share_what_a_clean_split_leaves() -> None:
    data = validated(per_class=2)
    free, kept = fine_tuning_rows(data, Start()), fine_tuning_rows(data, TUNED)
    assert free is not None
    assert kept is not None
    assert [int((data.train_labels[kept] == label).sum()) for label in range(3)] == [3, 3, 3]
    assert kept.tolist() == [row for row in free.tolist() if sum(free > row) < 9]
    pretrained = pretraining_rows(data, 3)
    assert pretrained is not None
    assert sorted([*pretrained.tolist(), *kept.tolist()]) == free.tolist()
    assert torch.equal(pretraining_rows(data, 0), free)
    assert pretraining_rows(dataset(30), 0) is None
    whole = pretraining_rows(dataset(30), 3)
    assert whole is not None
    assert whole.tolist() == list(range(21))


TUNED = Start(scenario="fine-tune", fine_tune_per_class=3)


def test_a_split_leaves_something_to_train_on() -> None:
    data = validated(per_class=10)
    with pytest.raises(DataError, match=r"takes 10 images of class 0, which has 10: leave some") as caught:
        clean_rows(data)
    assert "\n" not in str(caught.value)
    for options in ({}, {"share": 0.5, "per_class": 1}):
        with pytest.raises(ValidationError, match="either share or per_class"):
            Validation(**options)


def test_a_dataset_on_disk_remembers_its_split(tmp_path: Path) -> None:
    for name, data in (("with", validated(share=0.2, poisoned=True, seed=3)), ("without", dataset(30))):
        save_dataset(tmp_path / name, data)
        assert read_dataset(tmp_path / name).validation == data.validation
    assert b"validation" not in (tmp_path / "without").read_bytes()
