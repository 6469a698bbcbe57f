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

from poisonlab.errors import DamagedError, DataError, DivergedError, PoisonlabError

# Programs that read no tensors should not wait for torch: what needs it imports it.
if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

_CHECKSUM = "sha256"
_DIVERGED = "diverged training"


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
    write_text(path, _json(value))


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=True) + "\n"


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write ``content`` as sorted, indented JSON with a checksum of its own (``sha256``), atomically; equal content
    gives equal bytes."""
    # As it will be read: a tuple is a list then.
    plain = json.loads(_json(dict(content)))
    write_json(path, {**plain, _CHECKSUM: _seal(plain)})


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what ``write_sealed`` wrote.

    Raises:
        DataError: the file is missing, damaged, or has no checksum.
    """
    try:
        content = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DamagedError(path, "not JSON") from error
    if not isinstance(content, dict) or _CHECKSUM not in content:
        raise DataError(f"{path} has no checksum, as those of this version have: delete it and run the workflow again")
    if content.pop(_CHECKSUM) != _seal(content):
        raise DamagedError(path, "checksum differs")
    return content


def _seal(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_json(content).encode()).hexdigest()


def read_text(path: Path) -> str:
    """Read a text in UTF-8.

    Raises:
        DataError: the file is missing, cannot be read, or is no such text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(path, "no UTF-8 text") from error
    except OSError as error:
        raise _read_error(path, error) from error


def _read_error(path: Path, error: OSError) -> DataError:
    if isinstance(error, FileNotFoundError):
        return DataError(f"{path} is missing: run the workflow to make it")
    return DataError(f"{path} cannot be read: {error.strerror or error}")


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
        DivergedError: in its place stands that a training diverged (see ``write_diverged``).
    """
    tensors, facts, found = _read(path)
    if found == _DIVERGED:
        raise DivergedError(**facts, source=path)
    if found != kind:
        raise DataError(f"{path} holds a {found}, not a {kind}: check the path")
    return tensors, facts


def write_diverged(path: Path, error: DivergedError) -> None:
    """Write, in the place of tensors, that a training diverged, atomically; who reads them meets the error again."""
    write_tensors(path, _DIVERGED, {}, {"what": error.what, "epoch": error.epoch, "batch": error.batch})


def check(path: Path) -> None:
    """Compare a file's content with its checksums, if it is of a kind that has some.

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
    from safetensors import SafetensorError, safe_open

    try:
        # Opened here because safetensors does not tell a file that is too short from one that cannot be read.
        path.open("rb").close()
    except OSError as error:
        raise _read_error(path, error) from error
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["poisonlab"])
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        intact = header[_CHECKSUM] == _digest(tensors, header["kind"], header["facts"])
        facts = json.loads(header["facts"])
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RecursionError) as error:
        raise DamagedError(path, "it cannot be decoded") from error
    if not intact:
        raise DamagedError(path, "checksum differs")
    return tensors, facts, header["kind"]


def write_arrays(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays as ``.npz`` with a checksum of theirs (``sha256``), atomically; equal content gives equal bytes."""
    import numpy as np

    plain = {name: np.asarray(arrays[name]) for name in sorted(arrays)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **plain, **{_CHECKSUM: np.array(_digest_of_arrays(plain))})


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote.

    Raises:
        DataError: the file is missing, damaged, or not npz.
    """
    import numpy as np

    try:
        # The file is opened here because NumPy leaves it open when it is not what it seems.
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise DamagedError(path, "not npz")
            arrays = dict(archive)
            intact = str(arrays.pop(_CHECKSUM)) == _digest_of_arrays(arrays)
    except OSError as error:
        raise _read_error(path, error) from error
    # A memory that is full is no damage.
    except (DamagedError, MemoryError):
        raise
    # Which exception comes depends on the damaged byte: BadZipFile, zlib.error, SyntaxError, NotImplementedError, ...
    except Exception as error:
        raise DamagedError(path, "not npz") from error
    if not intact:
        raise DamagedError(path, "checksum differs")
    return arrays


def _digest_of_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name}:{array.dtype.str}:{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


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
