"""LeNet-5 (LeCun et al. 1998) with ReLU, one of FRIENDS' cheaper networks for making noise."""

from __future__ import annotations

from torch import nn

from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier


def build(num_classes: int, image_shape: tuple[int, int, int]) -> Classifier:
    """Two 5x5 convolutions with pooling, then 120-84-K; images at least 16 x 16.

    Raises:
        SettingsError: the image is too small for two unpadded convolutions.
    """
    channels, height, width = image_shape
    if min(height, width) < 16:
        raise SettingsError(f"lenet needs images of at least 16 x 16, not {height} x {width}")
    cells = (((height - 4) // 2 - 4) // 2) * (((width - 4) // 2 - 4) // 2)
    extract = nn.Sequential(
        nn.Conv2d(channels, 6, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * cells, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
    )
    return Classifier(extract, nn.Linear(84, num_classes))
