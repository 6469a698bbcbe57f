"""Corrects the time stamps of results from the future, after a clock was set back.

Snakemake takes such inputs for newer than the outputs made from them, and fails these jobs. Content decides what is
recomputed, so time stamps may be corrected.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from poisonlab.runtime.remade import is_remade, remade


def bring_to_present(paths: Iterable[str | Path]) -> bool:
    """Set the time of results from the future to now; returns whether there were any."""
    found = False
    for path in paths:
        # Another job may replace the file meanwhile.
        with contextlib.suppress(OSError):
            if os.stat(path).st_mtime > time.time() and is_remade(path):
                os.utime(path)
                found = True
    return found


class Clock:
    """Keeps the outputs of a program newer than its inputs, whatever the clock does meanwhile.

    Args:
        arguments: of the program, with its input and output files among them.
    """

    def __init__(self, arguments: Sequence[str]) -> None:
        self._own = remade(arguments)
        self._before = {path: _version(path) for path in self._own}

    def bring_to_present(self) -> None:
        """Call this after the outputs are written."""
        outputs = [path for path in self._own if _version(path) != self._before[path]]
        if bring_to_present(path for path in self._own if path not in outputs):
            for path in outputs:
                os.utime(path)


def _version(path: str) -> int | None:
    """A number that changes when the file is replaced."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None
