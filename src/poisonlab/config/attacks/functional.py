"""Settings of functional poisons."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from poisonlab.config.attacks.attack import AdversarialAvailabilityAttack
from poisonlab.config.types import NonNegativeFloat, PositiveFloat, PositiveInt, Settings, WholeLevel

Change = Literal["color", "flow", "additive"]
_ORDER: tuple[Change, ...] = ("color", "flow", "additive")


def _ordered(changes: tuple[Change, ...]) -> tuple[Change, ...]:
    if list(changes) != [each for each in _ORDER if each in changes]:
        raise ValueError(f"changes are made in the order {', '.join(_ORDER)}, each once: list them so")
    return changes


class Colors(Settings):
    """A map of the colours of an image, the same for all its pixels (ReColorAdv, Laidlaw and Feizi 2019)."""

    bound: PositiveFloat = 0.06
    """Bound on the change of each CIELUV coordinate, scaled to [0, 1]."""
    grid: Annotated[tuple[Annotated[int, Field(ge=2, le=64)], ...], Field(min_length=3, max_length=3)] = (16, 32, 32)
    """Points of the grid of colours along L, u and v."""
    smoothness: NonNegativeFloat = 0.05
    """Weight of the penalty on differences between neighbours on the grid, each pair counted twice."""
    gamut: bool = True
    """Cut the grid to the colours of sRGB, as released: else some colours close to black, whose tint is hardly
    determined, become bright. The cut alone changes images, by 1.3 levels on average."""

    @property
    def points(self) -> tuple[int, int, int]:
        """Points of the grid, along L, u and v."""
        lightness, u, v = self.grid
        return lightness, u, v


class Flow(Settings):
    """A displacement of each pixel (StAdv, Xiao et al. 2018)."""

    bound: PositiveFloat = 0.05
    """Bound on the displacement along each axis, in units in which the image's side is 2: 0.05 is 0.8 of 32 pixels."""
    smoothness: NonNegativeFloat = 0.05
    """Weight of the penalty on differences between the displacements of neighbours, each pair counted twice."""


class Functional(AdversarialAvailabilityAttack):
    """Untargeted adversarial examples of the whole training set by changes of colour, displacements of pixels and
    additive noise. FC, FCS and FCSD of Sandoval-Segura et al. 2022. Without a change of colours or a flow it is an
    additive attack; with one there is no bound on single pixels."""

    method: Literal["functional"] = "functional"
    changes: Annotated[tuple[Change, ...], Field(min_length=1), AfterValidator(_ordered)] = _ORDER
    """Which changes are made, in this order: ``[color]`` is FC, ``[color, flow]`` FCS, all three FCSD."""
    eps: WholeLevel = 8.0
    """Bound of the additive noise, in levels of 1/255."""
    color: Colors = Colors()
    """The change of colours."""
    flow: Flow = Flow()
    """The displacement."""
    lr: PositiveFloat = 0.001
    """Step of Adam on grid, flow and noise alike, each in units of its own range."""
    steps: PositiveInt = 100
    """Steps of each image; the last one counts."""
    batch_size: PositiveInt = 128
    """Images at once, which bounds the memory: besides the network's, some 2 MB per image for a grid of 16 x 32 x 32
    and Adam's state of it."""
    crafting_precision: Literal["float32", "bfloat16"] = "float32"
    """Precision of the surrogates' forward and backward passes."""

    @property
    def bound(self) -> float | None:
        """``eps`` if noise is the only change; None if colours or places change as well."""
        return self.eps if self.changes == ("additive",) else None
