"""DenseNet-121 (Huang et al. 2017) for small images: 3x3 stride-1 stem, no max-pool; 7.0 M parameters."""

from __future__ import annotations

from torch import nn
from torchvision.models import densenet121

from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int]) -> Classifier:
    """Torchvision's blocks and initialisation, for images (C, H, W) of at least 8 x 8.

    Raises:
        SettingsError: the image is too small for three transitions.
    """
    channels, height, width = image_shape
    if min(height, width) < 8:
        raise SettingsError(f"densenet121 needs images of at least 8 x 8, not {height} x {width}")
    network = densenet121()
    stem = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight)
    network.features.conv0 = stem
    # The first block begins with its own batch norm and ReLU.
    network.features.norm0 = network.features.relu0 = network.features.pool0 = nn.Identity()
    head = nn.Linear(network.classifier.in_features, num_classes)
    network.classifier = nn.Identity()
    return Classifier(network, head)
