"""ResNeXt-29 2x64d (Xie et al. 2017) for small images: three stages, 1x1 stem; 9.1 M parameters."""

from __future__ import annotations

from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0) -> Classifier:
    """Torchvision's blocks and initialisation, on images (C, H, W) of any size.

    ``dropout`` acts before the last convolution of each block.
    """
    network = ResNet(Bottleneck, [3, 3, 3, 1], groups=2, width_per_group=64)
    network.conv1 = nn.Conv2d(image_shape[0], 64, 1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = network.layer4 = network.fc = nn.Identity()
    if dropout:
        for module in network.modules():
            if isinstance(module, Bottleneck):
                module.conv3 = nn.Sequential(nn.Dropout(dropout), module.conv3)
    return Classifier(network, nn.Linear(1024, num_classes))
