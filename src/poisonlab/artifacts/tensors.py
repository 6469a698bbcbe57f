"""Tensors as safetensors files: atomic, checked, deterministic."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from poisonlab.artifacts.arrays import read_arrays
from poisonlab.errors import DamagedError, DataError, DivergedError
from poisonlab.files import CHECKSUM, atomic_path, read_error, read_sealed

_DIVERGED = "diverged training"


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and JSON ``facts`` as one safetensors file, atomically; equal content gives equal bytes.

    ``kind`` says what the file is. A checksum of the tensors guards against damage.
    """
    contiguous: dict[str, Tensor] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        # safetensors refuses two tensors that share a storage.
        taken = {other.untyped_storage().data_ptr() for other in contiguous.values()}
        contiguous[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in taken else tensor
    text = json.dumps(dict(facts), sort_keys=True)
    header = {"kind": kind, "facts": text, CHECKSUM: _digest(contiguous, kind, text)}
    # safetensors keeps the metadata in hash order; one JSON entry keeps the bytes the same in every process.
    packed = save(contiguous, metadata={"poisonlab": json.dumps(header, sort_keys=True)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(packed)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what ``write_tensors`` wrote.

    Returns:
        The tensors (on the CPU) and the facts.

    Raises:
        DataError: the file is missing, damaged, or of another kind.
        DivergedError: the file says that a training diverged (see ``write_diverged``).
    """
    tensors, facts, found = _read(path)
    if found == _DIVERGED:
        raise DivergedError(**facts, source=path)
    if found != kind:
        raise DataError(f"{path} holds a {found}, not a {kind}: check the path")
    return tensors, facts


def write_diverged(path: Path, error: DivergedError) -> None:
    """Write atomically, in place of tensors, that a training diverged; ``read_tensors`` then raises the error."""
    write_tensors(path, _DIVERGED, {}, {"what": error.what, "epoch": error.epoch, "batch": error.batch})


def check(path: Path) -> None:
    """Compare a file's content with its checksums, if its kind has checksums.

    Raises:
        DataError: the file is missing or damaged.
    """
    match path.suffix:
        case ".safetensors":
            _read(path)
        case ".npz":
            read_arrays(path)
        case ".json":
            read_sealed(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, facts and kind of an intact file."""
    try:
        # Opened here, because safetensors does not distinguish a file that is too short from an unreadable one.
        path.open("rb").close()
    except OSError as error:
        raise read_error(path, error) from error
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["poisonlab"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        intact = header[CHECKSUM] == _digest(tensors, header["kind"], header["facts"])
        facts = json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(path, "it cannot be decoded") from error
    if not intact:
        raise DamagedError(path, "checksum differs")
    return tensors, facts, header["kind"]


def _digest(tensors: Mapping[str, Tensor], kind: str, facts: str) -> str:
    digest = hashlib.sha256(f"{kind}\n{facts}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
