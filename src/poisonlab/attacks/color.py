"""Changes of colour: a smooth map of colours per image (ReColorAdv, Laidlaw and Feizi 2019).

MetaPoison offers this change as an option, and functional poisons use it.

All pixels of one colour move to the same new colour, so that a large change stays inconspicuous. The map works on
CIELUV colours. MetaPoison's released code works on YUV colours (ITU-R BT.601), although its settings name LUV.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

# sRGB primaries to CIE XYZ under D65 (IEC 61966-2-1), and the white point's chromaticity.
_XYZ = torch.tensor(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE_U, _WHITE_V = 0.1978, 0.4683
_LINEAR_BELOW = (6 / 29) ** 3
_SLOPE = (29 / 3) ** 3 / 100
_TINY = 1e-8
_TINY_LENGTH = 1e-10
# ITU-R BT.601: luma of red, green and blue, and the factors of B - Y and R - Y.
_LUMA = (0.299, 0.587, 0.114)
_BLUE, _RED = 0.492111, 0.877283


class Grid(Protocol):
    """The settings of a change of colours."""

    @property
    def points(self) -> tuple[int, int, int]:
        """Number of grid points along L, u and v."""

    @property
    def bound(self) -> float:
        """Bound on every displacement."""

    @property
    def smoothness(self) -> float:
        """Weight of the smoothness penalty."""


class Palette:
    """One map of colours per image: displacements on a grid of colours, interpolated between its points.

    Attributes:
        grid: (P, 3, v, u, L) float32 displacements, a leaf tensor to optimise; the last three axes run along v, u and
            L (Y). Colours outside [0, 1] move like the nearest point on the grid's edge.
    """

    def __init__(self, settings: Grid, count: int, device: torch.device, convention: str = "ours") -> None:
        """
        Args:
            settings: bound, grid, smoothness.
            count: images, P.
            device: of the grid.
            convention: ``ours`` or ``released``. The released code uses YUV colours, cuts colours and their moved
                places to the grid's box, and does not cut the result to RGB.
        """
        self.settings, self.released = settings, convention == "released"
        self.grid = torch.zeros(count, 3, *reversed(settings.points), device=device, requires_grad=True)

    def __call__(self, images: Tensor, which: Tensor | slice = slice(None)) -> Tensor:
        """Images (P, 3, H, W) in [0, 1] with changed colours; differentiable in the grid.

        Args:
            images: the images of the grid's rows ``which``.
            which: rows of the grid, by default all.

        Returns:
            (P, 3, H, W), in [0, 1] unless the convention is the released one.
        """
        colours = (rgb_to_yuv if self.released else rgb_to_luv)(images)
        if self.released:
            colours = colours.clamp(0, 1)
        places = (colours * 2 - 1).permute(0, 2, 3, 1)[:, None]
        grid = self.grid[which]
        moved = F.grid_sample(grid, places, mode="bilinear", padding_mode="border", align_corners=True)[:, :, 0]
        # CIELUV is not cut to the grid's box: saturated colours have u or v outside, and must stay as they are under
        # zero displacements.
        return (yuv_to_rgb if self.released else luv_to_rgb)(colours + moved)

    def project(self) -> None:
        """Cut every displacement at the bound; in the released convention also where it leaves the grid's box."""
        with torch.no_grad():
            self.grid.clamp_(-self.settings.bound, self.settings.bound)
            if self.released:
                for coordinate, axis in enumerate(((1, 1, -1), (1, -1, 1), (-1, 1, 1))):
                    own = self.grid[:, coordinate]
                    place = torch.linspace(0, 1, self.settings.points[coordinate]).to(own).view(axis)
                    own.copy_((place + own).clamp(0, 1) - place)

    def penalty(self, which: Tensor | slice = slice(None)) -> Tensor:
        """The smoothness penalty of the images ``which``, a term of the outer loss of the unrolling that holds them.

        ``ours``: the mean length of the differences between neighbours on the grid, summed over images. So an image's
        weight does not depend on the number of images. ``released``: the mean over all images, also those outside the
        unrolling, of squared differences times the grid's size squared.
        """
        if self.released:
            slopes = [self.grid.diff(dim=axis).flatten() * self.grid.shape[axis] for axis in (2, 3, 4)]
            return self.settings.smoothness * torch.cat(slopes).square().mean()
        return self.settings.smoothness * self.roughness(which) / neighbour_pairs(self.settings.points)

    def roughness(self, which: Tensor | slice = slice(None)) -> Tensor:
        """Sum of the lengths of all differences between neighbours on the grids of the images ``which``."""
        return roughness(self.grid[which])


def neighbour_pairs(points: tuple[int, ...]) -> int:
    """The number of pairs of neighbours in a grid with ``points`` points along each axis."""
    return sum(math.prod(points) // size * (size - 1) for size in points)


class _Roughness(torch.autograd.Function):
    """``roughness`` with a hand-written gradient: autograd would fill and add whole grids for each difference."""

    @staticmethod
    def forward(ctx: Any, displacements: Tensor) -> Tensor:
        total, gradient = displacements.new_zeros(()), torch.zeros_like(displacements)
        for axis in range(2, displacements.ndim):
            difference = displacements.diff(dim=axis)
            length = (difference.square().sum(1, keepdim=True) + _TINY_LENGTH).sqrt()
            total += length.sum()
            difference /= length
            gradient.narrow(axis, 1, difference.shape[axis]).add_(difference)
            gradient.narrow(axis, 0, difference.shape[axis]).sub_(difference)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> Tensor:
        gradient: Tensor = ctx.saved_tensors[0]
        return upstream * gradient


def roughness(displacements: Tensor) -> Tensor:
    """Sum of the lengths of the differences between neighbours, over pairs, axes and images.

    Args:
        displacements: (P, C, ...), vectors of C coordinates on a grid of any number of axes.

    Returns:
        A scalar, differentiable once. Lengths are at least 1e-5, because the slope at zero length is undefined.
    """
    total: Tensor = _Roughness.apply(displacements)
    return total


def rgb_to_yuv(images: Tensor) -> Tensor:
    """RGB (P, 3, H, W) in [0, 1] to YUV: Y, U + 1/2, V + 1/2. Saturated reds and cyans have V beyond [0, 1]."""
    red, green, blue = images.unbind(1)
    luma = _LUMA[0] * red + _LUMA[1] * green + _LUMA[2] * blue
    return torch.stack([luma, _BLUE * (blue - luma) + 0.5, _RED * (red - luma) + 0.5], 1)


def yuv_to_rgb(yuv: Tensor) -> Tensor:
    """The inverse of ``rgb_to_yuv``; nothing is cut."""
    luma, u, v = yuv.unbind(1)
    blue, red = luma + (u - 0.5) / _BLUE, luma + (v - 0.5) / _RED
    green = (luma - _LUMA[0] * red - _LUMA[2] * blue) / _LUMA[1]
    return torch.stack([red, green, blue], 1)


def rgb_to_luv(images: Tensor) -> Tensor:
    """sRGB (P, 3, H, W) in [0, 1] to CIELUV, scaled: L / 100, (u + 100) / 200, (v + 100) / 200.

    Nearly all colours fall in [0, 1]; saturated reds, greens and blues have u or v outside.
    """
    return linear_to_luv(
        torch.where(images > 0.04045, ((images.clamp(min=0.04) + 0.055) / 1.055) ** 2.4, images / 12.92)
    )


def luv_to_rgb(luv: Tensor) -> Tensor:
    """The inverse of ``rgb_to_luv``; colours outside sRGB are cut to [0, 1]."""
    linear = luv_to_linear(luv)
    gamma = 1.055 * linear.clamp(min=0.003) ** (1 / 2.4) - 0.055
    return torch.where(linear > 0.0031308, gamma, linear * 12.92).clamp(0, 1)


def linear_to_luv(linear: Tensor) -> Tensor:
    """Linear RGB (before sRGB's gamma curve), (P, 3, H, W) in [0, 1], to CIELUV, scaled as by ``rgb_to_luv``."""
    x, y, z = (_XYZ.to(linear) @ linear.flatten(2)).view_as(linear).unbind(1)
    # The sum of both branches, each cut where the other begins, is faster than choosing between them.
    curved, straight = y.clamp(min=_LINEAR_BELOW), y.clamp(max=_LINEAR_BELOW)
    lightness = 1.16 * curved ** (1 / 3) - 0.16 + (straight - _LINEAR_BELOW) * _SLOPE
    # Black has no chromaticity; its u and v are zero because its lightness is zero.
    total = (x + 15 * y + 3 * z).clamp(min=_TINY)
    scale = 6.5 * lightness
    return torch.stack(
        [lightness, scale * (4 * x / total - _WHITE_U) + 0.5, scale * (9 * y / total - _WHITE_V) + 0.5], 1
    )


def luv_to_linear(luv: Tensor) -> Tensor:
    """The inverse of ``linear_to_luv``; colours outside sRGB are cut to [0, 1]."""
    lightness, scaled_u, scaled_v = luv.unbind(1)
    scale = 1 / (6.5 * lightness.clamp(min=_TINY))
    u = (scaled_u - 0.5) * scale + _WHITE_U
    v = ((scaled_v - 0.5) * scale + _WHITE_V).clamp(min=1e-4)
    y = ((lightness.clamp(min=0.08) + 0.16) / 1.16) ** 3 + (lightness.clamp(max=0.08) - 0.08) / _SLOPE
    # Zero lightness leaves the hue undetermined: the colour is black.
    quarter = y * (lightness > _TINY) / (4 * v)
    xyz = torch.stack([quarter * 9 * u, quarter * 4 * v, quarter * (12 - 3 * u - 20 * v)], 1)
    to_rgb: Tensor = torch.linalg.inv(_XYZ.double()).to(luv)
    return (to_rgb @ xyz.flatten(2)).view_as(xyz).clamp(0, 1)
