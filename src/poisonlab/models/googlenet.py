"""GoogLeNet (Szegedy et al. 2015) for small images, with batch norm; 6.2 M parameters.

The form that poisoning papers use on CIFAR-10: one 3x3 convolution as the stem, two 3x3 convolutions in place of a 5x5
one, convolutions with biases, no auxiliary classifiers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import convolution, pooled

# Channels of a block: 1x1; before and after 3x3; before and after 5x5; after pooling. An empty row is a pooling.
_BLOCKS: tuple[tuple[int, ...], ...] = (
    (64, 96, 128, 16, 32, 32),
    (128, 128, 192, 32, 96, 64),
    (),
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
    (),
    (256, 160, 320, 32, 128, 128),
    (384, 192, 384, 48, 128, 128),
)


class Inception(nn.Module):
    """Four branches side by side: 1x1, 3x3, 5x5 as two 3x3, and pooled."""

    def __init__(self, inputs: int, channels: tuple[int, ...], dropout: float) -> None:
        super().__init__()
        one, before_three, three, before_five, five, pool = channels
        self.one = convolution(inputs, one, bias=True)
        self.three = nn.Sequential(
            convolution(inputs, before_three, bias=True), convolution(before_three, three, 3, bias=True)
        )
        self.five = nn.Sequential(
            convolution(inputs, before_five, bias=True),
            convolution(before_five, five, 3, bias=True),
            convolution(five, five, 3, bias=True),
        )
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), convolution(inputs, pool, bias=True))
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.outputs = one + three + five + pool

    def forward(self, x: Tensor) -> Tensor:
        joined: Tensor = self.dropout(torch.cat([self.one(x), self.three(x), self.five(x), self.pool(x)], 1))
        return joined


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0) -> Classifier:
    """Nine inception blocks on images (C, H, W) of any size; ``dropout`` acts on the output of each."""
    layers: list[nn.Module] = [convolution(image_shape[0], 192, 3, bias=True)]
    width = 192
    for channels in _BLOCKS:
        if not channels:
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            continue
        block = Inception(width, channels, dropout)
        layers.append(block)
        width = block.outputs
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(width, num_classes))
