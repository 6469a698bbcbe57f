"""A residual network small enough for studies on one CPU core."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import BasicBlock

from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int], width: int = 16, stem_stride: int = 2) -> Classifier:
    """Three basic blocks of widths w, 2w, 4w; the second and third halve the resolution."""
    extract = nn.Sequential(
        nn.Conv2d(image_shape[0], width, 3, stride=stem_stride, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        BasicBlock(width, width),
        BasicBlock(width, 2 * width, 2, _shortcut(width, 2 * width)),
        BasicBlock(2 * width, 4 * width, 2, _shortcut(2 * width, 4 * width)),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in extract.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Classifier(extract, nn.Linear(4 * width, num_classes))


def _shortcut(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
