"""MobileNet (Howard et al. 2017) for small images, stride-1 stem; 3.2 M parameters."""

from __future__ import annotations

from torch import nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import convolution, pooled

# Output channels and stride of each pair of a depthwise and a pointwise convolution.
_PAIRS = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *((512, 1),) * 5, (1024, 2), (1024, 1))


def build(num_classes: int, image_shape: tuple[int, int, int]) -> Classifier:
    """Thirteen depthwise separable convolutions on images (C, H, W) of any size."""
    layers: list[nn.Module] = [convolution(image_shape[0], 32, 3)]
    width = 32
    for outputs, stride in _PAIRS:
        layers += [convolution(width, width, 3, stride=stride, groups=width), convolution(width, outputs)]
        width = outputs
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(width, num_classes))
