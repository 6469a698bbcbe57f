"""The arguments that a program gets."""

from __future__ import annotations

import sys

import pytest

from poisonlab.runtime.program import run


def test_the_home_folder_is_found_where_the_shell_leaves_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few shells replace ~ in ``make protect OUT=~/noise.safetensors``, and none within quotes."""
    monkeypatch.setenv("HOME", "/my home")
    monkeypatch.setattr(sys, "argv", ["protect.py", "--out", "~/noise.safetensors", "--spec", "a=~/b", "c/~d"])
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    given: list[str] = []
    run(given.extend)
    assert given == ["--out", "/my home/noise.safetensors", "--spec", "a=~/b", "c/~d"]
