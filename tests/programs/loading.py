"""Stage programs as modules, to call in the test's own process."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"


@cache
def program(name: str) -> ModuleType:
    """The program ``workflow/scripts/<name>.py``; its ``main`` takes the command line's arguments."""
    found = importlib.util.spec_from_file_location(f"{name}_program", SCRIPTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    # Settings look their annotations up there.
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module
