"""Central differences of gradients, against the exact double backward in float64."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from poisonlab.models.differences import directional, neighbours

Weights = dict[str, Tensor]
Loss = Callable[[Weights, Tensor], Tensor]


def network(activation: type[nn.Module] = nn.Softplus) -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(2, 4, 3), activation(), nn.Conv2d(4, 4, 3), activation(), nn.Flatten(), nn.Linear(16, 5)
    return nn.Sequential(*layers).double()


def problem(
    module: nn.Module, count: int = 6, *, reduction: str = "sum"
) -> tuple[Loss, Weights, Tensor, Weights, Tensor]:
    """Cross-entropy of the network: loss, weights, inputs, a random direction and labels."""
    stream = torch.Generator().manual_seed(1)
    inputs = torch.randn(count, 2, 6, 6, dtype=torch.float64, generator=stream)
    labels = torch.randint(5, (count,), generator=stream)
    weights = {name: weight.detach() for name, weight in module.named_parameters()}
    direction = {name: torch.randn(w.shape, dtype=w.dtype, generator=stream) for name, w in weights.items()}

    def loss(weights: Weights, inputs: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(module, weights, (inputs,)), labels[: len(inputs)], reduction=reduction)

    return loss, weights, inputs, direction, labels


def exactly(loss: Loss, weights: Weights, inputs: Tensor, direction: Weights) -> Tensor:
    """By differentiating twice."""
    inputs = inputs.clone().requires_grad_(True)
    weights = {name: weight.clone().requires_grad_(True) for name, weight in weights.items()}
    first = torch.autograd.grad(loss(weights, inputs), list(weights.values()), create_graph=True)
    along = torch.stack([(g * direction[name]).sum() for g, name in zip(first, weights, strict=True)]).sum()
    (slope,) = torch.autograd.grad(along, [inputs])
    return slope


def test_the_error_falls_with_the_square_of_the_step() -> None:
    loss, weights, inputs, direction, _ = problem(network())
    exact = exactly(loss, weights, inputs, direction)
    found = [directional(loss, weights, inputs, direction, relative) for relative in (4e-3, 2e-3, 1e-3)]
    errors = [float((one - exact).norm() / exact.norm()) for one in found]
    assert errors[-1] < 1e-3
    assert [one / other for one, other in pairwise(errors)] == pytest.approx([4, 4], rel=0.05)


@pytest.mark.parametrize("relative", [1e-3, 0.1, 3.0])
def test_a_loss_of_second_order_in_the_weights_is_exact_at_any_step(relative: float) -> None:
    stream = torch.Generator().manual_seed(0)
    weights = {"w": torch.randn(3, 4, dtype=torch.float64, generator=stream)}
    direction = {"w": torch.randn(3, 4, dtype=torch.float64, generator=stream)}
    inputs = torch.randn(5, 4, dtype=torch.float64, generator=stream)

    def loss(weights: Weights, inputs: Tensor) -> Tensor:
        return (inputs @ weights["w"].T).square().sum() / 2 + inputs.sum() * weights["w"].sum()

    slope = directional(loss, weights, inputs, direction, relative)
    w, v = weights["w"], direction["w"]
    # L = sum_i |W x_i|^2 / 2 + sum(x) sum(W), so that dL/dx_i = W'W x_i + sum(W).
    assert slope == pytest.approx(inputs @ (v.T @ w + w.T @ v) + v.sum(), rel=1e-9)


def test_the_step_is_a_share_of_the_weights_norm_to_each_side() -> None:
    weights, direction = {"a": torch.tensor([3.0]), "b": torch.tensor([[4.0]])}, {"a": torch.tensor([0.0])}
    direction["b"] = torch.tensor([[0.5]])
    ahead, behind, width = neighbours(weights, direction, 0.1)
    assert (float(ahead["a"]), float(behind["a"])) == (3, 3)
    assert (float(ahead["b"]), float(behind["b"])) == pytest.approx((4.5, 3.5))
    assert float(width) == pytest.approx(2.0)


def test_the_length_of_the_direction_scales_the_slope_alone() -> None:
    loss, weights, inputs, direction, _ = problem(network(nn.ReLU))
    once = directional(loss, weights, inputs, direction, 0.03)
    longer = {name: 1000 * part for name, part in direction.items()}
    assert directional(loss, weights, inputs, longer, 0.03) == pytest.approx(1000 * once)


def test_a_direction_of_zeros_has_a_slope_of_zero() -> None:
    loss, weights, inputs, direction, _ = problem(network())
    assert not directional(loss, weights, inputs, {n: torch.zeros_like(v) for n, v in direction.items()}, 0.03).any()


def test_a_direction_of_zeros_moves_no_weight_however_large() -> None:
    weights, direction = {"w": torch.full((4,), 1e3)}, {"w": torch.zeros(4)}
    ahead, behind, width = neighbours(weights, direction, 0.1)
    assert torch.equal(ahead["w"], weights["w"])
    assert torch.equal(behind["w"], weights["w"])
    assert torch.isfinite(width)


def test_chunks_sum_up_to_the_whole() -> None:
    loss, weights, inputs, direction, labels = problem(network(nn.ReLU))
    whole = directional(loss, weights, inputs, direction, 0.03)
    parts = []
    for place in range(0, len(inputs), 2):

        def part_loss(weights: Weights, some: Tensor, place: int = place) -> Tensor:
            own = torch.cat([some, inputs[:0]])
            logits = functional_call(network(nn.ReLU), weights, (own,))
            return F.cross_entropy(logits, labels[place : place + 2], reduction="sum")

        parts.append(directional(part_loss, weights, inputs[place : place + 2], direction, 0.03))
    assert torch.cat(parts) == pytest.approx(whole, rel=1e-9)


def test_no_weight_is_differentiated() -> None:
    loss, weights, inputs, direction, _ = problem(network())
    asked = []

    def watched(weights: Weights, inputs: Tensor) -> Tensor:
        asked.append(any(weight.requires_grad for weight in weights.values()))
        return loss(weights, inputs)

    directional(watched, weights, inputs, direction, 0.01)
    assert asked == [False, False]


def test_weights_and_inputs_stay_as_they_are() -> None:
    loss, weights, inputs, direction, _ = problem(network())
    before = {name: weight.clone() for name, weight in weights.items()}
    directional(loss, weights, inputs, direction, 0.03)
    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())
    assert not inputs.requires_grad
    assert not any(weight.requires_grad for weight in weights.values())
