"""Names in a config lead to modules; a name that leads nowhere is said so in one line."""

from __future__ import annotations

import pytest

from poisonlab.errors import SettingsError
from poisonlab.modules import load, module_name


@pytest.mark.parametrize(
    ("kind", "name", "module"),
    [
        ("attacks", "gradient-matching", "poisonlab.attacks.gradient_matching"),
        ("data", "cifar10", "poisonlab.data.cifar"),
        ("data", "cifar100", "poisonlab.data.cifar"),
        ("models", "small-resnet", "poisonlab.models.small_resnet"),
    ],
)
def test_names_lead_to_modules(kind: str, name: str, module: str) -> None:
    assert module_name(kind, name) == module
    assert load(kind, name).__name__ == module


def test_an_unknown_name_is_one_line() -> None:
    with pytest.raises(
        SettingsError, match=r"no poisonlab\.attacks\.gradient_machting for 'gradient-machting'"
    ) as caught:
        load("attacks", "gradient-machting")
    assert "\n" not in str(caught.value)
