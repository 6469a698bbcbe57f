"""Reading and writing artifact files: atomic, checked, deterministic."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poisonlab.errors import DataError, PoisonlabError

# Programs that read no tensors should not wait for torch: what needs it imports it.
if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_CHECKSUM = "sha256"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place if the block succeeds, and is removed if it does not.

    Raises:
        PoisonlabError: the disk is full or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
    except OSError as error:
        raise _write_error(path, error) from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o644)
        temporary.replace(path)
    except OSError as error:
        raise _write_error(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _write_error(path: Path, error: OSError) -> PoisonlabError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PoisonlabError(f"disk full while writing {path}: free some space and run again")
    return PoisonlabError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write ``text`` (UTF-8) atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as sorted, indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=True) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        DataError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the workflow to make it") from error
    except (ValueError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"{path} is damaged (not JSON): delete it and run the workflow again") from error


def write_tensors(path: Path, kind: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write ``tensors`` and JSON ``facts`` as one safetensors file, atomically; equal content gives equal bytes.

    ``kind`` says what the file is. A checksum of the tensors guards against damage.
    """
    from safetensors.torch import save

    contiguous: dict[str, Tensor] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        # safetensors takes no two tensors from one storage.
        taken = {other.untyped_storage().data_ptr() for other in contiguous.values()}
        contiguous[name] = tensor.clone() if tensor.untyped_storage().data_ptr() in taken else tensor
    text = json.dumps(dict(facts), sort_keys=True)
    header = {"kind": kind, "facts": text, _CHECKSUM: _digest(contiguous, kind, text)}
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
    """
    tensors, facts, found = _read(path)
    if found != kind:
        raise DataError(f"{path} holds a {found}, not a {kind}: check the path")
    return tensors, facts


def check_tensors(path: Path) -> None:
    """Compare a file's content with its checksum, whatever it holds.

    Raises:
        DataError: the file is missing or damaged.
    """
    _read(path)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any], str]:
    """Tensors, facts and kind of an intact file."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path} is missing: run the workflow to make it")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["poisonlab"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        intact = header[_CHECKSUM] == _digest(tensors, header["kind"], header["facts"])
        facts = json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged: delete it and run the workflow again") from error
    if not intact:
        raise DataError(f"{path} is damaged (checksum differs): delete it and run the workflow again")
    return tensors, facts, header["kind"]


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as ``.npz``, atomically; equal content gives equal bytes."""
    import numpy as np

    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})


def _digest(tensors: Mapping[str, Tensor], kind: str, facts: str) -> str:
    import torch

    digest = hashlib.sha256(f"{kind}\n{facts}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
