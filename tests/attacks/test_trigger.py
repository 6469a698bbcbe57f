"""The backdoor trigger against a slow loop over images and pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from poisonlab.attacks.trigger import bottom_right, draw_places, own_pattern, paste, patched, read_pattern
from poisonlab.errors import DataError, SettingsError


def stream(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photos(count: int = 6, channels: int = 3, height: int = 9, width: int = 12) -> Tensor:
    return torch.randint(0, 256, (count, channels, height, width), generator=stream(), dtype=torch.uint8)


# --- patterns --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 33])
def test_own_pattern_is_made_of_saturated_blocks(size: int, channels: int) -> None:
    pattern = own_pattern(size, channels=channels)
    assert pattern.shape == (channels, size, size)
    assert pattern.dtype == torch.uint8
    assert set(pattern.unique().tolist()) <= {0, 255}
    if channels == 3:
        # A hue, neither black nor white.
        bright = (pattern == 255).sum(0)
        assert ((bright > 0) & (bright < 3)).all()
    for row in range(size):
        for column in range(size):
            corner = pattern[:, row - row % 2, column - column % 2]
            assert torch.equal(pattern[:, row, column], corner)


def test_own_pattern_is_a_function_of_its_seed() -> None:
    torch.manual_seed(1)
    first = own_pattern(8)
    torch.manual_seed(2)
    assert torch.equal(first, own_pattern(8, seed=0))
    assert not torch.equal(first, own_pattern(8, seed=1))
    assert len({tuple(pixel) for pixel in first.flatten(1).T.tolist()}) >= 4


@pytest.mark.parametrize("seed", range(20))
def test_a_grey_pattern_is_never_all_black(seed: int) -> None:
    assert own_pattern(1, seed, channels=1).max() == 255


def test_read_pattern_of_the_right_size_is_the_file(tmp_path: Path) -> None:
    pattern = own_pattern(8)
    Image.fromarray(pattern.permute(1, 2, 0).numpy()).save(tmp_path / "p.png")
    assert torch.equal(read_pattern(tmp_path / "p.png", 8), pattern)


def test_read_pattern_averages_when_it_shrinks(tmp_path: Path) -> None:
    """Without antialiasing, the finest checkerboard would come out black or white instead of grey."""
    board = (np.indices((80, 80)).sum(0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "p.png")
    small = read_pattern(tmp_path / "p.png", 8)
    assert small.shape == (3, 8, 8)
    assert (small.int() - 128).abs().max() <= 2


def test_read_pattern_in_grey(tmp_path: Path) -> None:
    Image.new("RGB", (5, 4), (200, 100, 50)).save(tmp_path / "p.bmp")
    grey = read_pattern(tmp_path / "p.bmp", 3, channels=1)
    assert grey.shape == (1, 3, 3)
    # The luma of ITU-R 601.
    assert (grey.int() - round(0.299 * 200 + 0.587 * 100 + 0.114 * 50)).abs().max() <= 1


@pytest.mark.parametrize("content", [None, b"", b"not an image", b"\x89PNG\r\n\x1a\n broken"])
def test_bad_pattern_files_are_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "p.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"p\.png") as caught:
        read_pattern(path, 8)
    assert "\n" not in str(caught.value)


def test_impossible_patterns_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="1 or 3 channels, not 2"):
        own_pattern(4, channels=2)
    with pytest.raises(SettingsError, match="1 or 3 channels, not 2"):
        read_pattern(tmp_path / "p.png", 4, channels=2)


# --- pasting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 4, 9])
def test_paste_against_a_loop(size: int, channels: int) -> None:
    images, pattern = photos(channels=channels), own_pattern(size, channels=channels)
    places = draw_places(len(images), (9, 12), size, stream(5))
    expected = images.clone()
    for number, (top, left) in enumerate(places.tolist()):
        for row in range(size):
            for column in range(size):
                expected[number, :, top + row, left + column] = pattern[:, row, column]
    before = images.clone()
    pasted = paste(images, pattern, places)
    assert pasted.dtype == torch.uint8
    assert torch.equal(pasted, expected)
    assert torch.equal(images, before)
    changed = (expected != images).flatten(1).sum(1)
    assert (changed > 0).all()
    assert (changed <= channels * size**2).all()


def test_paste_on_no_images() -> None:
    places = torch.zeros(0, 2, dtype=torch.int64)
    assert paste(photos(0), own_pattern(3), places).shape == (0, 3, 9, 12)


def test_paste_into_channels_last() -> None:
    images, pattern, places = photos(), own_pattern(3), draw_places(6, (9, 12), 3, stream())
    strided = images.contiguous(memory_format=torch.channels_last)
    assert torch.equal(paste(strided, pattern, places), paste(images, pattern, places))


# --- places ----------------------------------------------------------------------------------------------------------


def test_places_are_uniform_over_all_that_fit() -> None:
    places = draw_places(6000, (6, 8), 4, stream(1))
    assert places.dtype == torch.int64
    assert places.min(0).values.tolist() == [0, 0]
    assert places.max(0).values.tolist() == [2, 4]
    counts = torch.bincount(places[:, 0] * 5 + places[:, 1], minlength=15)
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3


def test_places_are_a_function_of_the_generator() -> None:
    assert torch.equal(draw_places(50, (32, 32), 8, stream(1)), draw_places(50, (32, 32), 8, stream(1)))
    assert not torch.equal(draw_places(50, (32, 32), 8, stream(1)), draw_places(50, (32, 32), 8, stream(2)))


def test_a_patch_as_large_as_the_image_has_one_place() -> None:
    assert torch.equal(draw_places(4, (5, 5), 5, stream()), torch.zeros(4, 2, dtype=torch.int64))
    assert bottom_right((5, 5), 5) == (0, 0)


def test_bottom_right_covers_the_corner() -> None:
    place = bottom_right((9, 12), 4)
    assert place == (5, 8)
    black = torch.zeros(1, 3, 9, 12, dtype=torch.uint8)
    pasted = paste(black, torch.full((3, 4, 4), 7, dtype=torch.uint8), torch.tensor([place]))
    assert (pasted[0, :, 5:, 8:] == 7).all()
    assert int((pasted == 7).sum()) == 3 * 16


def test_too_large_a_patch_is_one_line() -> None:
    for attempt in (
        lambda: draw_places(2, (9, 12), 10, stream()),
        lambda: bottom_right((12, 9), 10),
        lambda: patched(photos(), own_pattern(10), "random", stream()),
        lambda: patched(photos(), own_pattern(10), "bottom-right", stream()),
    ):
        with pytest.raises(SettingsError, match="at most 9") as caught:
            attempt()
        assert "\n" not in str(caught.value)


def test_a_patch_is_at_drawn_places_or_in_the_corner() -> None:
    images, pattern = photos(), own_pattern(4)
    drawn = paste(images, pattern, draw_places(6, (9, 12), 4, stream(3)))
    assert torch.equal(patched(images, pattern, "random", stream(3)), drawn)
    assert patched(images, pattern, "bottom-right", stream(3))[:, :, 5:, 8:].eq(pattern).all()
