"""The split of convex polytope, counted by hand: images to pretrain on, to fine-tune on, and to be targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter

from poisonlab.config.datasets import DatasetSettings, Reordered, source_of
from poisonlab.config.start import Start
from poisonlab.data import set_apart
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.set_apart import fine_tuning_last
from poisonlab.data.sources import load_dataset
from poisonlab.data.training_set import fine_tuning_rows, pretraining_rows
from poisonlab.errors import DataError, SettingsError

OF = {"source": "digits-on-photos"}


def numbered() -> ImageDataset:
    """Ten images of each of two classes, in turn; each is as bright as its number within its class."""
    levels = torch.arange(20, dtype=torch.uint8) // 2
    images = levels[:, None, None, None].expand(20, 1, 2, 2).clone()
    return ImageDataset(images, torch.arange(20) % 2, images[:2], torch.arange(2), ("a", "b"), (0.5,), (0.5,))


def numbers(dataset: ImageDataset, rows: torch.Tensor | None) -> list[int]:
    """Of the images of class 1 at some rows."""
    assert rows is not None
    own = rows[dataset.train_labels[rows] == 1]
    return dataset.train_images[own, 0, 0, 0].tolist()


def test_networks_victims_and_targets_share_no_image() -> None:
    # Of ten images six are for networks; of the last four the first is to fine-tune on.
    dataset = fine_tuning_last(numbered(), last_per_class=4, first=1)
    assert torch.equal(dataset.train_labels, numbered().train_labels)
    assert numbers(dataset, pretraining_rows(dataset, 4)) == [0, 1, 2, 3, 4, 5]
    assert numbers(dataset, fine_tuning_rows(dataset, Start(fine_tune_per_class=1))) == [6]
    assert numbers(dataset, torch.arange(20)) == [0, 1, 2, 3, 4, 5, 7, 8, 9, 6]
    assert torch.equal(fine_tuning_last(numbered(), 4, 4).train_images, numbered().train_images)


def test_a_class_may_be_too_small() -> None:
    with pytest.raises(DataError, match="class 'a' has 10 training images, fewer than last_per_class 11"):
        fine_tuning_last(numbered(), 11, 2)


def test_the_other_source_is_read_by_its_own_module(tmp_path: Path) -> None:
    data = numbered()
    arrays = {"x_train": data.train_images, "y_train": data.train_labels, "x_test": data.test_images + 9}
    np.savez(tmp_path / "a.npz", **{name: each.numpy() for name, each in arrays.items()}, y_test=np.arange(2))
    of = {"source": "npz", "path": str(tmp_path / "a.npz"), "mean": [0.25]}
    told = {"source": "set-apart", "last_per_class": 4, "first": 1, "of": of}
    chosen: Reordered = TypeAdapter(DatasetSettings).validate_python(told)
    assert chosen.files == (str(tmp_path / "a.npz"),)
    found = set_apart.load(set_apart.Settings.model_validate(chosen.told()))
    assert numbers(found, torch.arange(20)) == [0, 1, 2, 3, 4, 5, 7, 8, 9, 6]
    assert torch.equal(found.test_images, load_dataset(source_of(chosen)).test_images)
    assert found.mean == (0.25,)
    with pytest.raises(SettingsError, match="train_limit"):
        set_apart.load(set_apart.Settings.model_validate({**told, "of": {**of, "train_limit": -1}}))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"first": 5}, "exceeds last_per_class"),
        ({"first": 1, "of": {**OF, "validation": {"share": 0.1}}}, "set validation beside 'of'"),
        ({"of": {"source": "set-apart", "of": OF}}, "set-apart"),
    ],
)
def test_impossible_splits_are_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TypeAdapter(DatasetSettings).validate_python({"source": "set-apart", "last_per_class": 4, "of": OF, **change})
