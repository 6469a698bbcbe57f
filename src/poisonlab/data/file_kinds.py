"""Recognises a file of an unexpected kind by its first bytes, so that the error message can name the cure."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

_AS_NPZ = "save x_train, y_train, x_test and y_test with numpy.savez and read them with source: npz"
_AS_IDX = "read the folder of the four files with source: idx"
_KINDS = (
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself", "fetch it with git lfs pull"),
    (b"<!DOCTYPE", "a web page", "the download did not give the file: fetch it again"),
    (b"<html", "a web page", "the download did not give the file: fetch it again"),
    (
        b"MATLAB 5.0",
        "a MATLAB file (.mat)",
        f"read SVHN with source: svhn; load another with scipy.io.loadmat, {_AS_NPZ}",
    ),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (MATLAB 7.3's .mat is one, too)", f"load it with h5py, {_AS_NPZ}"),
    (b"\x93NUMPY", "a single NumPy array (.npy)", _AS_NPZ),
    (b"PAR1", "a Parquet file", "read it with source: parquet"),
    (b"\x89PNG", "a PNG image", "read folders of images with source: image-folder"),
    (b"\xff\xd8\xff", "a JPEG image", "read folders of images with source: image-folder"),
)
_ARCHIVES = (
    (b"PK\x03\x04", "a zip archive", "unpack it, unless numpy.savez wrote it (source: npz)"),
    (b"\x1f\x8b", "a file packed with gzip", "unpack it"),
    (b"BZh", "a file packed with bzip2", "unpack it"),
    (b"\xfd7zXZ", "a file packed with xz", "unpack it"),
)


def other_kind(path: Path, expected: bytes | None = None) -> str | None:
    """``<kind of the file>: <cure>``; None if the kind is unknown, or if the file begins with ``expected``."""
    if not path.is_file():  # a pipe could block for ever
        return None
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if expected is not None and start.startswith(expected):
        return None
    if start.startswith(b"\x1f\x8b") and _is_idx(_unpacked(path)):
        return f"an idx file packed with gzip, as MNIST's: {_AS_IDX}"
    if _is_idx(start):
        return f"an idx file, as MNIST's: {_AS_IDX}"
    if start[257:262] == b"ustar":
        return "a tar archive: read one of images and labels with source: webdataset, or unpack it"
    for magic, kind, cure in (*_KINDS, *_ARCHIVES):
        if start.lstrip()[: len(magic)].lower() == magic.lower():
            return f"{kind}: {cure}"
    if len(start) > 1 and start[0] == 0x80 and start[1] in range(2, 6):
        return f"a pickle, which could run any code: load it where you trust it, {_AS_NPZ}"
    return None


def _unpacked(path: Path) -> bytes:
    """The first bytes of a file packed with gzip; none if it is damaged."""
    try:
        with gzip.open(path) as file:
            return file.read(4)
    except (OSError, EOFError, zlib.error):
        return b""


def _is_idx(start: bytes) -> bool:
    """Whether a file begins with the header of idx: two zeros, a type and the number of dimensions."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in (8, 9, 11, 12, 13, 14) and 1 <= start[3] <= 4
