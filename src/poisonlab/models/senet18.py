"""SENet-18 (Hu et al. 2018) for small images: pre-activation blocks with squeeze and excitation; 11.3 M parameters."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import convolution, pooled

_REDUCTION = 16
_WIDTHS = (64, 128, 256, 512)


class Block(nn.Module):
    """Two pre-activated 3x3 convolutions, and a gate for each channel from its mean over the image.

    A shortcut that changes the shape is a convolution of the activated input, without batch norm.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.gate = SqueezeExcitation(outputs, outputs // _REDUCTION)
        self.shortcut: nn.Module | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x))
        inner = self.conv2(self.dropout(F.relu(self.norm2(self.conv1(active)))))
        joined: Tensor = self.gate(inner) + (x if self.shortcut is None else self.shortcut(active))
        return joined


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0) -> Classifier:
    """Eight blocks on images (C, H, W) of any size; ``dropout`` acts between the convolutions of each."""
    layers: list[nn.Module] = [convolution(image_shape[0], 64, 3)]
    before = 64
    for stage, width in enumerate(_WIDTHS):
        layers += [Block(before, width, 2 if stage else 1, dropout), Block(width, width, 1, dropout)]
        before = width
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(before, num_classes))
