"""Settings of regions noise."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from poisonlab.config.attacks.attack import AvailabilityAttack
from poisonlab.config.types import LATER, from_text


def grid_of(regions: int) -> tuple[int, int]:
    """Rows and columns of patches: a square grid, or twice as many rows as columns.

    Raises:
        ValueError: ``regions`` is neither a square number nor twice one.
    """
    for rows_per_column in (1, 2):
        columns = math.isqrt(regions // rows_per_column)
        if rows_per_column * columns * columns == regions:
            return rows_per_column * columns, columns
    raise ValueError(
        f"{regions} patches make no grid: take a square number or twice one, as 1, 2, 4, 16, 64, 128, 1024"
    )


def _check_grid(regions: int) -> int:
    grid_of(regions)
    return regions


class Regions(AvailabilityAttack):
    """Class-wise noise of patches of random colours, which is learned before the images are: an attack on the accuracy
    as a whole. Sandoval-Segura et al. 2022, "Poisons that are learned faster are more effective"."""

    method: Literal["regions"] = "regions"
    regions: Annotated[int, Field(ge=1, le=1 << 20), AfterValidator(_check_grid)] = 16
    """Patches of the noise: a square number or twice one that tiles the image. RN has one per pixel, 1024 in all."""
    eps: Annotated[int, Field(ge=1, le=255), BeforeValidator(from_text)] = 8
    """Change of every channel of a patch, in whole levels of 1/255."""
    signs: Literal["both", "plus"] = "both"
    """``both``: each channel of a patch changes by -eps or +eps (the paper); ``plus``: by 0 or +eps (the authors' code
    of RN)."""
    patch_shape: Annotated[Literal["wide", "tall"], LATER] = "wide"
    """Patches of twice a square number, for which the paper gives no shape: twice as wide as high (R2 has 16 x 32
    pixels, R128 2 x 4, height x width), or as high as wide."""
