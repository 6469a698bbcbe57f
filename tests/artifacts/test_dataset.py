"""A dataset survives the way to disk and back; damage is found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poisonlab.artifacts.dataset import read_dataset, save_dataset
from poisonlab.artifacts.tensors import write_tensors
from poisonlab.data.dataset import ImageDataset, channel_statistics
from poisonlab.errors import DataError


def example() -> ImageDataset:
    generator = torch.Generator().manual_seed(1)
    train = torch.randint(0, 256, (7, 2, 4, 5), generator=generator, dtype=torch.uint8)
    mean, std = channel_statistics(train)
    test = torch.randint(0, 256, (3, 2, 4, 5), generator=generator, dtype=torch.uint8)
    return ImageDataset(
        train, torch.arange(7) % 3, test, torch.arange(3), class_names=("a", "b é", "c"), mean=mean, std=std
    )


def test_a_dataset_comes_back_as_it_was(tmp_path: Path) -> None:
    save_dataset(tmp_path / "d", example())
    back = read_dataset(tmp_path / "d")
    for name, value in vars(example()).items():
        same = torch.equal(getattr(back, name), value) if isinstance(value, torch.Tensor) else None
        assert same if same is not None else getattr(back, name) == value


def test_statistics_are_those_of_the_pixels() -> None:
    images = example().train_images
    mean, std = channel_statistics(images)
    scaled = images.double() / 255
    assert mean == pytest.approx(scaled.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(scaled.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_another_kind_of_file_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "d", "network", {"x": torch.zeros(1)}, {})
    with pytest.raises(DataError, match="holds a network, not a dataset"):
        read_dataset(tmp_path / "d")


def test_a_dataset_that_lacks_a_part_is_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "d", "dataset", {"train_images": example().train_images}, {})
    with pytest.raises(DataError, match="lacks parts"):
        read_dataset(tmp_path / "d")
