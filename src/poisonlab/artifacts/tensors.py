"""Tensors as safetensors files: atomic, checked, deterministic."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from poisonlab.artifacts.arrays import read_arrays
from poisonlab.artifacts.stored import DIVERGED, digest, read_stored
from poisonlab.errors import DivergedError
from poisonlab.files import CHECKSUM, atomic_path, read_sealed


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
    header = {"kind": kind, "facts": text, CHECKSUM: digest(contiguous, kind, text, _bytes)}
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
    return read_stored(path, kind, "pt", _bytes)


def write_diverged(path: Path, error: DivergedError) -> None:
    """Write atomically, in place of tensors, that a training diverged; ``read_tensors`` then raises the error."""
    write_tensors(path, DIVERGED, {}, {"what": error.what, "epoch": error.epoch, "batch": error.batch})


def check(path: Path) -> None:
    """Compare a file's content with its checksums, if its kind has checksums.

    Raises:
        DataError: the file is missing or damaged.
    """
    match path.suffix:
        case ".safetensors":
            read_stored(path, None, "pt", _bytes)
        case ".npz":
            read_arrays(path)
        case ".json":
            read_sealed(path)


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
