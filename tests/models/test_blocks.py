"""The blocks of every architecture, and what comes out of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from poisonlab.models import alexnet, lenet, resnet18, small_resnet
from poisonlab.models.blocks import blocks_of, features_on_the_way
from poisonlab.models.classifier import Classifier

SHAPE = (3, 32, 32)


def test_residual_networks_have_residual_blocks_and_plain_ones_have_none() -> None:
    big, small = resnet18.build(10, SHAPE, dropout=0.2), small_resnet.build(10, SHAPE)
    assert [type(block).__name__ for block in blocks_of(big.extract)] == ["BasicBlock"] * 8
    assert [type(block).__name__ for block in blocks_of(small.extract)] == ["Block"] * 3
    assert blocks_of(alexnet.build(10, SHAPE).extract) == blocks_of(lenet.build(10, SHAPE).extract) == []


def test_a_wrapped_network_is_looked_into() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x)

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 16, 1)
            self.layers = nn.Sequential(small_resnet.Block(16, 16, 1), small_resnet.Block(16, 16, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layers(self.stem(x)).mean((2, 3))

    whole = Whole()
    assert blocks_of(Wrapped(whole)) == list(whole.layers)
    model = Classifier(Wrapped(whole), nn.Linear(16, 10)).eval()
    images = torch.randn(2, *SHAPE)
    first, last = features_on_the_way(model, images, "all")
    assert torch.equal(first, whole.layers[0](whole.stem(images)))
    assert torch.equal(last, whole(images))


@pytest.mark.parametrize(("blocks", "stages"), [(0, []), (1, [7]), (3, [5, 6, 7]), ("all", [1, 2, 3, 4, 5, 6, 7])])
def test_features_come_from_the_last_blocks_but_one(blocks: int, stages: list[int]) -> None:
    model = resnet18.build(10, SHAPE).eval()
    images = torch.randn(2, *SHAPE)
    found = features_on_the_way(model, images, blocks)
    x, outputs = model.extract.relu(model.extract.bn1(model.extract.conv1(images))), []
    for stage in (model.extract.layer1, model.extract.layer2, model.extract.layer3, model.extract.layer4):
        for block in stage:
            x = block(x)
            outputs.append(x)
    truth = [*(outputs[place - 1] for place in stages), x.mean((2, 3))]
    assert len(found) == len(truth)
    for ours, theirs in zip(found, truth, strict=True):
        torch.testing.assert_close(ours, theirs)
