"""Architectures: shapes, sizes counted by hand, and reproducible weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from torch import nn

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.models.alexnet import AlexNet
from poisonlab.config.models.resnet18 import ResNet18
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.group_norm import group_norm
from poisonlab.models.networks import build_network, build_normalize, load_weights, save_weights


def dataset(shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10) -> ImageDataset:
    images, labels = torch.zeros(classes, *shape, dtype=torch.uint8), torch.arange(classes)
    channels = shape[0]
    return ImageDataset(
        images, labels, images, labels, tuple(map(str, range(classes))), (0.5,) * channels, (0.25,) * channels
    )


def built(name: str, shape: tuple[int, int, int] = (3, 32, 32), classes: int = 10, seed: int = 0) -> Classifier:
    settings = TypeAdapter(ModelSettings).validate_python({"name": name})
    return build_network(settings, dataset(shape, classes), seed=seed).eval()


def layers(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(m.weight.shape) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]


def test_resnet18_is_the_cifar_one() -> None:
    model = built("resnet18")
    stem = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    assert (stem.kernel_size, stem.stride, stem.padding, stem.bias) == ((3, 3), (1, 1), (1, 1), None)
    assert not [m for m in model.modules() if isinstance(m, nn.MaxPool2d)]
    # A 32 x 32 image keeps its size in the first stage and is halved by each of the other three.
    sizes = []
    stages = [m for name, m in model.named_modules() if name.rsplit(".", 1)[-1].startswith("layer")]
    assert len(stages) == 4
    for stage in stages:
        stage.register_forward_hook(lambda _module, _inputs, out: sizes.append(tuple(out.shape[1:])))
    model(torch.zeros(1, 3, 32, 32))
    assert sizes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    # He initialisation by fan-out: variance 2 / (64 * 9) in the stem.
    assert stem.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.1)


def test_lenet_layers() -> None:
    assert layers(built("lenet")) == [(6, 3, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (10, 84)]


def test_alexnet_layers() -> None:
    model = built("alexnet")
    assert layers(model) == [
        (64, 3, 3, 3),
        (192, 64, 3, 3),
        (384, 192, 3, 3),
        (256, 384, 3, 3),
        (256, 256, 3, 3),
        (4096, 1024),
        (4096, 4096),
        (10, 4096),
    ]
    assert sum(isinstance(m, nn.Dropout) for m in model.modules()) == 2
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.modules()) == 3
    assert not [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]


def test_small_resnet_options() -> None:
    for width, stride in ((4, 1), (8, 4)):
        model = build_network(SmallResNet(width=width, stem_stride=stride), dataset(), seed=0)
        assert model.head.in_features == 4 * width
        assert layers(model)[0] == (width, 3, 3, 3)
        stem = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
        assert stem.stride == (stride, stride)


@pytest.mark.parametrize("settings", [ResNet18, SmallResNet])
def test_norm_changes_the_normalisation_and_nothing_else(settings: type[ResNet18 | SmallResNet]) -> None:
    plain, batch, group = (
        build_network(made, dataset(), seed=3) for made in (settings(), settings(norm="batch"), settings(norm="group"))
    )
    assert list(plain.state_dict()) == list(batch.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(plain.state_dict().values(), batch.state_dict().values(), strict=True))
    assert not [m for m in plain.modules() if isinstance(m, nn.GroupNorm)]
    assert not [m for m in group.modules() if isinstance(m, nn.BatchNorm2d)]
    # The same weights, drawn in the same order, without running statistics.
    weights, others = dict(batch.named_parameters()), dict(group.named_parameters())
    assert list(weights) == list(others) == list(group.state_dict())
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    for old, new in zip(batch.modules(), group.modules(), strict=True):
        if isinstance(old, nn.BatchNorm2d):
            assert isinstance(new, nn.GroupNorm)
            assert new.num_channels == old.num_features
            assert new.num_channels // new.num_groups >= 4


def test_groups_divide_the_channels() -> None:
    expected = {1: 1, 3: 1, 4: 1, 6: 1, 7: 1, 8: 2, 12: 3, 16: 4, 20: 5, 32: 8, 64: 16, 128: 32, 512: 32, 132: 22}
    assert {channels: group_norm(channels).num_groups for channels in expected} == expected


@pytest.mark.parametrize("settings", [ResNet18, SmallResNet])
def test_group_norm_keeps_examples_apart(settings: type[ResNet18 | SmallResNet]) -> None:
    images = torch.randn(3, 3, 16, 16)
    for norm, apart in (("group", True), ("batch", False)):
        model = build_network(TypeAdapter(settings).validate_python({"norm": norm}), dataset(), seed=0).train()
        with torch.no_grad():
            alone, together = (
                model(images[:2])[0],
                model(images[[0, 2]] * torch.tensor([1.0, 9.0])[:, None, None, None])[0],
            )
        assert torch.allclose(alone, together, rtol=1e-4, atol=1e-4) == apart


def test_weights_come_back(tmp_path: Path) -> None:
    model, other = built("small-resnet"), built("small-resnet", seed=1)
    save_weights(tmp_path / "w", model, {"accuracy": 0.5})
    load_weights(tmp_path / "w", other)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), other(images))
    with pytest.raises(DataError, match="another architecture"):
        load_weights(tmp_path / "w", built("lenet"))
    with pytest.raises(DataError, match="another architecture") as caught:
        load_weights(tmp_path / "w", built("small-resnet", classes=3))
    assert "\n" not in str(caught.value)


def test_normalize() -> None:
    images = torch.rand(2, 3, 4, 4)
    ours = Normalize((0.1, 0.2, 0.3), (0.5, 0.25, 1.0))(images)
    for channel, (mean, std) in enumerate([(0.1, 0.5), (0.2, 0.25), (0.3, 1.0)]):
        assert torch.allclose(ours[:, channel], (images[:, channel] - mean) / std)
    assert torch.allclose(build_normalize(dataset())(torch.full((1, 3, 1, 1), 0.75)), torch.ones(1))
    assert AlexNet().name == "alexnet"
