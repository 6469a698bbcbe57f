"""The simulated device refuses what CUDA refuses, and computes what the CPU computes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from simulated import NAME, simulated
from torch import Tensor

Work = Callable[[Tensor, torch.device], object]
REFUSED: dict[str, Work] = {
    "tensors of both devices": lambda x, there: x + torch.ones(3),
    "a list of both": lambda x, there: torch.stack([x, torch.ones(3)]),
    "an index there of a tensor here": lambda x, there: torch.ones(3)[torch.tensor([0], device=there)],
    "a mask here": lambda x, there: x.masked_fill(torch.zeros(3, dtype=torch.bool), 0.0),
    "a value put in from here": lambda x, there: x.index_put((torch.tensor([0]),), torch.ones(1)),
    "numpy": lambda x, there: x.numpy(),
    "a generator here": lambda x, there: torch.rand(3, generator=torch.Generator(), device=there),
    "a generator there": lambda x, there: torch.rand(3, generator=torch.Generator(there)),
    "a backward pass over both": lambda x, there: _Forgetful.apply(x.requires_grad_()).sum().backward(),
}
ALLOWED: dict[str, Work] = {
    "a scalar here": lambda x, there: x + torch.tensor(1.0),
    "an index here": lambda x, there: x[torch.tensor([0])],
    "a copy": lambda x, there: x.copy_(torch.ones(3)),
    "numpy once it is back": lambda x, there: x.cpu().numpy(),
    "a generator of its own": lambda x, there: torch.rand(3, generator=torch.Generator(there), device=there),
    "a list": lambda x, there: x.tolist(),
}


class _Forgetful(torch.autograd.Function):
    """Its gradient forgets the device."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient * torch.full((3,), 2.0)


@pytest.mark.parametrize("what", REFUSED)
def test_what_cuda_refuses(what: str) -> None:
    with simulated() as there, pytest.raises(RuntimeError):
        REFUSED[what](torch.zeros(3, device=there), there)


@pytest.mark.parametrize("what", ALLOWED)
def test_what_cuda_allows(what: str) -> None:
    with simulated() as there:
        ALLOWED[what](torch.zeros(3, device=there), there)


def test_the_same_numbers() -> None:
    weight, images = torch.randn(4, 3, 3, 3), torch.randn(2, 3, 8, 8)

    def gradient(weight: Tensor, images: Tensor) -> Tensor:
        weight = weight.detach().requires_grad_()
        outputs = torch.nn.functional.conv2d(images, weight).relu()
        return torch.autograd.grad(outputs.square().mean(), weight)[0]

    expected = gradient(weight, images)
    with simulated() as there:
        found = gradient(weight.to(there), images.to(there))
        assert found.device.type == NAME
        assert torch.equal(found.cpu(), expected)


def test_nothing_is_left_of_it() -> None:
    with simulated():
        pass
    assert torch.Generator().device.type == "cpu"
    assert torch.rand(2).device.type == "cpu"
