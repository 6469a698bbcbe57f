"""Gray and compressed training sets: against torchvision, Pillow, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.io import decode_jpeg, encode_jpeg

from poisonlab.data.squeezing import gray, in_bytes, through_jpeg
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.build import build_defenses
from poisonlab.errors import DataError


def drawn(*shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def luma(image: Tensor) -> Tensor:
    return torch.from_numpy(np.array(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")))


@pytest.mark.parametrize("shape", [(3, 32, 32), (3, 5, 7), (1, 28, 28)])
@pytest.mark.parametrize("quality", [1, 10, 50, 100])
@pytest.mark.filterwarnings("ignore:The image decoding and encoding:DeprecationWarning")
def test_jpeg_is_torchvisions_round_trip(shape: tuple[int, ...], quality: int) -> None:
    images = drawn(4, *shape)
    made = through_jpeg(images, quality)
    assert made.dtype == torch.uint8
    for image, own in zip(images, made, strict=True):
        assert torch.equal(own, decode_jpeg(encode_jpeg(image, quality)))


def test_channels_of_another_number_are_compressed_one_by_one() -> None:
    images = drawn(3, 2, 8, 8)
    alone = [through_jpeg(images[:, [channel]], 30) for channel in range(2)]
    assert torch.equal(through_jpeg(images, 30), torch.cat(alone, 1))


def test_gray_is_pillows_luma() -> None:
    images = drawn(4, 3, 32, 32)
    for image, own in zip(images, gray(images), strict=True):
        assert torch.equal(own, luma(image).expand(3, -1, -1))


def test_luma_by_hand() -> None:
    # 0.299, 0.587 and 0.114 of 255: 76.2, 149.7, 29.1; all three are white.
    colours = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [10, 20, 30]], dtype=torch.uint8)
    assert gray(colours[:, :, None, None])[:, :, 0, 0].tolist() == [[each] * 3 for each in (76, 150, 29, 255, 18)]
    two = torch.tensor([[10, 21]], dtype=torch.uint8)[:, :, None, None]
    assert gray(two).flatten().tolist() == [16, 16]
    one = drawn(2, 1, 4, 4)
    assert torch.equal(gray(one), one)


def test_floats_go_to_the_nearest_level() -> None:
    images = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1 + 1e-6])[None, None, None]
    assert in_bytes(images).flatten().tolist() == [0, 0, 1, 255, 255]
    with pytest.raises(DataError, match="divide them by 255"):
        in_bytes(torch.full((1, 1, 1, 1), 200.0))


def test_both_in_a_row_act_in_its_order() -> None:
    images, rows = drawn(6, 3, 8, 8), torch.tensor([9, 2, 4, 5, 7, 1])
    data = TrainingSet(images, rows % 3, rows)
    for defense in build_defenses([{"method": "grayscale"}, {"method": "jpeg", "quality": 20}], noise=None):
        data = defense.prepare(data)
    assert torch.equal(data.images, through_jpeg(gray(images), 20))
    assert torch.equal(data.rows, rows)
