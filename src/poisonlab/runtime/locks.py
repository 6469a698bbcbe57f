"""Snakemake's locks of a folder in which several calls of Snakemake work."""

from __future__ import annotations

from pathlib import Path

from snakemake.persistence.file import FilePersistence

_ALL = FilePersistence._delete_locks


def keep_locks_of_others() -> None:
    """From now on, a call removes only its own locks; Snakemake 9 by default removes those of all calls."""
    FilePersistence._delete_locks = _delete_own


def _delete_own(persistence: FilePersistence) -> None:
    if persistence._lockfile:
        for path in persistence._lockfile.values():
            Path(path).unlink(missing_ok=True)
        persistence._lockfile.clear()
    else:  # snakemake --unlock
        _ALL(persistence)
