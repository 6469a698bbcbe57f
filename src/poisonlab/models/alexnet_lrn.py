"""The "modified AlexNet" of Poison Frogs (Shafahi et al. 2018) and of the deep k-NN paper; 1.8 M parameters.

Two 5x5 convolutions with overlapping poolings and local response normalisation, and linear layers of 384 and 192 units:
the network of TensorFlow's former CIFAR-10 tutorial. Initial weights are torch's. As in the tutorial, the network
includes a penalty on the weights of both hidden linear layers, which applies with every recipe.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.penalised import penalised


class ResponseNorm(nn.Module):
    """Local response normalisation over nine channels: x / (1 + 0.001 / 9 * sum of squares) ^ 0.75."""

    def forward(self, x: Tensor) -> Tensor:
        # For images (B, C, H, W) torch averages by a 3D pooling, which is not deterministic on a GPU.
        return F.local_response_norm(x.flatten(2), 9, alpha=1e-3, beta=0.75, k=1.0).view(x.shape)


def build(num_classes: int, image_shape: tuple[int, int, int], penalty: float = 0.0) -> Classifier:
    """The network for images (C, H, W) of any size; its features are the 192 outputs of the last ReLU.

    Poolings pad like TensorFlow's SAME: an even side at its end only, an odd side at both ends.

    Args:
        penalty: training adds ``penalty / 2`` times the squared lengths of the hidden linear layers' weights to the
            loss (see ``penalised``).
    """
    channels, height, width = image_shape
    halves = (height + 1) // 2, (width + 1) // 2
    cells = ((halves[0] + 1) // 2) * ((halves[1] + 1) // 2)
    extract = nn.Sequential(
        nn.Conv2d(channels, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        _pooling(height, width),
        ResponseNorm(),
        nn.Conv2d(64, 64, 5, padding=2),
        nn.ReLU(inplace=True),
        ResponseNorm(),
        _pooling(*halves),
        nn.Flatten(),
        penalised(nn.Linear(64 * cells, 384), penalty),
        nn.ReLU(inplace=True),
        penalised(nn.Linear(384, 192), penalty),
        nn.ReLU(inplace=True),
    )
    return Classifier(extract, nn.Linear(192, num_classes))


def _pooling(height: int, width: int) -> nn.MaxPool2d:
    return nn.MaxPool2d(3, stride=2, padding=(height % 2, width % 2), ceil_mode=True)
