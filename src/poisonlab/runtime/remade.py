"""Which files the running workflow makes, and can make again; all others belong to the user."""

from __future__ import annotations

import os
from collections.abc import Iterable

REMADE = "POISONLAB_REMADE"
"""Environment variable: files that the running workflow makes, and folders (with a slash at the end) in which it makes
all files; separated by colons, as in PATH."""


def is_remade(path: str | os.PathLike[str]) -> bool:
    """Whether the running workflow makes a file; always False outside a workflow."""
    return bool(remade([os.fspath(path)]))


def remade(paths: Iterable[str]) -> list[str]:
    """Those of ``paths`` that the running workflow makes."""
    names = [name for name in os.environ.get(REMADE, "").split(os.pathsep) if name]
    known = {os.path.realpath(name) for name in names}
    folders = tuple(f"{os.path.realpath(name)}/" for name in names if name.endswith("/"))
    return [path for path in paths if (real := os.path.realpath(path)) in known or real.startswith(folders)]
