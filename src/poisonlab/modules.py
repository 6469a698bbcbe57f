"""Which module holds a named attack, defense, model or data source.

Names in a config file (``gradient-matching``) are module names with dashes for underscores
(``poisonlab.attacks.gradient_matching``). Modules are loaded by name, so that a job's code digest holds the one
module it runs and not the whole package. Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

# Several names can share a module; every other name is its module's own.
_SHARED = {"data": {"cifar10": "cifar", "cifar100": "cifar"}}


def module_name(kind: str, name: str) -> str:
    """Dotted module of ``name``, for ``kind`` one of attacks, defenses, models, data."""
    own = _SHARED.get(kind, {}).get(name, name)
    return f"poisonlab.{kind}.{own.replace('-', '_')}"


def load(kind: str, name: str) -> ModuleType:
    """Import the module of ``name``."""
    return import_module(module_name(kind, name))
