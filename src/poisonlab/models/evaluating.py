"""Use a network in eval mode, or with weights that get no gradients, and restore it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block; afterwards every module has its earlier mode."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def fixed(model: nn.Module) -> Iterator[None]:
    """Eval mode inside the block, and weights without gradients; afterwards both are as before."""
    required = [(weight, weight.requires_grad) for weight in model.parameters()]
    with evaluating(model):
        try:
            # One by one, because a TorchScript module refuses model.requires_grad_().
            for weight, _ in required:
                weight.requires_grad_(False)
            yield
        finally:
            for weight, flag in required:
                weight.requires_grad_(flag)
