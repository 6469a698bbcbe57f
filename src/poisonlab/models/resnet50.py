"""ResNet-50 for small images (He et al. 2016): 3x3 stride-1 stem, no max-pool; 23.5 M parameters."""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import resnet50
from torchvision.models.resnet import Bottleneck

from poisonlab.models.classifier import Classifier
from poisonlab.models.group_norm import normalisation


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0, norm: str = "batch") -> Classifier:
    """Build the network for images (C, H, W); torchvision's blocks and initialisation. ``norm``: batch or group."""
    network = resnet50(norm_layer=partial(normalisation, norm))
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    if dropout:
        for module in network.modules():
            if isinstance(module, Bottleneck):
                module.conv3 = nn.Sequential(nn.Dropout(dropout), module.conv3)
    head = nn.Linear(network.fc.in_features, num_classes)
    network.fc = nn.Identity()
    return Classifier(network, head)
