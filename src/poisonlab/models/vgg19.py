"""VGG-19 (Simonyan & Zisserman 2015) with batch norm and a single linear layer, for small images; 20 M parameters."""

from __future__ import annotations

from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from poisonlab.models.classifier import Classifier
from poisonlab.models.convolution import pooled


def build(num_classes: int, image_shape: tuple[int, int, int]) -> Classifier:
    """Torchvision's sixteen convolutions and their initialisation, on images (C, H, W) of any size.

    Poolings round up, so that images whose sides are no multiples of 32 keep at least one cell.
    """
    layers = list(make_layers(cfgs["E"], batch_norm=True))
    layers[0] = nn.Conv2d(image_shape[0], 64, 3, padding=1)
    for layer in layers:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
        elif isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return Classifier(nn.Sequential(*layers, *pooled()), nn.Linear(512, num_classes))
