"""Source files of a user's own network. No torch: the workflow needs them before any job."""

from __future__ import annotations

import ast
import contextlib
import re
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

_INSTALLED = ("site-packages", "dist-packages")
_PROGRAMS = Path(__file__).resolve().parents[3] / "workflow" / "scripts"


def find_programs_last() -> None:
    """From now on, find the lab's programs after all other modules: names such as ``train`` are usual."""
    sys.path.sort(key=lambda folder: Path(folder).resolve() == _PROGRAMS)


def source_of(named: str) -> tuple[str, ...]:
    """The files of the module in ``module:function`` and of what it imports from beside it, found without running any.

    Of a package every module counts; of an installed one, only its first file. Empty if the module cannot be found,
    which its import reports later.
    """
    find_programs_last()
    # Search for the outermost package only: the search for a module inside would run the package.
    with contextlib.suppress(ImportError, ValueError):
        found = find_spec(re.split(r"[.:]", named, maxsplit=1)[0])
        if found is not None and found.has_location and found.origin is not None:
            file = Path(found.origin)
            if any(part in _INSTALLED for part in file.parts):
                return (found.origin,)
            own = file.parent.rglob("*.py") if found.submodule_search_locations else _followed(file)
            return tuple(sorted(map(str, own)))
    return ()


def _followed(file: Path) -> list[Path]:
    """A module and the modules and packages of its folder that it imports, directly or not."""
    found: list[Path] = []
    waiting = [file]
    while waiting:
        if (path := waiting.pop()) in found:
            continue
        found.append(path)
        for name in _imported(path):
            beside = file.parent / name
            if beside.with_suffix(".py").is_file():
                waiting.append(beside.with_suffix(".py"))
            elif (beside / "__init__.py").is_file():
                waiting += beside.rglob("*.py")
    return found


def _imported(path: Path) -> Iterator[str]:
    """The outermost names that a file imports; none if the file cannot be read, which its import reports later."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            yield node.module.partition(".")[0]
