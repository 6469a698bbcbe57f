"""The network of the fast protocol: few operations, few passes over memory, high accuracy after few epochs.

Modelled on the speed-run networks for CIFAR-10 (Page 2019, "How to train your ResNet"; Jordan 2024, "94% on CIFAR-10 in
3.29 seconds on a single GPU"), with widths, stem and activation chosen for speed on a CPU core.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier
from poisonlab.models.group_norm import normalisation

_SIDE = 2
"""Side of the stem's patches, in pixels."""
_IMAGES = 5000
"""Images that suffice to estimate the covariance of patches."""
_SMALLEST = 0.05
"""Added to the variance of each principal component, in normalised units. It is about the variance of noise of 16
levels, so that no filter amplifies such noise. Jordan uses 5e-4, for images without noise."""


class Patches(nn.Module):
    """A convolution with fixed filters, kept in a buffer, so that they are not trained, moved or differentiated."""

    filters: Tensor

    def __init__(self, channels: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.register_buffer("filters", nn.Conv2d(channels, outputs, _SIDE, bias=False).weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.filters, stride=self.stride)


class Group(nn.Module):
    """Convolution, pooling, norm, ReLU; convolution, norm, ReLU. Maps are halved directly after the first convolution,
    to save passes over large maps. Each convolution begins as the identity plus drawn weights, so that the signal
    reaches every layer from the start. Jordan (2024, section 3.3) uses the identity alone."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.norm1 = normalisation(norm, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = normalisation(norm, outputs)
        for conv in (self.conv1, self.conv2):
            conv.weight.data += nn.init.dirac_(torch.empty_like(conv.weight))

    def forward(self, x: Tensor) -> Tensor:
        # Rounding up keeps at least one cell of a small image's map.
        x = F.relu(self.norm1(F.max_pool2d(self.conv1(x), 2, ceil_mode=True)))
        return F.relu(self.norm2(self.conv2(x)))


class Largest(nn.Module):
    """The largest value of each map, like ``nn.AdaptiveMaxPool2d(1)``, whose gradient is not deterministic on a GPU."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        return F.max_pool2d(x, (height, width))


def build(
    num_classes: int,
    image_shape: tuple[int, int, int],
    widths: tuple[int, ...] = (32, 128, 256),
    stem_stride: int = 2,
    whiten: bool = False,
    norm: str = "batch",
) -> Classifier:
    """A stem of 2x2 patches with eight filters for each channel of the image (C, H, W); groups; the largest value of
    each feature map.

    Args:
        whiten: whether the stem's filters are fixed. They are drawn first; ``adapt`` computes them from images.

    Raises:
        SettingsError: the image is smaller than a patch.
    """
    channels, height, width = image_shape
    if min(height, width) < _SIDE:
        raise SettingsError(f"fast-cifar needs images of at least {_SIDE} x {_SIDE}, not {height} x {width}")
    filters = 2 * channels * _SIDE**2
    stem: nn.Module = Patches(channels, filters, stem_stride)
    if not whiten:
        stem = nn.Conv2d(channels, filters, _SIDE, stride=stem_stride, bias=False)
    groups = [Group(inputs, outputs, norm) for inputs, outputs in zip((filters, *widths), widths, strict=False)]
    extract = nn.Sequential(stem, nn.ReLU(), *groups, Largest(), nn.Flatten())
    return Classifier(extract, nn.Linear(widths[-1], num_classes))


def adapt(network: Classifier, dataset: ImageDataset) -> None:
    """Compute the filters of a whitened stem from the clean training images; a trained stem is not changed."""
    for module in network.extract.modules():
        if isinstance(module, Patches):
            module.filters.copy_(whitening(dataset.train_images, dataset.mean, dataset.std))


def whitening(images: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Filters whose outputs on patches of normalised images are uncorrelated with variance 1, and their negatives.

    Args:
        images: (N, C, H, W) uint8; at most 5,000 of them are used, evenly spaced.
        mean, std: of each channel, in [0, 1].

    Returns:
        (8 C, C, 2, 2) float32, by falling variance. The bits depend only on the linear-algebra library, because sums of
        whole numbers are exact.
    """
    chosen = images[:: -(-len(images) // _IMAGES)]
    patches = chosen.cpu().unfold(2, _SIDE, 1).unfold(3, _SIDE, 1).movedim(1, 3).flatten(3).flatten(0, 2)
    size, count = patches.shape[1], len(patches)
    sums, products = torch.zeros(size, dtype=torch.float64), torch.zeros(size, size, dtype=torch.float64)
    for some in torch.split(patches, 100_000):
        values = some.double()
        sums += values.sum(0)
        products += values.T @ values
    cells = _SIDE**2
    centre = 255 * torch.tensor(mean, dtype=torch.float64).repeat_interleave(cells)
    spread = 255 * torch.tensor(std, dtype=torch.float64).repeat_interleave(cells)
    average = sums / count
    about_zero = products / count - average.outer(centre) - centre.outer(average) + centre.outer(centre)
    variances, vectors = torch.linalg.eigh(about_zero / spread.outer(spread))
    # The solver leaves a vector's sign open: make its largest entry positive.
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    scaled = (vectors * largest.sign() / (variances.clamp(min=0) + _SMALLEST).sqrt()).T.flip(0)
    return torch.cat([scaled, -scaled]).view(-1, images.shape[1], _SIDE, _SIDE).float()
