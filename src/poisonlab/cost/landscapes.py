"""The work of the loss landscapes of figures 2 and 3, and of the spread of the output; drawing is not counted."""

from __future__ import annotations

from poisonlab.config.figures import Landscape, OutputStd
from poisonlab.cost.amount import Work, passes
from poisonlab.cost.networks import BY_WEIGHTS, FORWARD, MATCHING, Network


def around_poison(settings: Landscape, network: Network, poisons: int) -> Work:
    """Figure 2: the most effective of the poisons is found, then both losses are taken at every point of the grid."""
    points = settings.points**2
    # The target's own gradient is one image more.
    finding = passes("craft", network, MATCHING, poisons) + passes("craft", network, BY_WEIGHTS, 1)
    points *= settings.draws
    return finding + passes("train", network, BY_WEIGHTS, points) + passes("forward", network, FORWARD, points)


def around_poisons(settings: Landscape, network: Network, poisons: int, victims: int) -> Work:
    """Figure 3: the loss of all poisons at every point of the grid, in every one of ``victims``."""
    return passes("forward", network, FORWARD, victims * settings.draws * settings.points**2 * poisons)


def output_std(settings: OutputStd, network: Network, poisons: int, networks: int) -> Work:
    """Figure 5c: the output around poisons, their bases and as many clean images, in every one of ``networks``."""
    images = 3 * poisons * settings.draws * len(settings.magnitudes)
    return passes("forward", network, FORWARD, networks * images)
