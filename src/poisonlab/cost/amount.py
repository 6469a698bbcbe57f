"""An amount of work, by what is done on which network: the two things that a device's speed depends on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from poisonlab.cost.networks import Network

Kind = Literal["train", "craft", "noise", "forward"]
"""``train``: steps on weights, and what defenses do in between; ``craft``: gradients of gradients, or of features, by
poisons; ``noise``: gradients by inputs; ``forward``: predictions, features and products of features."""


@dataclass(frozen=True)
class Work:
    """Floating-point operations by kind and network's name."""

    parts: Mapping[tuple[Kind, str], float] = field(default_factory=dict)

    @property
    def flops(self) -> float:
        """All of them."""
        return sum(self.parts.values())

    def __add__(self, other: Work) -> Work:
        places = self.parts.keys() | other.parts.keys()
        return Work({place: self.parts.get(place, 0.0) + other.parts.get(place, 0.0) for place in sorted(places)})

    def times(self, count: float) -> Work:
        """The same ``count`` times."""
        return Work({place: count * flops for place, flops in self.parts.items()})


def passes(kind: Kind, network: Network, count: float, images: float) -> Work:
    """``count`` times the work of a forward pass, for each of ``images``."""
    return Work({(kind, network.name): count * images * network.forward})


def total(amounts: Iterable[Work]) -> Work:
    """Their sum."""
    return sum(amounts, Work())
