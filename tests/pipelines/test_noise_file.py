"""Files of noise: what is saved is loaded, by row and by name; damage is told in one line."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from poisonlab import FriendlyDataset, load_noise, save_noise
from poisonlab.artifacts.noise import load_noise as load_in_a_job
from poisonlab.artifacts.noise import save_noise as save_in_a_job
from poisonlab.errors import DataError

NOISE = (torch.rand(4, 1, 2, 3, generator=torch.Generator().manual_seed(0)) - 0.5) / 8
NAMES = ("/data/train/cat/1.png", "/data/train/cat/2.png", "/data/train/dog/1.png", "/data/train/dog/2.png")


def test_it_comes_back_within_a_thirty_second_of_a_level(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    save_noise(path, NOISE, NAMES, {"seed": 3})
    found = load_noise(str(path))
    assert ((found.values.float() - NOISE).abs() * 255).max() <= 1 / 32
    assert found.names == ("cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png")
    assert found.facts == {"seed": 3}
    assert len(found) == 4
    assert found.rows(["dog/1.png", Path("elsewhere/cat/2.png")]).tolist() == [2, 1]
    before = path.read_bytes()
    save_noise(path, NOISE, NAMES, {"seed": 3})
    assert path.read_bytes() == before


def test_strong_noise_comes_back_within_a_sixteenth_of_a_level(tmp_path: Path) -> None:
    strong = torch.linspace(-1, 1, 4001, dtype=torch.float64)[:, None, None, None]
    save_noise(tmp_path / "noise.safetensors", strong)
    off = (load_noise(tmp_path / "noise.safetensors").values.double() - strong).abs() * 255
    assert off[strong.abs() * 255 <= 127].max() <= 1 / 32 < off.max() <= 1 / 16


def test_jobs_and_pipelines_read_each_other_s_files(tmp_path: Path) -> None:
    save_noise(tmp_path / "ours", NOISE)
    assert torch.equal(load_in_a_job(tmp_path / "ours"), NOISE.half())
    save_in_a_job(tmp_path / "theirs", NOISE, torch.arange(4), {"mean_levels": 1.0})
    assert torch.equal(load_noise(tmp_path / "theirs").values, NOISE.half())
    with pytest.raises(DataError, match="no names"):
        load_noise(tmp_path / "theirs").rows(["a/b"])


def test_noise_of_a_job_that_lacks_some_images_is_refused(tmp_path: Path) -> None:
    """Those that a filter has dropped lie there as zeros: they would be trained on unprotected."""
    made = torch.tensor([True, True, False, True])
    save_in_a_job(tmp_path / "partial", NOISE * made[:, None, None, None], torch.arange(4), {}, made)
    with pytest.raises(DataError, match=r"partial has no noise for 1 of 4 images, .*: take the noise of a row without"):
        load_noise(tmp_path / "partial")


def test_one_row_of_noise_is_of_one_image(tmp_path: Path) -> None:
    save_noise(tmp_path / "noise.safetensors", NOISE, NAMES)
    stored = load_noise(tmp_path / "noise.safetensors")
    assert stored.rows([NAMES[1], Path(NAMES[1]), NAMES[0]]).tolist() == [1, 1, 0]
    with pytest.raises(DataError, match=r"train/dog/1\.png and /data/test/dog/1\.png would both get the noise of"):
        stored.rows([*NAMES, "/data/test/dog/1.png"])


@pytest.mark.parametrize(
    ("noise", "names", "message"),
    [
        (NOISE[0], (), r"float of shape \(N, C, H, W\)"),
        (NOISE.int(), (), "not torch.int32"),
        (NOISE * 255, (), "divide levels by 255"),
        (NOISE / 0, (), "divide levels by 255"),
        (NOISE, NAMES[:3], "3 names do not fit the noise of 4"),
        (NOISE, (*NAMES[:3], "/test/dog/1.png"), "two images are called 'dog/1.png'"),
    ],
)
def test_what_is_no_noise_is_refused_and_leaves_no_file(noise: Any, names: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        save_noise(tmp_path / "noise.safetensors", noise, names)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_told(tmp_path: Path) -> None:
    path = tmp_path / "noise.safetensors"
    with pytest.raises(DataError, match="missing"):
        load_noise(path)
    save_noise(path, NOISE)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="checksum differs"):
        load_noise(path)


def test_images_that_have_changed_since_are_refused(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    noise = torch.zeros(images.shape)
    path = tmp_path / "noise.safetensors"
    save_noise(path, noise, facts={"seed": 3}, images=images)
    stored = load_noise(path)
    assert stored.levels == tuple(round(float(image.double().mean())) for image in images)
    assert stored.facts == {"seed": 3}
    moved = images.clone()
    moved[2] = (moved[2].int() + 3).clamp(0, 255).to(torch.uint8)  # as another library's resizing, at the most
    for reopened in (stored, pickle.loads(pickle.dumps(stored))):
        data = FriendlyDataset([(image, 0) for image in moved], reopened)
        assert all(torch.equal(data[row][0], moved[row].float() / 255) for row in range(4))
        swapped = FriendlyDataset([(image, 0) for image in (*images[:3], 255 - images[3] // 2)], reopened)
        with pytest.raises(DataError, match=r"image 3 of the dataset has .* make the noise again, as the images have"):
            swapped[3]
    # Files without means, such as those of studies, are not held against any image.
    save_noise(path, noise)
    assert len(FriendlyDataset([(image, 0) for image in images.flip(0)], path)[3]) == 2
    with pytest.raises(DataError, match="images must be uint8 of the noise's shape"):
        save_noise(path, noise, images=images.float())
