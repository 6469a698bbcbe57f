"""digits-on-photos: form, determinism, disjoint splits and the meaning of contrast."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_sample_images

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


def test_splits_share_no_scan_and_no_photo_pixel(monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    draw = digits_on_photos._draw_split

    def recorded(scans: Any, labels: Any, photos: Any, *rest: Any) -> Any:
        given.append((scans, photos))
        return draw(scans, labels, photos, *rest)

    monkeypatch.setattr(digits_on_photos, "_draw_split", recorded)
    small()
    (train_scans, train_photos), (test_scans, test_photos) = given
    train_set = {scan.numpy().tobytes() for scan in train_scans}
    assert not train_set & {scan.numpy().tobytes() for scan in test_scans}
    assert len(train_scans) + len(test_scans) == 1797
    whole = load_sample_images().images
    assert len(train_photos) == len(test_photos) == len(whole) == 2
    for left, right, photo in zip(train_photos, test_photos, whole, strict=True):
        assert left.shape[1] + right.shape[1] == photo.shape[1]
        assert np.array_equal(np.concatenate([left, right], axis=1), photo)


def test_more_contrast_changes_the_photograph_more() -> None:
    bare = small(contrast=1e-9).train_images.float()
    changes = [
        (small(contrast=contrast).train_images.float() - bare).abs().mean().item() for contrast in (0.1, 0.25, 0.5, 1.0)
    ]
    assert changes == sorted(changes)
    assert 0 < changes[0] < 0.5 * changes[2]
