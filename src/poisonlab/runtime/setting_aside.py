"""Sets damaged files aside that the workflow can make again, so that its next call does.

The job that finds the damage leaves a mark. When all jobs have ended, the workflow renames the marked files. If a file
vanished earlier, Snakemake would miss it and end the whole run.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote, unquote

from poisonlab.errors import DamagedError
from poisonlab.runtime.remade import is_remade

MARKS = "POISONLAB_MARKS"
"""Environment variable: the folder of the marks."""

SUFFIX = ".damaged"


def deal_with(error: DamagedError) -> str:
    """Mark the damaged file if the running workflow makes it.

    Returns:
        The message for the user, on one line.
    """
    if not is_remade(error.path):
        return str(error)
    try:
        folder = Path(os.environ[MARKS])
        folder.mkdir(parents=True, exist_ok=True)
        (folder / quote(str(error.path), safe="")).write_text(_version(error.path), encoding="utf-8")
    except OSError:
        return str(error)
    return f"{error.path} is damaged ({error.why}): run the workflow again to make it anew"


def set_aside(path: Path) -> Path:
    """Rename a file so that the workflow misses it; returns its new path.

    Raises:
        OSError: it cannot be renamed.
    """
    return path.replace(path.with_name(path.name + SUFFIX))


def set_marked_aside(folder: Path) -> list[Path]:
    """Rename the marked files, unless they were made again since, and remove the marks; returns the new paths.

    Raises:
        OSError: a file cannot be renamed.
    """
    aside = []
    for mark in sorted(folder.glob("*")):
        path = Path(unquote(mark.name))
        if path.exists() and _version(path) == mark.read_text(encoding="utf-8"):
            aside.append(set_aside(path))
        mark.unlink()
    return aside


def _version(path: Path) -> str:
    found = path.stat()
    return f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"
