"""Settings of the figures; those for drawing are separate from those for computing."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from poisonlab.config.types import Name, PositiveFloat, PositiveLevels, Settings, WholeLevel


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    if any(second <= first for first, second in pairwise(values)):
        raise ValueError("must ascend")
    return values


class Landscape(Settings):
    """Loss over a plane of perturbations (FRIENDS, figures 2 and 3)."""

    points: Annotated[int, Field(ge=3, le=201)] = 25
    """Grid points along each axis."""
    radius: WholeLevel = 24.0
    """Half width of the plane, in levels of 1/255 per pixel (root mean square of each direction is 1)."""
    directions: Literal["plain", "filter-normalised"] = "plain"
    """Figure 3: ``plain`` moves every poison in pixel space; ``filter-normalised`` moves the victim's weights, along
    directions whose every filter is as long as that of the weights (Li et al. 2018). Figure 2 is always in pixels."""
    weight_radius: PositiveFloat = 1.0
    """Half width of a plane of weights; 1 is a change as long as the filters themselves."""
    draws: Annotated[int, Field(ge=1, le=100)] = 1
    """Independent pairs of directions; figures show the mean over them."""
    victims: tuple[Name, ...] = ()
    """Figure 3: the defenses whose victims are compared; it is not drawn for an attack that meets none of them."""


class OutputStd(Settings):
    """Spread of the output around poisons and clean images (after FRIENDS, figure 5c), of the surrogate and of figure
    3's victims."""

    magnitudes: Annotated[tuple[PositiveLevels, ...], Field(min_length=1), AfterValidator(_ascending)] = (
        2,
        4,
        8,
        16,
        32,
    )
    """Perturbations are uniform within plus and minus these levels."""
    draws: Annotated[int, Field(ge=2, le=10_000)] = 32
    """Perturbations per image and magnitude."""


class Drawing(Settings):
    """How figures look; changing it recomputes nothing."""

    dpi: Annotated[int, Field(ge=50, le=1200)] = 200
    """Resolution of the PNG files."""
    examples: Annotated[int, Field(ge=1, le=20)] = 6
    """Poisons shown in figure 1."""


class Drawn(Settings):
    """Settings that the program of every figure receives."""

    drawing: Drawing = Drawing()


class Figures(Settings):
    """What is drawn."""

    seed: int | None = None
    """The seed whose poisons are shown; the first if not given."""
    attacks: tuple[Name, ...] | None = None
    """The attacks with figures of their own; all if not given."""
    landscape: Landscape = Landscape()
    """Settings of the loss landscapes."""
    output_std: OutputStd = OutputStd()
    """Settings of the output's spread."""
    drawing: Drawing = Drawing()
    """How figures look."""
