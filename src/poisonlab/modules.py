"""The module of a named attack, defense, filter, detector, model or data source.

Names in a config file (``gradient-matching``) are module names with dashes for underscores
(``poisonlab.attacks.gradient_matching``). Modules are loaded by name, so that a job's code digest covers the one
module it runs and not the whole package. Standard library only: the Snakefile imports this module.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import ModuleType

from poisonlab.errors import SettingsError

# Names that share a module; every other name has a module of its own.
_SHARED = {kind: {"cifar10": "cifar", "cifar100": "cifar"} for kind in ("data", "config.data")}
_SHARED |= {"training": {"adamw": "adam"}}


def module_name(kind: str, name: str) -> str:
    """Dotted module of ``name``, for ``kind`` one of attacks, defenses, filters, detection, models, data.

    The settings are in a module of the same name below ``config``: for them, ``kind`` is config.attacks and so on.
    """
    own = _SHARED.get(kind, {}).get(name, name)
    return f"poisonlab.{kind}.{own.replace('-', '_')}"


def roots(kind: str, name: str) -> list[str]:
    """The dotted modules of ``name``, as roots for ``code_digests``: the one that computes and, if there is one, that
    with its settings."""
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
        # The module exists, but one of its own imports is missing: not an unknown name.
        if error.name != module:
            raise
        raise SettingsError(f"there is no {module} for {name!r} among the {kind}: check the name") from error
