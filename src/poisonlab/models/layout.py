"""The order in which a batch's numbers lie in memory."""

from __future__ import annotations

import torch
from torch import nn

_AT_ONCE = 16
"""Most channels that oneDNN's float32 kernels take at once: 16 with AVX-512, 8 with AVX2."""


def layout(model: nn.Module) -> torch.memory_format:
    """The fastest order for the network's images and weights: channels last, unless it would damage memory.

    In torch 2.14 and 2.15, oneDNN writes beyond its buffer where it differentiates a strided 1 x 1 convolution of few
    channels with channels last (oneDNN, issue 6035). Then the process crashes, or other numbers change.
    """
    damaging = any(
        isinstance(part, nn.Conv2d)
        and part.kernel_size == (1, 1)
        and part.stride != (1, 1)
        and part.in_channels // part.groups < _AT_ONCE
        for part in model.modules()
    )
    return torch.contiguous_format if damaging else torch.channels_last
