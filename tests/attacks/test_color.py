"""Changes of colour against the CIE formulas written out for one colour, and weights computed by hand."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from torch import Tensor

from poisonlab.attacks.color import Palette, linear_to_luv, luv_to_linear, luv_to_rgb, rgb_to_luv, roughness
from poisonlab.config.attacks.metapoison import Recolor

WHITE_U, WHITE_V = 0.1978, 0.4683
# IEC 61966-2-1 with the D65 white of ASTM E308.
TO_XYZ = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))

Colour = tuple[float, float, float]
EDGES: list[Colour] = [(r, g, b) for r in (0.0, 1.0) for g in (0.0, 1.0) for b in (0.0, 1.0)]


def slow_luv(rgb: Colour) -> Colour:
    """One colour by the formulas of CIE 15 and sRGB, scaled as ReColorAdv scales it."""
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in rgb]
    x, y, z = (sum(weight * c for weight, c in zip(row, linear, strict=True)) for row in TO_XYZ)
    lightness = 116 * y ** (1 / 3) - 16 if y > (6 / 29) ** 3 else (29 / 3) ** 3 * y
    if x + 15 * y + 3 * z == 0:
        return 0.0, 0.5, 0.5
    u = 13 * lightness * (4 * x / (x + 15 * y + 3 * z) - WHITE_U)
    v = 13 * lightness * (9 * y / (x + 15 * y + 3 * z) - WHITE_V)
    return lightness / 100, (u + 100) / 200, (v + 100) / 200


def image(*colours: Colour) -> Tensor:
    """(1, 3, 1, number of colours) float64."""
    return torch.tensor(colours, dtype=torch.float64).T[None, :, None, :]


def colours(images: Tensor) -> list[Colour]:
    return [(float(c[0]), float(c[1]), float(c[2])) for c in images.detach()[0, :, 0].T]


def palette(count: int = 1, convention: str = "ours", **options: Any) -> Palette:
    made = Palette(Recolor(**options), count, torch.device("cpu"), convention)
    made.grid = made.grid.detach().double().requires_grad_(True)
    return made


channel = st.floats(0, 1, allow_subnormal=False)
some_colour = st.tuples(channel, channel, channel)


# --- the colour space -----------------------------------------------------------------------------------------------


@given(some_colour)
@effort(max_examples=150, deadline=None)
def test_luv_is_that_of_the_formulas(rgb: Colour) -> None:
    (ours,) = colours(rgb_to_luv(image(rgb)))
    # Below 1e-8 of white's light a colour counts as black.
    assert ours == pytest.approx(slow_luv(rgb), abs=1e-6)


@pytest.mark.parametrize("level", [1, 5, 10, 11, 12, 40, 254])
def test_luv_on_both_sides_of_its_thresholds(level: int) -> None:
    """sRGB's toe ends between levels 10 and 11, CIE's between 24 and 25 for grey."""
    for rgb in ((level / 255,) * 3, (level / 255, 0.0, 0.0), (0.0, level / 255, 1.0), (24 / 255, 25 / 255, 24 / 255)):
        assert colours(rgb_to_luv(image(rgb)))[0] == pytest.approx(slow_luv(rgb), abs=1e-7)


def test_textbook_values() -> None:
    """Lightness of the primaries; white is L = 100 with hardly any chroma, black is the origin."""
    lightness = {(1, 0, 0): 53.24, (0, 1, 0): 87.73, (0, 0, 1): 32.30, (1, 1, 1): 100.0, (0, 0, 0): 0.0}
    chroma = {(1, 0, 0): (175.0, 37.8), (0, 1, 0): (-83.1, 107.4), (0, 0, 1): (-9.4, -130.3), (1, 1, 1): (0, 0)}
    for rgb, value in lightness.items():
        found = colours(rgb_to_luv(image(rgb)))[0]
        assert found[0] * 100 == pytest.approx(value, abs=0.01)
        u, v = chroma.get(rgb, (0, 0))
        assert (found[1] * 200 - 100, found[2] * 200 - 100) == pytest.approx((u, v), abs=0.2)
    assert colours(rgb_to_luv(image((0, 0, 0))))[0] == pytest.approx((0, 0.5, 0.5), abs=1e-15)


@given(some_colour)
@effort(max_examples=150, deadline=None)
def test_there_and_back(rgb: Colour) -> None:
    (back,) = colours(luv_to_rgb(rgb_to_luv(image(rgb))))
    assert back == pytest.approx(rgb, abs=1e-5)


def test_there_and_back_in_single_precision_is_exact_to_a_twentieth_of_a_level() -> None:
    stream = torch.Generator().manual_seed(0)
    levels = torch.randint(0, 256, (4, 3, 30, 30), generator=stream)
    levels[0, :, 0, : len(EDGES)] = torch.tensor(EDGES).T.long() * 255
    levels[1] = torch.arange(900).view(30, 30) % 256
    images = levels / 255
    assert images.dtype == torch.float32
    assert (luv_to_rgb(rgb_to_luv(images)) - images).abs().max() * 255 < 0.05


def test_what_no_screen_shows_is_cut() -> None:
    for luv in itertools.product((0.0, 1e-9, 0.03, 0.5, 1.0, 1.2), (-0.2, 0.5, 1.4), (-0.2, 0.5, 1.4)):
        rgb = luv_to_rgb(image(luv))
        assert torch.isfinite(rgb).all()
        assert rgb.min() >= 0
        assert rgb.max() <= 1


def test_colours_are_differentiated_right() -> None:
    stream = torch.Generator().manual_seed(0)
    images = (torch.rand(1, 3, 2, 3, generator=stream, dtype=torch.float64) * 0.6 + 0.2).requires_grad_()
    assert torch.autograd.gradcheck(rgb_to_luv, images)
    assert torch.autograd.gradcheck(luv_to_rgb, rgb_to_luv(images.detach()).requires_grad_())


@pytest.mark.parametrize("rgb", EDGES)
def test_gradients_at_the_edges_are_finite(rgb: Colour) -> None:
    one = palette(grid=3)
    one(image(rgb)).sum().backward()
    assert one.grid.grad is not None
    assert torch.isfinite(one.grid.grad).all()


# --- the map of colours -----------------------------------------------------------------------------------------------


@given(some_colour)
@effort(max_examples=100, deadline=None)
def test_no_displacement_changes_no_colour(rgb: Colour) -> None:
    """Saturated ones included: pure red has u = 175, pure blue v = -130."""
    (same,) = colours(palette()(image(rgb)))
    assert same == pytest.approx(rgb, abs=1e-5)


@pytest.mark.parametrize("rgb", EDGES)
def test_no_displacement_changes_no_corner_of_the_colour_cube(rgb: Colour) -> None:
    assert colours(palette()(image(rgb)))[0] == pytest.approx(rgb, abs=1e-5)


def weight(place: float, point: int, size: int) -> float:
    """Linear interpolation's weight of grid point ``point`` of ``size`` between 0 and 1."""
    return max(0.0, 1 - abs(min(max(place, 0.0), 1.0) * (size - 1) - point))


@pytest.mark.parametrize("point", [(0, 1, 2), (1, 2, 2), (2, 1, 1), (2, 2, 3), (3, 2, 2)])
@pytest.mark.parametrize("coordinate", [0, 1, 2])
def test_one_grid_point_moves_the_colours_near_it(point: tuple[int, int, int], coordinate: int) -> None:
    """Points are (along L, along u, along v); the grid's axes are v, u, L, the last the fastest."""
    size, shift = 4, 0.03
    one = palette(grid=size)
    with torch.no_grad():
        one.grid[0, coordinate, point[2], point[1], point[0]] = shift
    # Greys and mild colours, which lie well inside sRGB, so that nothing is cut.
    shades = [(0.2 + 0.1 * a, 0.2 + 0.1 * b, 0.2 + 0.1 * c) for a, b, c in itertools.product(range(6), repeat=3)]
    touched = 0
    for before, after in zip(shades, colours(rgb_to_luv(one(image(*shades)))), strict=True):
        luv = slow_luv(before)
        share = 1.0
        for place, there in zip(luv, point, strict=True):
            share *= weight(place, there, size)
        expected = [c + share * shift * (axis == coordinate) for axis, c in enumerate(luv)]
        if min(colours(luv_to_rgb(image(tuple(expected))))[0]) > 0.02:  # type: ignore[arg-type]
            assert after == pytest.approx(expected, abs=1e-6)
            touched += share > 0.01
    assert touched > 0 or point[0] in (0, 3)


def test_a_constant_displacement_moves_every_colour_alike() -> None:
    one = palette(grid=5)
    with torch.no_grad():
        one.grid[0] = torch.tensor([0.01, -0.02, 0.015]).view(3, 1, 1, 1)
    for rgb in ((0.5, 0.5, 0.5), (0.4, 0.6, 0.5), (0.7, 0.5, 0.4)):
        (moved,) = colours(rgb_to_luv(one(image(rgb))))
        assert moved == pytest.approx([c + d for c, d in zip(slow_luv(rgb), (0.01, -0.02, 0.015), strict=True)])


def test_every_image_has_its_own_map_and_equal_colours_stay_equal() -> None:
    stream = torch.Generator().manual_seed(0)
    one = palette(3, grid=4)
    with torch.no_grad():
        one.grid.copy_(torch.randn(one.grid.shape, generator=stream) * 0.02)
    shades = torch.rand(1, 3, 1, 4, generator=stream, dtype=torch.float64)
    images = shades[:, :, :, [0, 1, 2, 3, 1, 0]].expand(3, 3, 1, 6)
    moved = one(images)
    assert torch.equal(moved[..., [0, 1]], moved[..., [5, 4]])
    alone = palette(grid=4)
    for place in range(3):
        with torch.no_grad():
            alone.grid.copy_(one.grid[place : place + 1])
        assert torch.allclose(alone(images[:1])[0], moved[place], atol=1e-12)
    assert not torch.allclose(moved[0], moved[1], atol=1e-3)


def test_the_grid_is_differentiated_right() -> None:
    one = palette(grid=2)
    shades = image((0.4, 0.5, 0.6), (0.6, 0.5, 0.5))
    start = torch.randn(one.grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.01

    def moved(grid: Tensor) -> Tensor:
        one.grid = grid
        return one(shades)

    assert torch.autograd.gradcheck(moved, start.requires_grad_())


# --- its bound and its smoothness -------------------------------------------------------------------------------------


def test_project_cuts_every_displacement_at_the_bound() -> None:
    one = palette(bound=0.05, grid=2)
    values = torch.tensor([-1.0, -0.051, -0.05, -0.01, 0.0, 0.049, 0.051, 2.0]).double()
    with torch.no_grad():
        one.grid[0] = values.view(2, 2, 2)
    one.project()
    truth = [min(max(value, -0.05), 0.05) for value in values.tolist()]
    assert one.grid[0, 1].flatten().tolist() == pytest.approx(truth, abs=1e-12)
    assert one.grid.requires_grad


def test_a_flat_map_costs_nothing() -> None:
    one = palette(2, grid=3)
    with torch.no_grad():
        one.grid += 0.03
    assert one.penalty().item() == pytest.approx(0, abs=1e-2)
    one.penalty().backward()
    assert one.grid.grad is not None
    assert torch.isfinite(one.grid.grad).all()


def neighbours(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    return sum(abs(i - j) for i, j in zip(a, b, strict=True)) == 1


def test_the_penalty_is_the_mean_length_of_differences_between_neighbours() -> None:
    one = palette(2, grid=3, smoothness=0.7)
    with torch.no_grad():
        one.grid.copy_(torch.randn(one.grid.shape, generator=torch.Generator().manual_seed(0)))
    lengths, points = [0.0, 0.0], list(itertools.product(range(3), repeat=3))
    for number in range(2):
        pairs = [(a, b) for a, b in itertools.combinations(points, 2) if neighbours(a, b)]
        for a, b in pairs:
            difference = one.grid.detach()[number][(slice(None), *a)] - one.grid.detach()[number][(slice(None), *b)]
            lengths[number] += sum(float(d) ** 2 for d in difference) ** 0.5 / len(pairs)
    assert one.penalty().item() == pytest.approx(0.7 * sum(lengths), rel=1e-6)
    # An image's own does not depend on the others.
    assert one.penalty(torch.tensor([1])).item() == pytest.approx(0.7 * lengths[1], rel=1e-6)


def test_one_planted_point_costs_its_length_to_each_neighbour() -> None:
    one = palette(grid=4, smoothness=2.0)
    with torch.no_grad():
        one.grid[0, :, 1, 1, 2] = torch.tensor([0.3, 0.0, 0.4], dtype=torch.float64)
        one.grid[0, :, 0, 3, 3] = torch.tensor([0.0, 0.6, 0.8], dtype=torch.float64)
    # Six neighbours within, three at the corner; the lengths are 0.5 and 1; 3 x 48 pairs.
    assert one.penalty().item() == pytest.approx(2 * (6 * 0.5 + 3 * 1.0) / 144, abs=5e-5)


# --- the release's colours --------------------------------------------------------------------------------------------

# TensorFlow's tables of rgb_to_yuv and yuv_to_rgb, whose rows are R, G, B and Y, U, V.
TO_YUV = ((0.299, -0.14714119, 0.61497538), (0.587, -0.28886916, -0.51496512), (0.114, 0.43601035, -0.10001026))
FROM_YUV = ((1.0, 1.0, 1.0), (0.0, -0.394642334, 2.03206185), (1.13988303, -0.58062185, 0.0))


def released(rgb: Colour, displacements: Tensor) -> list[float]:
    """One colour: YUV, then the interpolated table of moved colours between (0, -1/2, -1/2) and (1, 1/2, 1/2), whose
    edge is continued as a constant, and back."""
    size = displacements.shape[-1]
    yuv = [sum(rgb[row] * TO_YUV[row][column] for row in range(3)) for column in range(3)]
    moved = [0.0, 0.0, 0.0]
    for y, u, v in itertools.product(range(size), repeat=3):
        share, point = 1.0, []
        for value, low, place in zip(yuv, (0.0, -0.5, -0.5), (y, u, v), strict=True):
            share *= weight(value - low, place, size)
            point.append(low + place / (size - 1))
        for coordinate in range(3):
            moved[coordinate] += share * (point[coordinate] + float(displacements[coordinate, v, u, y]))
    return [sum(moved[row] * FROM_YUV[row][column] for row in range(3)) for column in range(3)]


def test_released_colours_are_those_of_its_table() -> None:
    stream = torch.Generator().manual_seed(0)
    one = palette(2, convention="released", grid=4)
    with torch.no_grad():
        one.grid.copy_(torch.randn(one.grid.shape, generator=stream) * 0.05)
    shades = [tuple(shade) for shade in torch.rand(12, 3, generator=stream).tolist()] + EDGES
    for number in range(2):
        found = colours(one(image(*shades), torch.tensor([number])))  # type: ignore[arg-type]
        for before, after in zip(shades, found, strict=True):
            assert after == pytest.approx(released(before, one.grid.detach()[number]), abs=2e-6)  # type: ignore[arg-type]
    # Saturated red lies beyond the table, and comes back duller though nothing moves.
    assert colours(palette(convention="released")(image((1.0, 0.0, 0.0))))[0][0] < 0.9


def test_released_displacements_end_at_the_bound_and_at_the_table_s_edge() -> None:
    one = palette(convention="released", bound=0.4, grid=3)
    with torch.no_grad():
        one.grid.copy_(torch.randn(one.grid.shape, generator=torch.Generator().manual_seed(0)))
    before = one.grid.detach().clone()
    one.project()
    for coordinate, v, u, y in itertools.product(range(3), repeat=4):
        place = (y, u, v)[coordinate] / 2
        cut = min(max(float(before[0, coordinate, v, u, y]), -0.4), 0.4)
        expected = min(max(place + cut, 0.0), 1.0) - place
        assert float(one.grid[0, coordinate, v, u, y]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shape", [(2, 3, 4, 3, 2), (3, 2, 5, 4)])
def test_the_gradient_of_the_roughness_is_autograd_s(shape: tuple[int, ...]) -> None:
    displacements = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    displacements.requires_grad_()
    assert torch.autograd.gradcheck(roughness, displacements)
    lengths = [(displacements.diff(dim=axis).square().sum(1) + 1e-10).sqrt().sum() for axis in range(2, len(shape))]
    expected = torch.stack(lengths).sum()
    found = roughness(displacements)
    assert found.item() == pytest.approx(expected.item(), rel=1e-12)
    (ours,) = torch.autograd.grad(found * 3, displacements)
    (slow,) = torch.autograd.grad(expected * 3, displacements)
    assert torch.allclose(ours, slow, rtol=1e-10, atol=1e-12)


def test_where_nothing_differs_the_roughness_has_no_slope() -> None:
    displacements = torch.zeros(1, 3, 2, 2, 2, requires_grad=True)
    roughness(displacements).backward()
    assert displacements.grad is not None
    assert not displacements.grad.any()


def test_the_curve_of_srgb_lies_between_its_linear_and_its_coded_colours() -> None:
    rgb = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    assert torch.allclose(linear_to_luv(linear), rgb_to_luv(rgb), atol=1e-12)
    assert torch.allclose(luv_to_linear(rgb_to_luv(rgb)), linear, atol=1e-12)


def test_the_released_penalty_is_the_mean_of_squared_slopes() -> None:
    one = palette(2, convention="released", grid=3, smoothness=0.7)
    with torch.no_grad():
        one.grid.copy_(torch.randn(one.grid.shape, generator=torch.Generator().manual_seed(0)))
    squares, points = [], list(itertools.product(range(3), repeat=3))
    for number, coordinate in itertools.product(range(2), range(3)):
        values = one.grid.detach()[number, coordinate]
        for a, b in itertools.combinations(points, 2):
            if neighbours(a, b):
                squares.append((3 * float(values[a] - values[b])) ** 2)
    assert len(squares) == 2 * 3 * 3 * 18
    assert one.penalty().item() == pytest.approx(0.7 * sum(squares) / len(squares), rel=1e-9)
    assert one.penalty(torch.tensor([0])).item() == one.penalty().item()
