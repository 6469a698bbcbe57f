"""The commit that run cards name: of the code, wherever a job runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from poisonlab.runtime import cards


def git(folder: Path, *arguments: str) -> str:
    named = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(["git", "-C", str(folder), *named, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "lab" / "src").mkdir(parents=True)
    (tmp_path / "file").write_text("1", "utf-8")
    git(tmp_path, "add", "file")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_the_commit_is_of_the_code_and_not_of_the_working_folder(
    repository: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cards, "_CHECKOUT", repository.resolve())
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    head = git(repository, "rev-parse", "HEAD")[:12]
    assert cards.commit() == head
    (repository / "file").write_text("2", "utf-8")
    assert cards.commit() == f"{head}-dirty"


def test_a_package_below_another_repository_has_no_commit(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cards, "_CHECKOUT", (repository / "lab").resolve())
    monkeypatch.chdir(repository)
    assert cards.commit() is None
