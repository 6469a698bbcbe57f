"""Random noise as transforms: its distribution, where it stands, and whose random numbers it takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors
from torchvision.transforms import v2

from poisonlab import BernoulliNoise, GaussianNoise, UniformNoise
from poisonlab.errors import DataError, PoisonlabError, SettingsError

GREY = torch.full((3, 200, 200), 0.5)


def noise_of(transform: v2.Transform) -> torch.Tensor:
    torch.manual_seed(0)
    levels: torch.Tensor = (transform(GREY) - 0.5) * 255
    return levels.double()


def test_bernoulli_noise_has_two_values_with_equal_chance() -> None:
    levels = noise_of(BernoulliNoise(16))
    assert sorted({round(value, 3) for value in levels.flatten().tolist()}) == [-16.0, 16.0]
    # 120,000 draws: five standard deviations of the mean are 0.23 levels.
    assert abs(float(levels.mean())) < 0.25


def test_uniform_noise_fills_its_interval() -> None:
    levels = noise_of(UniformNoise(16)).flatten().sort().values
    # Kolmogorov-Smirnov: 1.95 / sqrt(n) at the 0.1 % level.
    even = torch.linspace(-16, 16, len(levels), dtype=torch.float64)
    assert float((levels - even).abs().max()) / 32 < 1.95 / len(levels) ** 0.5
    assert float(levels.abs().max()) <= 16 + 1e-3


def test_gaussian_noise_has_the_standard_deviation() -> None:
    levels = noise_of(GaussianNoise(16))
    assert float(levels.std()) == pytest.approx(16, rel=0.02)
    assert float((levels / 16).pow(4).mean()) == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("kind", [BernoulliNoise, GaussianNoise, UniformNoise])
def test_every_call_draws_anew_from_torch_s_seed(kind: Any) -> None:
    transform = kind(16)
    torch.manual_seed(5)
    first, second = transform(GREY), transform(GREY)
    assert not torch.equal(first, second)
    torch.manual_seed(5)
    assert torch.equal(transform(GREY), first)
    batch = transform(torch.full((2, 3, 9, 9), 0.5))
    assert not torch.equal(batch[0], batch[1])


def test_it_clips_only_if_it_is_told_to() -> None:
    white = torch.ones(3, 50, 50)
    assert float(BernoulliNoise(16)(white).max()) > 1
    assert float(BernoulliNoise(16, clip=True)(white).max()) == 1


def test_images_are_changed_and_labels_boxes_and_masks_are_not() -> None:
    image = tv_tensors.Image(torch.full((3, 8, 8), 0.5, dtype=torch.float64))
    mask = tv_tensors.Mask(torch.zeros(8, 8))
    boxes = tv_tensors.BoundingBoxes([[0.0, 0.0, 4.0, 4.0]], format="XYXY", canvas_size=(8, 8))
    made, label, same, same_boxes = BernoulliNoise(8)(image, 3, mask, boxes)
    assert type(made) is tv_tensors.Image
    assert made.dtype == torch.float64
    assert not torch.equal(made, image)
    assert (label, same, same_boxes) == (3, mask, boxes)
    bare, target = BernoulliNoise(8)(torch.full((3, 8, 8), 0.5), torch.tensor(1))
    assert (float(bare.std()) > 0, int(target)) == (True, 1)


def test_it_composes() -> None:
    steps = v2.Compose([v2.ToDtype(torch.float32, scale=True), BernoulliNoise(16), v2.Normalize([0.5], [0.25])])
    made = steps(torch.full((1, 4, 4), 128, dtype=torch.uint8))
    levels = (made * 0.25 + 0.5) * 255 - 128
    assert torch.allclose(levels.abs(), torch.tensor(16.0), atol=1e-3)
    assert "mu=16" in repr(steps)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (torch.zeros(3, 4, 4, dtype=torch.uint8), "not torch.uint8: put v2.ToImage.. and v2.ToDtype"),
        (Image.new("RGB", (4, 4)), "not a PIL image"),
        (np.zeros((4, 4, 3), np.float32), "not ndarray without an image tensor: put v2.ToImage.. and v2.ToDtype"),
        ({"image": np.zeros((4, 4, 3), np.uint8), "label": 3}, "not ndarray, int without an image tensor"),
        (torch.full((3, 4, 4), -2.0), "stands before Normalize"),
        (torch.full((3, 4, 4), 200.0), "divide them by 255"),
    ],
)
def test_images_in_other_units_are_refused(image: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        BernoulliNoise(16)(image)


@pytest.mark.parametrize("mu", [0, -1, 256, 8 / 255, "much"])
def test_an_impossible_magnitude_is_one_line(mu: Any) -> None:
    with pytest.raises(SettingsError, match="GaussianNoise") as caught:
        GaussianNoise(mu)
    assert isinstance(caught.value, PoisonlabError)
