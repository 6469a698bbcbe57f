"""Regions noise against patches painted by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.regions import class_noise, craft
from poisonlab.config.attacks.regions import Regions, grid_of
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Normalize
from poisonlab.randomness import generator


def dataset(size: int = 32, count: int = 40, channels: int = 3) -> ImageDataset:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, channels, size, size), generator=stream, dtype=torch.uint8)
    labels = torch.arange(count) % 4
    statistics = (0.5,) * channels, (0.2,) * channels
    return ImageDataset(images, labels, images[:4], labels[:4], ("a", "b", "c", "d"), *statistics)


def settings(**changes: Any) -> Regions:
    return Regions(**{"name": "regions", **changes})


def crafted(data: ImageDataset, seed: int = 0, **changes: Any) -> PoisonSet:
    attacker = Attacker((), Normalize(data.mean, data.std), Recipe())
    return craft(data, attacker, settings(**changes), seed=seed)


@pytest.mark.parametrize(
    ("regions", "height", "width"),
    # The side of a patch in pixels of an image of 32 x 32; R2 and R128 have oblong ones.
    [(1, 32, 32), (2, 16, 32), (4, 16, 16), (16, 8, 8), (64, 4, 4), (128, 2, 4), (1024, 1, 1)],
)
def test_every_class_has_its_patches_of_one_colour(regions: int, height: int, width: int) -> None:
    chosen = settings(regions=regions)
    noise = class_noise(10, (3, 32, 32), chosen, 0)
    assert noise.shape == (10, 3, 32, 32)
    painted = torch.zeros_like(noise)
    patches = 0
    for top in range(0, 32, height):
        for left in range(0, 32, width):
            colour = noise[:, :, top, left]
            painted[:, :, top : top + height, left : left + width] = colour[:, :, None, None]
            patches += 1
    assert patches == regions
    assert torch.equal(noise, painted)
    assert noise.unique().tolist() == [-8, 8]
    # Fair coins, one for each channel of each patch of each class.
    coins = 10 * 3 * regions
    assert abs(int((noise[:, :, ::height, ::width] > 0).sum()) - coins / 2) < 4 * (coins / 4) ** 0.5


@pytest.mark.parametrize(("regions", "rows", "columns"), [(2, 1, 2), (8, 2, 4), (4, 2, 2)])
def test_tall_patches_are_higher_than_wide(regions: int, rows: int, columns: int) -> None:
    """R2 of images of 8 x 8 pixels has a left and a right half; every pixel by hand."""
    noise = class_noise(3, (3, 8, 8), settings(regions=regions, patch_shape="tall"), 5)
    coins = torch.randint(0, 2, (3, 3, rows, columns), generator=generator("cpu", 5, "regions", "colours"))
    for label, channel, y, x in itertools.product(range(3), range(3), range(8), range(8)):
        coin = int(coins[label, channel, y * rows // 8, x * columns // 8])
        assert int(noise[label, channel, y, x]) == (8 if coin else -8)


def test_tall_patches_must_tile_the_width() -> None:
    with pytest.raises(SettingsError, match="a grid of 1 x 2 patches, which does not tile images of 8 x 9 pixels"):
        class_noise(3, (3, 8, 9), settings(regions=2, patch_shape="tall"), 0)
    class_noise(3, (3, 9, 8), settings(regions=2, patch_shape="tall"), 0)


def test_a_poison_is_its_base_plus_the_noise_of_its_class() -> None:
    data, poisons = dataset(), crafted(dataset(), regions=4)
    assert poisons.goal is None
    assert poisons.indices.tolist() == list(range(40))
    assert torch.equal(poisons.labels, data.train_labels)
    noise = poisons.diagnostics["class_noise"]
    for row in range(40):
        expected = data.train_images[row].int() + noise[int(data.train_labels[row])]
        assert torch.equal(poisons.images[row].int(), expected.clamp(0, 255))
    # Clean at the edge of the range, moved by all of eps elsewhere.
    assert poisons.largest_change() == 8


def test_a_part_of_the_set_is_drawn_from_all_classes() -> None:
    drawn = [crafted(dataset(), seed, budget=0.25).indices for seed in range(40)]
    assert {len(rows) for rows in drawn} == {10}
    counts = torch.bincount(torch.cat(drawn) % 4, minlength=4)
    assert bool(((counts - 100).abs() < 40).all())
    assert len({tuple(rows.tolist()) for rows in drawn}) == 40


def test_the_authors_code_moves_up_only() -> None:
    assert class_noise(10, (3, 8, 8), settings(regions=4, signs="plus"), 0).unique().tolist() == [0, 8]


def test_grey_images_have_grey_patches() -> None:
    data = dataset(8, channels=1)
    assert crafted(data, regions=4).images.shape == data.train_images.shape


def test_numbers_that_make_no_grid_are_refused() -> None:
    assert [grid_of(number) for number in (1, 2, 4, 8, 9, 128)] == [(1, 1), (2, 1), (2, 2), (4, 2), (3, 3), (16, 8)]
    for number in (0, 3, 5, 6, 7, 12, 1000):
        with pytest.raises(ValidationError):
            settings(regions=number)
