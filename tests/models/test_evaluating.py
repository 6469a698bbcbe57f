"""A network that was looked at is as it was."""

from __future__ import annotations

import pytest
from torch import nn

from poisonlab.models.evaluating import evaluating


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
