"""A network that was looked at is as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from poisonlab.models.evaluating import evaluating, fixed


def test_modes_come_back_even_after_an_error() -> None:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1), nn.Sequential(nn.Dropout())).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    with evaluating(model):
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before == [True, True, False, True, True]
    with pytest.raises(ZeroDivisionError), evaluating(model):
        _ = 1 / 0
    assert [module.training for module in model.modules()] == before


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_weights_get_no_gradients_inside_also_those_of_torchscript() -> None:
    for model in (nn.Linear(2, 2), torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2))):
        weight, bias = model.parameters()
        bias.requires_grad_(False)
        with fixed(model):
            assert not weight.requires_grad
        assert (weight.requires_grad, bias.requires_grad) == (True, False)
