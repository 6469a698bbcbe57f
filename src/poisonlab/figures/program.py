"""What the figure programs share: their arguments, their settings and how they read arrays."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from poisonlab.artifacts import arrays as archives
from poisonlab.config.figures import Drawing
from poisonlab.errors import DataError, SettingsError

S = TypeVar("S", bound=BaseModel)


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every figure program; figures need no device."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument(
        "--spec", nargs="+", required=True, metavar="KEY=VALUE", help="settings, as the workflow passes them"
    )
    arguments.add_argument("--pdf", type=Path, required=True, help="vector file to write")
    arguments.add_argument("--png", type=Path, required=True, help="raster file to write")
    arguments.add_argument("--caption", type=Path, required=True, help="text file to write: the finding in numbers")
    return arguments


def checked(model: type[S], value: Any, where: str) -> S:
    """``value`` as settings of type ``model``.

    Raises:
        SettingsError: one line with every problem of section ``where``.
    """
    try:
        return model.model_validate(value)
    except ValidationError as error:
        problems = [f"{'.'.join([where, *map(str, problem['loc'])])}: {problem['msg']}" for problem in error.errors()]
        raise SettingsError("; ".join(problems)) from error


def drawing(settings: Mapping[str, Any]) -> Drawing:
    """The ``drawing`` section of ``--spec``; defaults where it says nothing.

    Raises:
        SettingsError: it holds an impossible value.
    """
    return checked(Drawing, settings.get("drawing", {}), "drawing")


def read_arrays(path: Path, names: Sequence[str]) -> dict[str, NDArray[Any]]:
    """The arrays called ``names`` of an npz file.

    Raises:
        DataError: the file is missing, not npz, damaged, or lacks an array.
    """
    arrays = archives.read_arrays(path)
    missing = [name for name in names if name not in arrays]
    if missing:
        raise DataError(f"{path} lacks {', '.join(missing)}: is it the file of another figure?")
    return {name: arrays[name] for name in names}
