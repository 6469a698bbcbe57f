"""Every registered method, found where the package finds it; each has small settings in the table of its contract."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Collection, Iterable, Mapping
from importlib import import_module
from inspect import signature
from types import ModuleType
from typing import Any, TypeVar, get_args

import pytest

import poisonlab.config
from poisonlab.config import rows
from poisonlab.config.types import Settings
from poisonlab.errors import PoisonlabError

Case = TypeVar("Case")
Result = TypeVar("Result")


def methods(union: Any) -> dict[str, type[Settings]]:
    """The members of a union of settings by the ``method`` that names their module."""
    return {kind.model_fields["method"].default: kind for kind in get_args(union)}


DEFENSES = methods(rows.TrainingSettings)
FILTERS = methods(rows.FilterSettings)
DETECTORS = methods(rows.DetectorSettings)


def modules_of(package: str) -> dict[str, ModuleType]:
    """The modules of ``poisonlab.<package>`` by the name that a config calls them."""
    parent = import_module(f"poisonlab.{package}")
    return {
        found.name.replace("_", "-"): import_module(f"{parent.__name__}.{found.name}")
        for found in pkgutil.iter_modules(parent.__path__)
    }


def architectures() -> list[str]:
    """The modules of ``poisonlab.models`` that build a network for a number of classes and a shape of images."""
    wanted = ["num_classes", "image_shape"]
    builders = {name: getattr(module, "build", None) for name, module in modules_of("models").items()}
    return [name for name, build in builders.items() if build and list(signature(build).parameters)[:2] == wanted]


def architecture_settings(name: str) -> type[Settings]:
    """The settings class whose ``name`` is that of the architecture, wherever in ``poisonlab.config`` it is."""
    for found in pkgutil.walk_packages(poisonlab.config.__path__, "poisonlab.config."):
        import_module(found.name)
    kinds, found_kinds = [Settings], []
    while kinds:
        kind = kinds.pop()
        kinds += kind.__subclasses__()
        field = kind.model_fields.get("name")
        if field is not None and get_args(field.annotation) == (name,):
            found_kinds.append(kind)
    if not found_kinds:
        pytest.fail(f"poisonlab.models builds {name}, but no settings in poisonlab.config have it as their name")
    return found_kinds[0]


def case_of(name: str, table: Mapping[str, Case], where: str) -> Case:
    """The entry of a registered method; without one the contract fails and says where it belongs."""
    if name not in table:
        pytest.fail(f"{name} is registered but its contract has no settings for it: add {name!r} to {where}")
    return table[name]


def check_settings_are_told(
    kind: type[Settings], changed: Iterable[str], where: str, elsewhere: Collection[str] = ()
) -> None:
    """See that every setting of a method is changed in its table, but for those of the kind's base class."""
    inherited = {name for base in kind.__bases__ for name in getattr(base, "model_fields", ())}
    missing = kind.model_fields.keys() - inherited - {"method"} - set(changed) - set(elsewhere)
    if missing:
        pytest.fail(f"no test changes {', '.join(sorted(missing))} of {kind.__name__}: give a value of each in {where}")


def or_refusal(work: Callable[[], Result]) -> Result | str:
    """What ``work`` returns, or the one line of the error in which it ends."""
    try:
        return work()
    except PoisonlabError as error:
        line = str(error)
    assert "\n" not in line
    return line
