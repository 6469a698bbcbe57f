"""The files of a split that is given as a list of files, a pattern or a folder."""

from __future__ import annotations

import glob
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

SplitName = Literal["train", "test"]
SPLITS: tuple[SplitName, SplitName] = ("train", "test")
_BEGINNINGS = {"train": ("train",), "test": ("test", "val")}
_WORDS = {"train": ("train", "training"), "test": ("test", "testing", "val", "valid", "validation")}


def shard_files(given: str | Sequence[str], split: SplitName, suffix: str) -> tuple[str, ...]:
    """The files of a split in order of their names, as they exist now.

    Args:
        given: paths; ``*`` in a name matches any text, and a folder means its files that end in ``suffix``. From a
            folder, files whose names begin with the split's name are taken; else those that have it as a word
            (my_train.parquet); else all but those of the other split.
        split: which split.
        suffix: with its dot.

    Returns:
        Paths, each once; a pattern or folder without files is returned unchanged.
    """
    files: list[str] = []
    for path in (given,) if isinstance(given, str) else given:
        if "*" in path:
            files += sorted(glob.glob(glob.escape(path).replace("[*]", "*"))) or [path]
        elif Path(path).is_dir():
            files += _inside(Path(path), split, suffix) or [path]
        else:
            files.append(path)
    return tuple(dict.fromkeys(files))


def _inside(folder: Path, split: SplitName, suffix: str) -> list[str]:
    found = sorted(glob.glob(f"{glob.escape(str(folder))}/*{suffix}"))
    for beginning in _BEGINNINGS[split]:
        if own := [file for file in found if Path(file).name.startswith(beginning)]:
            return own
    beginnings = tuple(beginning for some in _BEGINNINGS.values() for beginning in some)
    others = [file for file in found if not Path(file).name.startswith(beginnings)]
    for word in _WORDS[split]:
        if own := [file for file in others if word in _words(file)]:
            return own
    foreign = {word for other, some in _WORDS.items() if other != split for word in some}
    return [file for file in others if not foreign & _words(file)]


def _words(file: str) -> set[str]:
    return set(re.split("[^a-z]+", Path(file).name.lower()))
