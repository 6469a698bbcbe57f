"""DPN-92 (Chen et al. 2017, "Dual path networks") for small images; 34.2 M parameters.

The form that poisoning papers use on CIFAR-10: activations after the convolutions, a 3x3 stride-1 stem.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import convolution, pooled

_GROUPS = 32
# For each stage: inner channels, residual channels, channels that each block adds to the dense path, blocks.
_STAGES = ((96, 256, 16, 3), (192, 512, 32, 4), (384, 1024, 24, 20), (768, 2048, 128, 3))


class Block(nn.Module):
    """A bottleneck with two paths: its first ``residual`` channels are added to the input's, the rest are appended."""

    def __init__(
        self, inputs: int, inner: int, residual: int, dense: int, stride: int, first: bool, dropout: float
    ) -> None:
        super().__init__()
        self.residual = residual
        self.reduce = convolution(inputs, inner)
        self.filter = convolution(inner, inner, 3, stride=stride, groups=_GROUPS)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.expand = _linear(inner, residual + dense)
        self.shortcut = _linear(inputs, residual + dense, stride) if first else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        inner = self.expand(self.dropout(self.filter(self.reduce(x))))
        kept, edge = self.shortcut(x), self.residual
        return F.relu(torch.cat([kept[:, :edge] + inner[:, :edge], kept[:, edge:], inner[:, edge:]], 1))


def _linear(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0) -> Classifier:
    """Thirty blocks on images (C, H, W) of any size; ``dropout`` acts before the last convolution of each."""
    layers: list[nn.Module] = [convolution(image_shape[0], 64, 3)]
    width = 64
    for stage, (inner, residual, dense, blocks) in enumerate(_STAGES):
        for number in range(blocks):
            first = number == 0
            stride = 2 if first and stage else 1
            layers.append(Block(width, inner, residual, dense, stride, first, dropout))
            width = residual + (number + 2) * dense
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(width, num_classes))
