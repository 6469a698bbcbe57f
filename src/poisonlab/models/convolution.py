"""Parts of networks for images: convolution with batch norm and ReLU, and the final pooling."""

from __future__ import annotations

from torch import nn


def convolution(
    inputs: int, outputs: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Sequential:
    """Convolution of an odd ``kernel``, padded so that stride 1 keeps the image's size; batch norm; ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def pooled() -> tuple[nn.Module, nn.Module]:
    """Layers that take maps (B, D, H, W) to their means over the image, features (B, D)."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
