"""Reading and writing text and JSON: atomic, checked, deterministic. Neither torch nor numpy is imported."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from poisonlab.errors import DamagedError, DataError, PoisonlabError

CHECKSUM = "sha256"
"""The entry of a file that holds the checksum of all others."""


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``; it replaces ``path`` if the block succeeds, and is removed if the block fails.

    Raises:
        PoisonlabError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise write_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_error(path: Path, error: OSError) -> PoisonlabError:
    """What to raise if ``path`` cannot be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PoisonlabError(f"disk full while writing {path}: free some space and run again")
    return PoisonlabError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON, atomically."""
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=True) + "\n"


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as sorted, indented JSON with a checksum of itself (``sha256``), atomically; equal content
    gives equal bytes."""
    # The checksum covers the content as read back: JSON turns a tuple into a list.
    plain = json.loads(_json(dict(content)))
    write_json(path, {**plain, CHECKSUM: _seal(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote.

    Raises:
        DataError: the file is missing, damaged, or has no checksum.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, "not JSON") from error
    if not isinstance(content, dict) or CHECKSUM not in content:
        raise DataError(
            f"{path} has no checksum, but files of this version have one: delete it and run the workflow again"
        )
    if content.pop(CHECKSUM) != _seal(content):
        raise DamagedError(path, "checksum differs")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(content).encode()).hexdigest()


def read_text(path: Path) -> str:
    """Read a text in UTF-8.

    Raises:
        DataError: the file is missing, cannot be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(path, "no UTF-8 text") from error
    except OSError as error:
        raise read_error(path, error) from error


def read_error(path: Path, error: OSError) -> DataError:
    """The message about a file that is missing or cannot be read."""
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} is missing: run the workflow to make it")
    return DataError(f"{path} cannot be read: {error.strerror or error}")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
