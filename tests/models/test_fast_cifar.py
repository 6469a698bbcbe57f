"""The network of the fast protocol: its layers by hand, its whitened stem against numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poisonlab.config.models.fast_cifar import FastCifar
from poisonlab.data.dataset import ImageDataset
from poisonlab.models.classifier import Classifier
from poisonlab.models.fast_cifar import Patches, build, whitening
from poisonlab.models.networks import build_network

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def pictures(count: int = 300, side: int = 8) -> Tensor:
    """Images whose neighbouring pixels and channels resemble each other."""
    stream = torch.Generator().manual_seed(0)
    noise = torch.randn(count, 3, side + 2, side + 2, generator=stream)
    smooth = nn.functional.avg_pool2d(noise + noise.mean(1, keepdim=True), 3, stride=1)
    return (110 + 90 * smooth).clamp(0, 255).to(torch.uint8)


def dataset(images: Tensor) -> ImageDataset:
    labels = torch.arange(len(images)) % 10
    return ImageDataset(images, labels, images, labels, tuple("abcdefghij"), MEAN, STD)


def built(images: Tensor, seed: int = 0, **options: object) -> Classifier:
    return build_network(FastCifar.model_validate(options), dataset(images), seed=seed).eval()


def sizes(model: Classifier, shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """Shapes of what comes out of the stem, the groups and the extractor."""
    seen: list[tuple[int, ...]] = []
    for part in model.extract.children():
        part.register_forward_hook(lambda _module, _inputs, out: seen.append(tuple(out.shape[1:])))
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    return [seen[0], *seen[2:5], seen[-1]]


@pytest.mark.parametrize(
    ("side", "stride", "expected"),
    [
        (32, 2, (16, 8, 4, 2)),
        (32, 1, (31, 16, 8, 4)),
        (28, 2, (14, 7, 4, 2)),
        (64, 2, (32, 16, 8, 4)),
        (2, 2, (1,) * 4),
    ],
)
def test_maps_are_halved_and_none_vanishes(side: int, stride: int, expected: tuple[int, ...]) -> None:
    model = build(10, (3, side, side), (16, 32, 48), stride).eval()
    stem, first, second, third = expected
    assert sizes(model, (3, side, side)) == [
        (24, stem, stem), (16, first, first), (32, second, second), (48, third, third), (48,)
    ]  # fmt: skip


def test_the_stem_gives_uncorrelated_values_of_variance_one() -> None:
    """Of normalised patches, by numpy's eigenvalues; the second half of the filters negates the first."""
    images = pictures()
    normal = (images.numpy() / 255 - np.reshape(MEAN, (1, 3, 1, 1))) / np.reshape(STD, (1, 3, 1, 1))
    patches = np.lib.stride_tricks.sliding_window_view(normal, (2, 2), axis=(2, 3)).transpose(0, 2, 3, 1, 4, 5)
    patches = patches.reshape(-1, 12)
    moments = patches.T @ patches / len(patches)
    filters = whitening(images, MEAN, STD)
    assert filters.shape == (24, 3, 2, 2)
    assert torch.equal(filters[:12], -filters[12:])
    values = patches @ filters[:12].flatten(1).double().numpy().T
    found = values.T @ values / len(patches)
    variances = np.linalg.eigvalsh(moments)[::-1]
    np.testing.assert_allclose(found, np.diag(variances / (variances + 0.05)), atol=1e-5)


def test_the_same_filters_whatever_the_threads_and_the_order() -> None:
    images = pictures()
    filters, threads = whitening(images, MEAN, STD), torch.get_num_threads()
    try:
        torch.set_num_threads(2 if threads == 1 else 1)
        assert torch.equal(whitening(images, MEAN, STD), filters)
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(whitening(images.flip(0), MEAN, STD), filters)
    assert not torch.equal(whitening(images[:100], MEAN, STD), filters)


def test_a_whitened_stem_is_the_images_and_is_not_trained() -> None:
    images = pictures()
    first, other = (built(images, seed=seed, whiten=True) for seed in (0, 1))
    (stem,) = (module for module in first.modules() if isinstance(module, Patches))
    assert torch.equal(stem.filters, whitening(images, MEAN, STD))
    assert torch.equal(first.state_dict()["extract.0.filters"], other.state_dict()["extract.0.filters"])
    assert "extract.0.filters" not in dict(first.named_parameters())
    inputs = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(stem(inputs), nn.functional.conv2d(inputs, stem.filters, stride=2))


def test_a_trained_stem_is_drawn() -> None:
    first, again, other = (built(pictures(), seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.extract[0].weight, again.extract[0].weight)
    assert not torch.equal(first.extract[0].weight, other.extract[0].weight)
    assert first.extract[0].weight.requires_grad


def test_the_settings_reach_the_layers() -> None:
    model = built(pictures(), widths=(16, 32, 48), stem_stride=1, norm="group", whiten=True)
    shapes = [tuple(module.weight.shape[:2]) for module in model.modules() if isinstance(module, nn.Conv2d)]
    assert shapes == [(16, 24), (16, 16), (32, 16), (32, 32), (48, 32), (48, 48)]
    assert len([module for module in model.modules() if isinstance(module, nn.GroupNorm)]) == 6
    (stem,) = (module for module in model.modules() if isinstance(module, Patches))
    assert stem.stride == 1
