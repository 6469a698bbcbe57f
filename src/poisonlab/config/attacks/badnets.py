"""Settings of BadNets."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.attacks.attack import BACKDOOR, Attack
from poisonlab.config.measures import Measure
from poisonlab.config.types import ClassLabel, Fraction, PositiveInt


class BadNets(Attack):
    """BadNets: images of other classes get a visible patch and the target class's label (Gu et al. 2017)."""

    method: Literal["badnets"] = "badnets"
    budget: Fraction = 0.01
    """Poisons as a fraction of the images that the victim is trained on."""
    target_class: ClassLabel | None = None
    """Name or number of the class that images with the patch are to get; drawn by the seed if not given."""
    patch_size: PositiveInt = 3
    """Side of the patch, in pixels."""
    place: Literal["random", "bottom-right"] = "bottom-right"
    """``bottom-right``: the same corner in all images; ``random``: a place drawn for each."""
    targets: PositiveInt = 1000
    """Test images of other classes, at most, on which success is measured."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of a backdoor."""
        return BACKDOOR
