"""digits-on-photos: form, determinism, disjoint splits and the meaning of contrast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_sample_images
from sklearn.utils import Bunch

from poisonlab.config.data.digits_on_photos import DigitsOnPhotos
from poisonlab.data import digits_on_photos
from poisonlab.data.dataset import ImageDataset


def small(**changes: Any) -> ImageDataset:
    return digits_on_photos.load(DigitsOnPhotos(**{"train_size": 205, "test_size": 50, **changes}))


def test_form() -> None:
    dataset = small(size=24)
    assert dataset.train_images.shape == (205, 3, 24, 24)
    assert dataset.test_images.shape == (50, 3, 24, 24)
    assert dataset.train_images.dtype == torch.uint8
    assert dataset.class_names == tuple("0123456789")
    assert int(dataset.train_images.min()) < 30
    assert int(dataset.train_images.max()) > 225
    pixels = dataset.train_images.double() / 255
    assert dataset.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-6)
    assert dataset.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-6)


def test_classes_are_balanced_in_random_order() -> None:
    dataset = small()
    assert sorted(torch.bincount(dataset.train_labels).tolist()) == [20] * 5 + [21] * 5
    assert torch.bincount(dataset.test_labels).tolist() == [5] * 10
    assert not torch.equal(dataset.train_labels, dataset.train_labels.sort().values)


def test_same_seed_same_bytes_and_other_seed_other_bytes() -> None:
    first, again, other = small(), small(), small(seed=1)
    for name in ("train_images", "train_labels", "test_images", "test_labels"):
        assert torch.equal(getattr(first, name), getattr(again, name))
        assert not torch.equal(getattr(first, name), getattr(other, name))


def test_splits_share_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    draw = digits_on_photos._draw_split

    def recorded(scans: Any, *rest: Any) -> Any:
        given.append(scans)
        return draw(scans, *rest)

    monkeypatch.setattr(digits_on_photos, "_draw_split", recorded)
    small()
    train_scans, test_scans = given
    train_set = {scan.numpy().tobytes() for scan in train_scans}
    assert not train_set & {scan.numpy().tobytes() for scan in test_scans}
    assert len(train_scans) + len(test_scans) == 1797


def places(images: torch.Tensor) -> NDArray[np.int64]:
    """The numbers that the three channels of (N, 3, H, W) images spell, as (N, H, W)."""
    red, green, blue = images.numpy().astype(np.int64).transpose(1, 0, 2, 3)
    numbers: NDArray[np.int64] = (red << 16) + (green << 8) + blue
    return numbers


@pytest.mark.parametrize("size", [16, 32, 64, 65, 96, 128])
def test_splits_share_no_pixel_of_the_photographs(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """The photographs' colours spell the number of each pixel; at next to no contrast the digits do not change them."""
    height, width, _ = load_sample_images().images[0].shape
    number = np.arange(2 * height * width).reshape(2, height, width)
    photos = np.stack([number >> 16, number >> 8 & 255, number & 255], axis=-1).astype(np.uint8)
    monkeypatch.setattr(digits_on_photos, "load_sample_images", lambda: Bunch(images=list(photos)))
    count = 600_000 // size**2 + 100
    dataset = small(size=size, contrast=1e-9, train_size=count, test_size=count)
    seen = np.zeros((2, 2 * height * width), dtype=bool)
    for split, images in enumerate((dataset.train_images, dataset.test_images)):
        found = places(images)
        assert (found[:, 1:] - found[:, :-1] == width).all()
        right = found[:, :, 1:] - found[:, :, :-1]
        assert (np.abs(right) == 1).all()
        assert 0.3 < (right == -1).mean() < 0.7  # mirrored
        seen[split, found] = True
    assert not (seen[0] & seen[1]).any()
    by_photo = seen.reshape(2, 2, height * width).mean(axis=2)
    assert (by_photo > 0.35).all()  # of each photograph nearly half for each split


@pytest.mark.parametrize(("size", "of_mean", "of_std"), [(16, 3, 3), (32, 3, 3), (64, 3, 3), (128, 5, 5)])
def test_channels_of_the_splits_agree_within_a_few_levels(size: int, of_mean: float, of_std: float) -> None:
    """Left and right halves of the photographs differ by 21 to 46 levels in the means, by 15 to 25 in the others."""
    dataset = small(size=size, contrast=0.4, train_size=500, test_size=500)
    train, test = dataset.train_images.double(), dataset.test_images.double()
    assert train.mean((0, 2, 3)).tolist() == pytest.approx(test.mean((0, 2, 3)).tolist(), abs=of_mean)
    assert train.std((0, 2, 3)).tolist() == pytest.approx(test.std((0, 2, 3)).tolist(), abs=of_std)


def test_more_contrast_changes_the_photograph_more() -> None:
    bare = small(contrast=1e-9).train_images.float()
    changes = [
        (small(contrast=contrast).train_images.float() - bare).abs().mean().item() for contrast in (0.1, 0.25, 0.5, 1.0)
    ]
    assert changes == sorted(changes)
    assert 0 < changes[0] < 0.5 * changes[2]
