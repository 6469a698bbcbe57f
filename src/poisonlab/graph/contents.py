"""Digests of names and contents of the outside files that jobs read, kept from call to call.

Snakemake compares the times of a job's input files. It does not see that a folder's files were swapped or deleted, nor
that a file was replaced by an older one.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poisonlab.errors import PoisonlabError
from poisonlab.files import write_text

CACHE = Path(".snakemake/poisonlab-contents.json")
"""Relative to the folder from which paths of results count."""

_LENGTH = 12
_SETTLED_NS = 2_000_000_000
"""A file changed less than this long ago may change again without a new time stamp, so its digest is not kept."""

_Known = dict[str, list[Any]]


class Contents:
    """Digests of files. A file is read again only when its size, times or inode change.

    Args:
        cache: file in which digests are kept; if it cannot be read or written, files are just read again.
    """

    def __init__(self, cache: Path = CACHE) -> None:
        self._cache = cache
        self._known: _Known | None = None
        self._changed = False

    def digest(self, paths: Sequence[str], root: str = "") -> str:
        """One digest of some files' contents, and of their names below ``root``; a missing file counts as missing."""
        whole = hashlib.sha256()
        for path in sorted(set(paths)):
            whole.update(f"{path.removeprefix(root)}\0{self._of(path)}\n".encode(errors="surrogateescape"))
        self._save()
        return whole.hexdigest()[:_LENGTH]

    def _of(self, path: str) -> str:
        if self._known is None:
            self._known = _read(self._cache)
        try:
            found = os.stat(path)
            state = [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]
            kept = self._known.get(path)
            if kept is not None and kept[:-1] == state:
                return str(kept[-1])
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return "missing"
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NS:
            self._known[path] = [*state, digest]
            self._changed = True
        return digest

    def _save(self) -> None:
        if self._changed and self._known is not None:
            with contextlib.suppress(PoisonlabError, UnicodeEncodeError):
                write_text(self._cache, json.dumps(self._known))
            self._changed = False


def _read(cache: Path) -> _Known:
    try:
        found = json.loads(cache.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {path: kept for path, kept in found.items() if isinstance(kept, list) and len(kept) == 5}
