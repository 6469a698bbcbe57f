"""Reads files of ``write_tensors`` with torch or NumPy; does not import torch, because figures do without."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open

from poisonlab.errors import DamagedError, DataError, DivergedError
from poisonlab.files import CHECKSUM, read_error

DIVERGED = "diverged training"


def read_stored(
    path: Path, kind: str | None, framework: Literal["pt", "numpy"], bytes_of: Callable[[Any], bytes | memoryview]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """As ``read_tensors``, in torch or NumPy; ``kind`` may be None for any, and ``bytes_of`` gives a tensor's bytes."""
    try:
        # Opened here, because safetensors does not distinguish a file that is too short from an unreadable one.
        path.open("rb").close()
    except OSError as error:
        raise read_error(path, error) from error
    try:
        with safe_open(path, framework=framework) as file:
            header = json.loads((file.metadata() or {})["poisonlab"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        found = header["kind"]
        intact = header[CHECKSUM] == digest(tensors, found, header["facts"], bytes_of)
        facts = json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(path, "it cannot be decoded") from error
    if not intact:
        raise DamagedError(path, "checksum differs")
    if kind is not None and found == DIVERGED:
        raise DivergedError(**facts, source=path)
    if kind not in (None, found):
        raise DataError(f"{path} holds a {found}, not a {kind}: check the path")
    return tensors, facts


def digest(tensors: Mapping[str, Any], kind: str, facts: str, bytes_of: Callable[[Any], bytes | memoryview]) -> str:
    """The checksum of tensors, or of arrays, whose types are named as torch names them."""
    found = hashlib.sha256(f"{kind}\n{facts}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        found.update(f"{name}:torch.{str(tensor.dtype).removeprefix('torch.')}:{tuple(tensor.shape)}".encode())
        found.update(bytes_of(tensor))
    return found.hexdigest()
