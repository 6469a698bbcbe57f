"""Poisons of whole training sets as .npz: the same training set comes back byte for byte, by images or by changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_poisons import dataset, goal, pixels, poison_set, refusal

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.low_frequency import craft
from poisonlab.config.attacks.low_frequency import LowFrequency
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import training_set
from poisonlab.errors import DataError
from poisonlab.interchange.imported import complete, read_poisons
from poisonlab.interchange.npz_file import write_changes, write_npz
from poisonlab.models.classifier import Normalize

WRITERS = pytest.mark.parametrize("write", [write_npz, write_changes])
Write = Callable[[Path, PoisonSet], None]


def by_sample(data: ImageDataset, rows: torch.Tensor) -> PoisonSet:
    """Each image moves by its own change of both signs, some of them beyond the range, where they are cut."""
    bases = data.train_images[rows]
    change = torch.randint(-60, 61, bases.shape, generator=torch.Generator().manual_seed(7), dtype=torch.int16)
    return PoisonSet(rows, (bases + change).clamp(0, 255).to(torch.uint8), data.train_labels[rows], bases)


def by_class(data: ImageDataset, budget: float = 1.0) -> PoisonSet:
    attacker = Attacker((), Normalize(data.mean, data.std), Recipe())
    return craft(data, attacker, LowFrequency(name="lf", frequencies=4, budget=budget), seed=0)


def grey(data: ImageDataset) -> ImageDataset:
    first = {"train_images": data.train_images[:, :1], "test_images": data.test_images[:, :1]}
    return replace(data, **first, mean=data.mean[:1], std=data.std[:1])


SETS: dict[str, Callable[[], tuple[ImageDataset, PoisonSet]]] = {
    "each image": lambda: (dataset(), by_sample(dataset(), torch.arange(40))),
    "some images": lambda: (dataset(), by_sample(dataset(), torch.tensor([29, 5, 13]))),
    "grey": lambda: (grey(dataset()), by_sample(grey(dataset()), torch.arange(40))),
    "each class": lambda: (dataset(), by_class(dataset())),
    "a part of each class": lambda: (dataset(), by_class(dataset(), 0.5)),
}


@WRITERS
@pytest.mark.parametrize("name", SETS)
def test_the_same_training_set_comes_back(tmp_path: Path, write: Write, name: str) -> None:
    data, poisons = SETS[name]()
    write(tmp_path / "p.npz", poisons)
    found = complete(read_poisons(tmp_path / "p.npz"), data, targeted=False)
    for part in ("indices", "images", "labels", "base_images"):
        assert torch.equal(getattr(found, part), getattr(poisons, part)), part
    assert found.goal is None
    trained, wanted = training_set(data, found), training_set(data, poisons)
    assert trained.images.numpy().tobytes() == wanted.images.numpy().tobytes()
    assert torch.equal(trained.labels, wanted.labels)


def test_relabelled_changes_come_back_with_allow_mismatch(tmp_path: Path) -> None:
    data, poisons = dataset(), by_sample(dataset(), torch.tensor([29, 5, 13]))
    poisons = replace(poisons, labels=(poisons.labels + 1) % 4)
    write_changes(tmp_path / "p.npz", poisons)
    found = complete(read_poisons(tmp_path / "p.npz"), data, targeted=False, allow_mismatch=True)
    assert torch.equal(found.images, poisons.images)
    assert torch.equal(found.labels, poisons.labels)


def arrays(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def test_a_reader_that_knows_numpy_alone_can_apply_them(tmp_path: Path) -> None:
    data, poisons = dataset(), by_sample(dataset(), torch.tensor([29, 5, 13]))
    write_npz(tmp_path / "images.npz", poisons)
    write_changes(tmp_path / "changes.npz", poisons)
    images, changes = arrays(tmp_path / "images.npz"), arrays(tmp_path / "changes.npz")
    assert images["images"].dtype == np.uint8
    assert changes["perturbations"].dtype == np.int16
    assert changes["perturbations"].min() < 0 < changes["perturbations"].max()
    for content in (images, changes):
        assert content["indices"].tolist() == [29, 5, 13]
        assert content["labels"].tolist() == [1, 1, 1]
    assert np.array_equal(data.train_images.numpy()[[29, 5, 13]] + changes["perturbations"], images["images"])


def test_class_wise_noise_of_a_whole_set_is_written_once_for_each_class(tmp_path: Path) -> None:
    data, poisons = dataset(), by_class(dataset())
    write_changes(tmp_path / "p.npz", poisons)
    content = arrays(tmp_path / "p.npz")
    assert list(content) == ["perturbations"]
    assert content["perturbations"].shape == (4, 3, 5, 7)
    for row in range(40):
        moved = data.train_images[row].numpy().astype(int) + content["perturbations"][int(data.train_labels[row])]
        assert np.array_equal(np.clip(moved, 0, 255), poisons.images[row].numpy())


@WRITERS
def test_equal_poisons_give_equal_bytes_and_floats_are_rounded(tmp_path: Path, write: Write) -> None:
    poisons = by_sample(dataset(), torch.arange(40))
    write(tmp_path / "a.npz", poisons)
    write(tmp_path / "b.npz", replace(poisons, images=(poisons.images.float() + 0.3).clamp(0, 255) / 255))
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@WRITERS
def test_what_the_format_cannot_hold_is_refused(tmp_path: Path, write: Write) -> None:
    bare = poison_set(goal=None)
    appended = replace(bare, indices=torch.tensor([-1, 3, -1]))
    colours = replace(bare, images=pixels(3)[:, :2], base_images=pixels(3)[:, :2])
    cases = [("a.npz", replace(bare, goal=goal()), "targets"), ("a.pth", bare, ".npz"), ("a.npz", colours, "RGB")]
    for name, poisons, word in cases + [("a.npz", appended, "appended")] * (write is write_changes):
        with pytest.raises(DataError) as caught:
            write(tmp_path / name, poisons)
        refusal(caught, tmp_path / name, word)
    assert list(tmp_path.iterdir()) == []
    write_npz(tmp_path / "a.npz", appended)
    assert read_poisons(tmp_path / "a.npz").indices.tolist() == [-1, 3, -1]


@pytest.mark.parametrize("holds", ["images", "changes"])
def test_one_array_without_a_name_is_the_whole_set(tmp_path: Path, holds: str) -> None:
    """As numpy.savez(path, array) writes it."""
    data, poisons = dataset(), by_sample(dataset(), torch.arange(40))
    array = (
        poisons.images.numpy() if holds == "images" else poisons.images.numpy().astype(int) - data.train_images.numpy()
    )
    np.savez(tmp_path / "p.npz", array)
    found = complete(read_poisons(tmp_path / "p.npz"), data, targeted=False)
    assert torch.equal(found.images, poisons.images)
    assert torch.equal(found.indices, poisons.indices)
    np.savez(tmp_path / "q.npz", array, array)
    with pytest.raises(DataError) as caught:
        read_poisons(tmp_path / "q.npz")
    refusal(caught, "'arr_0', 'arr_1', and no poisons")
