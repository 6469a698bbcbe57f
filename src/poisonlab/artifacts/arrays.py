"""Arrays as ``.npz`` files: atomic, checked, deterministic; read without torch, because figures do not import it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonlab.errors import DamagedError
from poisonlab.files import CHECKSUM, atomic_path, read_error


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as ``.npz`` with their checksum (``sha256``), atomically; equal content gives equal bytes."""
    plain = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain, **{CHECKSUM: np.array(_digest(plain))})


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote.

    Raises:
        DataError: the file is missing, damaged, or not npz.
    """
    try:
        # Opened here, because NumPy would leave a file of another kind open.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DamagedError(path, "not npz")
            arrays = dict(archive)
            intact = str(arrays.pop(CHECKSUM)) == _digest(arrays)
    except OSError as error:
        raise read_error(path, error) from error
    # Full memory does not mean damage.
    except (DamagedError, MemoryError):
        raise
    # The exception depends on the damaged byte: BadZipFile, zlib.error, SyntaxError, NotImplementedError, ...
    except Exception as error:
        raise DamagedError(path, "not npz") from error
    if not intact:
        raise DamagedError(path, "checksum differs")
    return arrays


def _digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
