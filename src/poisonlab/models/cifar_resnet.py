"""ResNets for small images (He et al. 2016): a 3x3 stem of stride 1 without max-pool, then torchvision's blocks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from poisonlab.models.classifier import Classifier
from poisonlab.models.group_norm import normalisation


def cifar_resnet(
    make: Callable[..., ResNet], num_classes: int, image_shape: tuple[int, int, int], dropout: float, norm: str
) -> Classifier:
    """Build the network for images (C, H, W), with torchvision's initialisation.

    Args:
        make: torchvision's constructor.
        dropout: share of the values dropped before the last convolution of each block.
        norm: ``batch`` or ``group``.
    """
    network = make(norm_layer=partial(normalisation, norm))
    network.conv1 = nn.Conv2d(image_shape[0], 64, 3, stride=1, padding=1, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    network.maxpool = nn.Identity()
    if dropout:
        for module in network.modules():
            if isinstance(module, BasicBlock):
                module.conv2 = nn.Sequential(nn.Dropout(dropout), module.conv2)
            elif isinstance(module, Bottleneck):
                module.conv3 = nn.Sequential(nn.Dropout(dropout), module.conv3)
    head = nn.Linear(network.fc.in_features, num_classes)
    network.fc = nn.Identity()
    return Classifier(network, head)
