"""AlexNet (Krizhevsky et al. 2012) resized for CIFAR images, one of FRIENDS' cheaper networks for making noise."""

from __future__ import annotations

from torch import nn

from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int]) -> Classifier:
    """Five convolutions and three linear layers, dropout, no batch norm; images at least 16 x 16.

    Raises:
        SettingsError: the image is too small for the strided stem and three poolings.
    """
    channels, height, width = image_shape
    if min(height, width) < 16:
        raise SettingsError(f"alexnet needs images of at least 16 x 16, not {height} x {width}")
    # The strided stem rounds up, each of the three poolings rounds down.
    cells = ((height + 1) // 2 // 8) * ((width + 1) // 2 // 8)
    extract = nn.Sequential(
        nn.Conv2d(channels, 64, 3, stride=2, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 192, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(192, 384, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(384, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Conv2d(256, 256, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(256 * cells, 4096),
        nn.ReLU(inplace=True),
        nn.Dropout(),
        nn.Linear(4096, 4096),
        nn.ReLU(inplace=True),
    )
    return Classifier(extract, nn.Linear(4096, num_classes))
