"""The work of the loss landscapes of figures 2 and 3; drawing them is not counted."""

from __future__ import annotations

from poisonlab.config.figures import Landscape
from poisonlab.work.amount import Work, passes
from poisonlab.work.networks import BY_WEIGHTS, FORWARD, MATCHING, Network


def around_poison(settings: Landscape, network: Network, poisons: int) -> Work:
    """Figure 2: the most effective of the poisons is found, then both losses are taken at every point of the grid."""
    points = settings.points**2
    # The target's own gradient is one image more.
    finding = passes("craft", network, MATCHING, poisons) + passes("craft", network, BY_WEIGHTS, 1)
    return finding + passes("train", network, BY_WEIGHTS, points) + passes("forward", network, FORWARD, points)


def around_poisons(settings: Landscape, network: Network, poisons: int, victims: int) -> Work:
    """Figure 3: the loss of all poisons at every point of the grid, in every one of ``victims``."""
    return passes("forward", network, FORWARD, victims * settings.points**2 * poisons)
