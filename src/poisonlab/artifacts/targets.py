"""Reads the first targets of a poison set for a report, without torch and without the poisons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from poisonlab.errors import DamagedError
from poisonlab.files import read_error


def read_targets(path: Path, most: int) -> NDArray[Any] | None:
    """Read the first targets of a goal; the rest of the file, of any size, is not read.

    The file's checksum covers all of its tensors, so it is not compared.

    Args:
        path: a poison set (see ``PoisonSet.save``), or the note in its place that its crafting diverged.
        most: how many targets are wanted.

    Returns:
        (T, C, H, W) uint8 with T at most ``most``; None if the set has no goal, or its crafting diverged.

    Raises:
        DataError: the file is missing, or cannot be decoded.
    """
    try:
        path.open("rb").close()
    except OSError as error:
        raise read_error(path, error) from error
    try:
        with safe_open(path, framework="numpy") as file:
            if "targets" not in file.keys():  # noqa: SIM118
                return None
            stored = file.get_slice("targets")
            # safetensors refuses a slice that is longer than the tensor.
            found: NDArray[Any] = stored[: min([most, *stored.get_shape()[:1]])]
    except (SafetensorError, OSError) as error:
        raise DamagedError(path, "it cannot be decoded") from error
    if found.dtype != np.uint8 or found.ndim != 4 or found.size == 0:
        raise DamagedError(path, "its targets are no images")
    return found
