"""A residual network small enough for studies on one CPU core."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.group_norm import normalisation


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016).

    Torchvision's BasicBlock is the same, but its import loads every model of torchvision: seconds per job.
    """

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float = 0.0, norm: str = "batch") -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = normalisation(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = normalisation(norm, outputs)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), normalisation(norm, outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(self.dropout(F.relu(self.bn1(self.conv1(x))))))
        return F.relu(inner + self.shortcut(x))


def build(
    num_classes: int,
    image_shape: tuple[int, int, int],
    width: int = 16,
    stem_stride: int = 2,
    dropout: float = 0.0,
    norm: str = "batch",
) -> Classifier:
    """Three basic blocks of widths w, 2w, 4w; the second and third halve the resolution. ``norm``: batch or group."""
    extract = nn.Sequential(
        nn.Conv2d(image_shape[0], width, 3, stride=stem_stride, padding=1, bias=False),
        normalisation(norm, width),
        nn.ReLU(),
        Block(width, width, 1, dropout, norm),
        Block(width, 2 * width, 2, dropout, norm),
        Block(2 * width, 4 * width, 2, dropout, norm),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    for module in extract.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return Classifier(extract, nn.Linear(4 * width, num_classes))
