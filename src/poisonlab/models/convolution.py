"""A convolution with batch norm and ReLU behind it, of which most networks for images are made."""

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
    """Mean over the image, and features (B, D) of what was (B, D, H, W)."""
    return nn.AdaptiveAvgPool2d(1), nn.Flatten()
