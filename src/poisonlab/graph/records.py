"""Snakemake's records of its jobs, in its own folder."""

from __future__ import annotations

import json
import os
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from pathlib import Path

_FOLDER = Path(".snakemake")


class Records:
    """Snakemake's records of the current folder."""

    def __init__(self) -> None:
        self._params: dict[str, tuple[int, frozenset[str]]] = {}

    def locked(self) -> set[str]:
        """Outputs that running calls of Snakemake may write. A killed call keeps its own until it is unlocked."""
        found: set[str] = set()
        for lock in _FOLDER.glob("locks/*.output.lock"):
            try:
                found.update(lock.read_text(encoding="utf-8").splitlines())
            except OSError:  # the call has ended meanwhile
                continue
        return found

    def began(self, paths: Iterable[str]) -> float | None:
        """When the job that now makes these outputs began (seconds since the epoch); None if no job makes them."""
        times = [changed_at(self._place("incomplete", path)) for path in paths]
        return min((time for time in times if time is not None), default=None)

    def params(self, path: str) -> frozenset[str]:
        """The parameters that an output was made with, as Snakemake writes them; empty if unknown."""
        place = self._place("metadata", path)
        try:
            version = place.stat().st_mtime_ns
            if path not in self._params or self._params[path][0] != version:
                record = json.loads(place.read_text(encoding="utf-8"))
                self._params[path] = version, frozenset(map(str, record.get("params") or ()))
        # A record that is just being written is read at the next call.
        except (OSError, ValueError, AttributeError):
            return frozenset()
        return self._params[path][1]

    def _place(self, kind: str, path: str) -> Path:
        """Snakemake's file about an output: the output's path in base64, split into names that the file system
        allows."""
        folder = _FOLDER / kind
        try:
            longest = os.pathconf(folder, "PC_NAME_MAX") or 255
        except OSError:
            return folder / "none"
        name = urlsafe_b64encode(path.encode()).decode()
        *above, last = (name[start : start + longest - 1] for start in range(0, len(name), longest - 1))
        return folder.joinpath(*(f"@{part}" for part in above), last)


def changed_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
