"""Which module holds a named attack, defense, filter, detector, model or data source.

Names in a config file (``gradient-matching``) are module names with dashes for underscores
(``poisonlab.attacks.gradient_matching``). Modules are loaded by name, so that a job's code digest holds the one
module it runs and not the whole package. Standard library only: the Snakefile reads it.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from poisonlab.errors import SettingsError

# Several names can share a module; every other name is its module's own.
_SHARED = {kind: {"cifar10": "cifar", "cifar100": "cifar"} for kind in ("data", "config.data")}


def module_name(kind: str, name: str) -> str:
    """Dotted module of ``name``, for ``kind`` one of attacks, defenses, filters, detection, models, data.

    Their settings stand in modules of the same name: of kind config.attacks and so on.
    """
    own = _SHARED.get(kind, {}).get(name, name)
    return f"poisonlab.{kind}.{own.replace('-', '_')}"


def roots(kind: str, name: str) -> list[str]:
    """Dotted modules that a job which loads ``name`` runs, for ``code_digests``: the one that computes, that of the
    settings, and through them all that they import."""
    settings = module_name(f"config.{kind}", name)
    return [module_name(kind, name), *([settings] if find_spec(settings) else [])]


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
