"""Which files the running workflow makes, and can make again; all others belong to the user."""

from __future__ import annotations

import os

REMADE = "POISONLAB_REMADE"
"""Environment variable: files that the running workflow makes, and folders (with a slash at the end) in which it makes
all files; separated by colons, as in PATH."""


def is_remade(path: str | os.PathLike[str]) -> bool:
    """Whether the running workflow makes a file; always False outside a workflow."""
    real = os.path.realpath(path)
    for name in os.environ.get(REMADE, "").split(os.pathsep):
        known = os.path.realpath(name)
        if name and (real == known or (name.endswith("/") and real.startswith(f"{known}/"))):
            return True
    return False
