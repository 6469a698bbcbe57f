"""Inputs of figures: arrays, tensors and tables, read without torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from poisonlab.artifacts import arrays as files
from poisonlab.artifacts.stored import read_stored
from poisonlab.errors import DamagedError, DataError

Inputs = Mapping[str, Sequence[Path]]
"""The input files of a figure, by kind."""


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays called ``names`` of an npz file.

    Raises:
        DataError: the file is missing, not npz, damaged, or lacks an array.
    """
    return _those(path, files.read_arrays(path), names)


def read_tensors(path: Path, kind: str, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """All tensors of an artifact (see ``write_tensors``) as arrays; those called ``names`` must exist.

    Raises:
        DataError: the file is missing, damaged, of another kind, or lacks a tensor.
        DivergedError: the file records a diverged training instead.
    """
    tensors, _ = read_stored(path, kind, "numpy", np.ndarray.tobytes)
    _those(path, tensors, names)
    return tensors


def _those(path: Path, arrays: Mapping[str, NDArray[Any]], names: Sequence[str]) -> dict[str, NDArray[Any]]:
    if missing := [name for name in names if name not in arrays]:
        raise DataError(f"{path} lacks {', '.join(missing)}: is it the file of another figure?")
    return {name: arrays[name] for name in names}


def read_table(path: Path, text: Sequence[str], numbers: Sequence[str], truths: Sequence[str] = ()) -> pd.DataFrame:
    """Read a table of results (CSV) that has at least these columns.

    Args:
        path: the file.
        text: columns of names.
        numbers: columns of numbers; an empty field is nan.
        truths: columns of true, false or empty fields.

    Raises:
        DataError: the file is missing, not CSV, empty, lacks a column, or holds text instead of numbers.
    """
    try:
        # By default pandas would take a defense called "null" for a missing value.
        empty = {name: ["", "nan", "NaN"] for name in (*numbers, *truths)}
        table = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=empty)
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing: run the workflow to make it") from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is damaged (not CSV): delete it and run the workflow again") from error
    if missing := [name for name in (*text, *numbers, *truths) if name not in table.columns]:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}: is it another, or a damaged, table?")
    if table.empty:
        raise DataError(f"{path} has no rows: run the workflow again")
    if not all(isinstance(value, bool | np.bool_) for name in truths for value in table[name].dropna()):
        raise DamagedError(path, "a value is not true or false")
    try:
        return table.astype(dict.fromkeys(numbers, float))
    except ValueError as error:
        raise DataError(
            f"{path} is damaged (text where numbers belong): delete it and run the workflow again"
        ) from error
