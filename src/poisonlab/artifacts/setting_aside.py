"""What becomes of a damaged file: one that the workflow can make anew is renamed, so that its next call does."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from poisonlab.errors import DamagedError

REMADE = "POISONLAB_REMADE"
"""Environment variable: files that the running workflow makes, and folders (with a slash at the end) in which it makes
all; as in PATH, a colon between two."""

SUFFIX = ".damaged"


def deal_with(error: DamagedError) -> str:
    """Set the file aside if the running workflow makes it; never one that came from elsewhere.

    Returns:
        What to tell the user, on one line.
    """
    if not _remade(error.path):
        return str(error)
    try:
        aside = set_aside(error.path)
    except OSError as problem:
        return f"{error} (it could not be renamed: {problem.strerror})"
    return f"{error.path} is damaged ({error.why}) and now named {aside.name}: run the workflow again to make it anew"


def set_aside(path: Path) -> Path:
    """Rename a file so that the workflow misses it; returns its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    aside = path.with_name(path.name + SUFFIX)
    # Another job may be faster.
    with contextlib.suppress(FileNotFoundError):
        path.replace(aside)
    return aside


def _remade(path: Path) -> bool:
    real = os.path.realpath(path)
    for name in os.environ.get(REMADE, "").split(os.pathsep):
        known = os.path.realpath(name)
        if name and (real == known or (name.endswith("/") and real.startswith(f"{known}/"))):
            return True
    return False
