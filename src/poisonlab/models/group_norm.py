"""Group norm (Wu & He 2018) instead of batch norm, for networks that must not mix the examples of a batch."""

from __future__ import annotations

from torch import nn

_MOST_GROUPS = 32
_LEAST_CHANNELS = 4


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with as many equal groups as possible: at most 32 (Wu & He's number), each of at least 4 channels;
    otherwise one group.

    In a narrow network, 32 groups could have one channel each. That is instance norm, which removes every channel's
    mean over the image, the number that global average pooling reads.
    """
    allowed = (groups for groups in range(_MOST_GROUPS, 0, -1) if channels % groups == 0)
    return nn.GroupNorm(next((groups for groups in allowed if channels // groups >= _LEAST_CHANNELS), 1), channels)


def normalisation(norm: str, channels: int) -> nn.Module:
    """The layer of the setting ``norm``, ``batch`` or ``group``; neither draws random numbers."""
    return group_norm(channels) if norm == "group" else nn.BatchNorm2d(channels)
