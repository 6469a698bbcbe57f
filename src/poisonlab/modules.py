"""Which module holds a named attack, defense, filter, detector, model or data source.

Names in a config file (``gradient-matching``) are module names with dashes for underscores
(``poisonlab.attacks.gradient_matching``). Modules are loaded by name, so that a job's code digest holds the one
module it runs and not the whole package. Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from poisonlab.errors import SettingsError

# Several names can share a module; every other name is its module's own.
_SHARED = {"data": {"cifar10": "cifar", "cifar100": "cifar"}}


def module_name(kind: str, name: str) -> str:
    """Dotted module of ``name``, for ``kind`` one of attacks, defenses, filters, detection, models, data."""
    own = _SHARED.get(kind, {}).get(name, name)
    return f"poisonlab.{kind}.{own.replace('-', '_')}"


def load(kind: str, name: str) -> ModuleType:
    """Import the module of ``name``.

    Raises:
        SettingsError: there is no such module.
    """
    module = module_name(kind, name)
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        # A module that exists but misses one of its own imports is another matter.
        if error.name != module:
            raise
        raise SettingsError(f"there is no {module} for {name!r} among the {kind}: check the name") from error
