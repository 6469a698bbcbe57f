"""Group norm (Wu & He 2018) in the place of batch norm, for networks that must not mix the examples of a batch."""

from __future__ import annotations

from torch import nn

_MOST_GROUPS = 32
_LEAST_CHANNELS = 4


def group_norm(channels: int) -> nn.GroupNorm:
    """Group norm with as many groups of equal size as ``channels`` allows: at most 32, Wu & He's number, of at least 4
    channels each, and otherwise one group.

    Groups of one channel, which 32 groups would be in a narrow network, are instance norm: it takes every channel's
    mean over the image away, and that is what the global average pooling reads.
    """
    allowed = (groups for groups in range(_MOST_GROUPS, 0, -1) if channels % groups == 0)
    return nn.GroupNorm(next((groups for groups in allowed if channels // groups >= _LEAST_CHANNELS), 1), channels)


def normalisation(norm: str, channels: int) -> nn.Module:
    """The layer that the setting ``norm``, ``batch`` or ``group``, stands for; neither draws random numbers."""
    return group_norm(channels) if norm == "group" else nn.BatchNorm2d(channels)
