"""Contents of files from outside: whatever changes them is noticed, and nothing is read twice."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.graph import contents
from poisonlab.graph.contents import Contents


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image folder whose files are of one size and time, as an archive leaves them, and not of this moment."""
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            for number in range(3):
                file = tmp_path / "data" / split / name / f"{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"{split}{name}{number}".ljust(20), encoding="utf-8")
                os.utime(file, (1_700_000_000, 1_700_000_000))
    return tmp_path / "data"


def digest(folder: Path) -> str:
    """As a new call of the workflow finds it."""
    settings = ImageFolder(source="image-folder", root=str(folder))
    return Contents(folder.parent / "cache.json").digest(settings.folder_files)


def swap(folder: Path) -> None:
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (folder / "train" / old).rename(folder / "train" / new)


def rewrite(folder: Path) -> None:
    """With the same size and time, and another inode."""
    file = folder / "train" / "cat" / "0.png"
    file.unlink()
    file.write_text("other".ljust(20), encoding="utf-8")
    os.utime(file, (1_700_000_000, 1_700_000_000))


def overwrite(folder: Path) -> None:
    file = folder / "test" / "dog" / "1.png"
    with file.open("r+b") as opened:
        opened.write(b"X")
    os.utime(file, (1_700_000_000, 1_700_000_000))


CHANGES: dict[str, Callable[[Path], object]] = {
    "two folders swapped": swap,
    "an image deleted": lambda folder: (folder / "train" / "cat" / "0.png").unlink(),
    "an image added": lambda folder: shutil.copy(folder / "train/cat/0.png", folder / "train/cat/9.png"),
    "an image moved": lambda folder: (folder / "train/cat/0.png").rename(folder / "train/dog/9.png"),
    "an image renamed": lambda folder: (folder / "train/cat/0.png").rename(folder / "train/cat/9.png"),
    "a class renamed": lambda folder: (folder / "train/cat").rename(folder / "train/cow"),
    "an empty class": lambda folder: (folder / "train/cow").mkdir(),
    "another image of the same size and time": rewrite,
    "a byte overwritten": overwrite,
    "all gone": lambda folder: shutil.rmtree(folder),
}


@pytest.mark.parametrize("settled", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_an_image_folder_is_noticed(
    folder: Path, change: str, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "_SETTLED_NS", 0 if settled else 2_000_000_000)
    before = digest(folder)
    assert digest(folder) == before
    if settled:
        time.sleep(0.02)  # the clock of files ticks in steps
    CHANGES[change](folder)
    after = digest(folder)
    assert after != before
    assert digest(folder) == after


def test_what_is_no_image_and_new_times_change_nothing(folder: Path) -> None:
    before = digest(folder)
    (folder / "train" / "cat" / "notes.txt").write_text("x", encoding="utf-8")
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "cat" / ".thumb.png").write_text("x", encoding="utf-8")
    for file in folder.rglob("*.png"):
        os.utime(file)
    assert digest(folder) == before
    for file in folder.rglob("*.png"):
        shutil.copy(file, file.with_suffix(".new"))
        file.with_suffix(".new").replace(file)
    assert digest(folder) == before


def test_files_are_read_once_and_again_if_they_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SETTLED_NS", 0)
    time.sleep(0.02)
    before = digest(folder)
    read: list[str] = []

    def counted(file: object, name: str) -> object:
        read.append(getattr(file, "name", ""))
        return original(file, name)

    original = contents.hashlib.file_digest
    monkeypatch.setattr(contents.hashlib, "file_digest", counted)
    assert digest(folder) == before
    assert read == []
    overwrite(folder)
    digest(folder)
    assert read == [str(folder / "test" / "dog" / "1.png")]


def test_fresh_files_are_not_kept(folder: Path) -> None:
    """They may change again within the tick of the clock."""
    digest(folder)
    cache = folder.parent / "cache.json"
    assert not cache.exists() or json.loads(cache.read_text(encoding="utf-8")) == {}


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"a": 3}', "[" * 100_000])
def test_a_damaged_cache_is_work_done_again(folder: Path, damage: str) -> None:
    before = digest(folder)
    (folder.parent / "cache.json").write_text(damage, encoding="utf-8")
    assert digest(folder) == before


def test_a_cache_that_cannot_be_written_is_work_done_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "_SETTLED_NS", 0)
    time.sleep(0.02)
    (folder.parent / "cache.json").mkdir()
    assert digest(folder) == digest(folder)
