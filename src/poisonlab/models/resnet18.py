"""ResNet-18 for small images (He et al. 2016); 11.2 M parameters."""

from __future__ import annotations

from torchvision.models import resnet18

from poisonlab.models.cifar_resnet import cifar_resnet
from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int], dropout: float = 0.0, norm: str = "batch") -> Classifier:
    """Build the network for images (C, H, W), see ``cifar_resnet``."""
    return cifar_resnet(resnet18, num_classes, image_shape, dropout, norm)
