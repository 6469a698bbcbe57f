"""The "modified AlexNet" of Poison Frogs (Shafahi et al. 2018) and of the deep k-NN paper; 1.8 M parameters.

Two 5x5 convolutions with overlapping poolings and local response normalisation, and linear layers of 384 and 192 units:
the network of TensorFlow's former CIFAR-10 tutorial. Initial weights are torch's. As in the tutorial, a penalty on the
weights of both hidden linear layers belongs to the network: it is trained with it whatever the recipe.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.models.classifier import Classifier
from poisonlab.models.penalised import penalised


class ResponseNorm(nn.Module):
    """Local response normalisation over nine channels: x / (1 + 0.001 / 9 * sum of squares) ^ 0.75."""

    def forward(self, x: Tensor) -> Tensor:
        # Torch averages images (B, C, H, W) by a 3D pooling, whose bits do not repeat on a GPU.
        return F.local_response_norm(x.flatten(2), 9, alpha=1e-3, beta=0.75, k=1.0).view(x.shape)


def build(num_classes: int, image_shape: tuple[int, int, int], penalty: float = 0.0) -> Classifier:
    """Features are the 192 units behind the last ReLU; images (C, H, W) of any size.

    Poolings pad as TensorFlow's SAME does: an even side at its end only, an odd one at both.

    Args:
        penalty: in training, the loss has half of this times the squared lengths of the hidden linear layers' weights
            besides (see ``penalised``).
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
