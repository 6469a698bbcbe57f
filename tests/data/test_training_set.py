"""The victim's training set against one example at a time."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.data.dataset import ImageDataset, channel_statistics
from poisonlab.data.training_set import TrainingSet, origins, pixels, poisoned_examples, training_set
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
        targets=torch.zeros(1, *images.shape[1:], dtype=torch.uint8),
        target_labels=torch.tensor([0]),
        adversarial_label=2,
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
    with pytest.raises(DataError, match="row 8"):
        training_set(dataset(), poison_set([3, 8]))


def test_labels_beyond_the_classes_are_refused() -> None:
    with pytest.raises(DataError):
        training_set(dataset(), poison_set([0], labels=[3]))


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
