"""Convex polytope: the projection and the coefficients against slow oracles, the attack against its equation."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from scipy.optimize import minimize, nnls
from test_bullseye_polytope import dead
from test_features import attacker, by_hand, common, dataset, deep, doubled, network
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import convex_polytope
from poisonlab.attacks.convex_polytope import Polytope, Vector, craft, nearest_mixture, simplex_projection
from poisonlab.config.attacks.convex_polytope import ConvexPolytope
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Classifier
from poisonlab.training.checkpoint import Checkpoint


def crafted(*surrogates: Classifier, seed: int = 0, **options: Any) -> PoisonSet:
    return craft(dataset(), attacker(*surrogates), ConvexPolytope(**common(**options)), seed=seed)


def settings(**options: Any) -> ConvexPolytope:
    return ConvexPolytope(**common(**options))


def bisected(point: Vector) -> Vector:
    """The projection by bisection for the threshold."""
    low, high = point.min() - 1.0, point.max()
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if np.maximum(point - middle, 0).sum() > 1 else (low, middle)
    return np.maximum(point - low, 0)


def slow_mixture(features: Tensor, goal: Tensor) -> Vector:
    """The coefficients by non-negative least squares.

    Of ||sum_j c_j (f_j - t)||^2 + w^2 (sum_j c_j - 1)^2, the best multiple c = s u of coefficients u that sum to 1
    leaves g w^2 / (g + w^2), where g is the squared distance at u. That grows with g, so u is the answer for every w.
    """
    offsets = (features.double() - goal.double()).numpy().T
    weight = np.abs(offsets).max()
    found = nnls(np.vstack([offsets, np.full(len(features), weight)]), np.append(np.zeros(len(offsets)), weight))[0]
    return found / found.sum()


def gap(features: Tensor, goal: Tensor, coefficients: Vector) -> float:
    return float((torch.from_numpy(coefficients) @ features.double() - goal.double()).square().sum())


# --- the projection -------------------------------------------------------------------------------------------


@given(arrays(np.float64, st.integers(1, 12), elements=st.floats(-50, 50)))
@effort(max_examples=300, deadline=None)
def test_projection_is_that_of_bisection(point: Vector) -> None:
    projected = simplex_projection(point)
    assert projected == pytest.approx(bisected(point), abs=1e-12)
    assert projected.sum() == pytest.approx(1, abs=1e-12)
    assert (projected >= 0).all()
    assert simplex_projection(projected) == pytest.approx(projected, abs=1e-14)


@given(arrays(np.float64, array_shapes(min_dims=2, max_dims=3, max_side=4), elements=st.floats(-3, 3)))
@effort(max_examples=60, deadline=None)
def test_projection_takes_every_row_for_itself(points: Vector) -> None:
    together = simplex_projection(points)
    for place in np.ndindex(points.shape[:-1]):
        assert np.array_equal(together[place], simplex_projection(points[place]))


def test_projection_is_the_nearest_point() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        point = rng.normal(size=4)
        options = {"bounds": [(0, 1)] * 4, "constraints": {"type": "eq", "fun": lambda c: c.sum() - 1}, "tol": 1e-14}
        nearest = minimize(lambda c, p=point: ((c - p) ** 2).sum(), np.full(4, 0.25), method="SLSQP", **options).x
        assert simplex_projection(point) == pytest.approx(nearest, abs=1e-5)


@pytest.mark.parametrize("shift", [0, 1e15, -1e15])
def test_projection_of_equals_and_of_large_numbers(shift: float) -> None:
    assert simplex_projection(np.full(4, 3.0) + shift).tolist() == [0.25] * 4
    assert simplex_projection(np.array([8.0, 0.0, -2.0]) + shift).tolist() == [1, 0, 0]
    assert simplex_projection(np.array([0.5, 0.0]) + (shift and 0)).tolist() == [0.75, 0.25]


# --- the coefficients -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "width"), [(2, 5), (5, 3), (5, 20), (8, 8), (25, 60)])
def test_coefficients_are_those_of_a_slow_solver(count: int, width: int) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        # A large common part, as features of one class have it.
        points, goal = torch.randn(count, width) + 5 * torch.randn(width), torch.randn(width)
        found, truth = nearest_mixture(points, goal, tolerance=1e-12), slow_mixture(points, goal)
        assert found.dtype == np.float64
        assert found.sum() == pytest.approx(1, abs=1e-12)
        assert (found >= 0).all()
        assert gap(points, goal, found) == pytest.approx(gap(points, goal, truth), rel=1e-6)
        if width >= count:
            assert found == pytest.approx(truth, abs=1e-4)
        assert gap(points, goal, nearest_mixture(points, goal)) <= gap(points, goal, truth) * (1 + 1e-4)


def test_coefficients_meet_the_optimality_conditions() -> None:
    """The gradient is the same on the support and no smaller off it."""
    torch.manual_seed(3)
    points, goal = torch.randn(10, 40, dtype=torch.float64), 2 * torch.randn(40, dtype=torch.float64)
    found = nearest_mixture(points, goal, tolerance=1e-14)
    slope = (points @ (torch.from_numpy(found) @ points - goal)).numpy()
    used = found > 1e-9
    assert 1 < used.sum() < 10
    assert np.ptp(slope[used]) < 1e-8
    assert (slope[~used] > slope[used].max() - 1e-8).all()


def test_a_mixture_is_recognised() -> None:
    torch.manual_seed(4)
    points, truth = torch.randn(5, 30), torch.tensor([0.5, 0.2, 0.0, 0.3, 0.0])
    assert nearest_mixture(points, truth @ points) == pytest.approx(truth.numpy(), abs=1e-4)


def test_a_single_poison_and_equal_poisons() -> None:
    assert nearest_mixture(torch.randn(1, 4), torch.randn(4)).tolist() == [1]
    equal = nearest_mixture(torch.ones(4, 3), torch.zeros(3))
    assert equal.tolist() == [0.25] * 4


def test_it_stops_when_told() -> None:
    torch.manual_seed(5)
    points, goal = torch.randn(6, 9), torch.randn(9)
    exact = nearest_mixture(points, goal, tolerance=1e-14)
    gaps = [gap(points, goal, nearest_mixture(points, goal, steps=steps, tolerance=1e-14)) for steps in range(1, 30)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(gaps))
    assert gaps[0] > gap(points, goal, exact) + 1e-3
    rough = nearest_mixture(points, goal, tolerance=0.5)
    assert rough == pytest.approx(nearest_mixture(points, goal, steps=1), abs=1e-12)
    assert nearest_mixture(points, goal, exact, steps=1) == pytest.approx(exact, abs=1e-10)


def test_a_warm_start_begins_where_the_last_step_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[Vector | None] = []
    real = nearest_mixture

    def watched(features: Tensor, goal: Tensor, start: Vector | None, *rest: Any) -> Vector:
        starts.append(start)
        return real(features, goal, start, *rest)

    monkeypatch.setattr(convex_polytope, "nearest_mixture", watched)
    torch.manual_seed(6)
    points, goal = torch.randn(4, 9), torch.randn(9)
    for kind in ("warm", "uniform"):
        distance = Polytope(goal, settings(coefficients=kind))
        distance(points)
        found = distance.remembered
        distance(points + 0.1)
        assert starts[-2] is None
        warm = starts[-1] is not None and found is not None and np.shares_memory(starts[-1], found.numpy())
        assert warm is (kind == "warm")
        assert kind == "warm" or starts[-1] is None


# --- the distance ---------------------------------------------------------------------------------------------


def test_distance_and_gradient_are_those_of_the_best_mixture() -> None:
    """The coefficients are optimal, so the gradient with them held fixed is that of the minimum (the envelope theorem),
    which finite differences see."""
    torch.manual_seed(7)
    points, goal = torch.randn(4, 6, dtype=torch.float64), torch.randn(6, dtype=torch.float64)

    def minimum(features: Tensor) -> float:
        best = gap(features, goal, nearest_mixture(features, goal, tolerance=1e-15, steps=100000))
        return best / float(goal.square().sum()) / 2

    x = points.clone().requires_grad_()
    value = Polytope(goal, settings(tolerance=1e-15, inner_steps=100000))(x)
    (gradient,) = torch.autograd.grad(value, x)
    truth = gap(points, goal, slow_mixture(points, goal)) / float(goal.square().sum()) / 2
    assert value.item() == pytest.approx(truth, rel=1e-6)
    for place in np.ndindex(4, 6):
        moved = [points.clone(), points.clone()]
        moved[0][place] += 1e-5
        moved[1][place] -= 1e-5
        assert gradient[place].item() == pytest.approx((minimum(moved[0]) - minimum(moved[1])) / 2e-5, abs=1e-8)


def test_distance_keeps_the_type_of_the_features() -> None:
    for dtype in (torch.float32, torch.float64):
        assert Polytope(torch.ones(3, dtype=dtype), settings())(torch.randn(4, 3, dtype=dtype)).dtype == dtype


# --- the attack -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coefficients", ["warm", "uniform"])
def test_the_target_becomes_a_mixture_in_every_surrogate(coefficients: str) -> None:
    models = network(), network(1, width=12), network(2)
    poisons = crafted(*models, steps=100, eps=48, lr=0.01, coefficients=coefficients)
    losses = poisons.diagnostics["feature_loss"]

    def truth(images: Tensor) -> float:
        each = []
        for model in models:
            model.double().eval()
            points = model.extract(doubled(images / 255.0)).detach()
            goal = model.extract(doubled(poisons.goal.targets / 255.0))[0].detach()
            each.append(gap(points, goal, slow_mixture(points, goal)) / 2 / float(goal.square().sum()))
            model.float()
        return sum(each) / len(each)

    before = truth(poisons.base_images)
    assert losses[0].item() == pytest.approx(before, rel=1e-3)
    assert poisons.facts["final_distance"] == pytest.approx(truth(poisons.images), rel=1e-2, abs=1e-8)
    assert poisons.facts["final_distance"] < before / 20
    assert losses[-1] < losses[0] / 20
    poisons.check_bound(48)


def test_dead_and_diverged_surrogates_are_one_line() -> None:
    with pytest.raises(PoisonlabError, match="all zero") as caught:
        crafted(network(), dead())
    assert "\n" not in str(caught.value)
    with torch.no_grad():
        (broken := network()).extract[0].bias.fill_(float("nan"))
    with pytest.raises(PoisonlabError, match="not finite") as caught:
        crafted(network(), broken)
    assert "\n" not in str(caught.value)


def test_end_to_end_has_coefficients_for_each_block() -> None:
    """As released: every block's features as one vector, with coefficients of their own, and the mean over blocks."""
    model = deep()
    poisons = crafted(model, blocks="all", steps=3, eps=40)
    model.double().eval()
    features, goals = (
        by_hand(model, doubled(images / 255.0), "all") for images in (poisons.images, poisons.goal.targets)
    )
    each = []
    for points, goal in zip(features, goals, strict=True):
        points, goal = points.detach().flatten(1), goal.detach().flatten()
        each.append(gap(points, goal, slow_mixture(points, goal)) / (2 * float(goal.square().sum())))
    assert poisons.facts["final_distance"] == pytest.approx(sum(each) / 3, rel=1e-3)


def test_the_coefficients_of_every_block_survive_a_kill(tmp_path: Path) -> None:
    class Killed(BaseException):
        pass

    class Mortal(Checkpoint):
        def save(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
            super().save(tensors, facts)
            assert sum(name.startswith("remembered.") for name in tensors) == 3
            raise Killed

    given = settings(blocks="all", steps=5, eps=40)
    whole = craft(dataset(), attacker(deep()), given, seed=0)
    for _ in range(5):
        mortal = Mortal(tmp_path / "craft", "this crafting", interval=0.0)
        with pytest.raises(Killed):
            craft(dataset(), replace(attacker(deep()), checkpoint=mortal), given, seed=0)
    left = Checkpoint(tmp_path / "craft", "this crafting", interval=1e9)
    resumed = craft(dataset(), replace(attacker(deep()), checkpoint=left), given, seed=0)
    assert torch.equal(resumed.images, whole.images)
    assert torch.equal(resumed.diagnostics["feature_loss"], whole.diagnostics["feature_loss"])
