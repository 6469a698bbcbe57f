"""MobileNetV2 (Sandler et al. 2018) for small images; 2.3 M parameters.

The form that poisoning papers use on CIFAR-10: ReLU without a ceiling, strides of 1 in the stem and in the second
stage, an expansion in the first block too, and a projected shortcut where only the number of channels changes.
"""

from __future__ import annotations

from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import convolution, pooled

# For each stage: expansion, output channels, blocks, stride of the first block.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


class Block(nn.Module):
    """Expand, filter each channel separately, project; with a shortcut if the image keeps its size."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dropout: float) -> None:
        super().__init__()
        inner = expansion * inputs
        self.expand = convolution(inputs, inner)
        self.filter = convolution(inner, inner, 3, stride=stride, groups=inner)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.project = _linear(inner, outputs)
        self.shortcut: nn.Module | None = None
        if stride == 1:
            self.shortcut = nn.Identity() if inputs == outputs else _linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        projected: Tensor = self.project(self.dropout(self.filter(self.expand(x))))
        return projected if self.shortcut is None else projected + self.shortcut(x)


def _linear(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0) -> Classifier:
    """Seventeen blocks on images (C, H, W) of any size; ``dropout`` acts before the projection of each."""
    layers: list[nn.Module] = [convolution(image_shape[0], 32, 3)]
    width = 32
    for expansion, outputs, blocks, stride in _STAGES:
        for number in range(blocks):
            layers.append(Block(width, outputs, expansion, stride if number == 0 else 1, dropout))
            width = outputs
    layers.append(convolution(width, 1280))
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(1280, num_classes))
