"""Settings of programs that gather whole studies come through a pipe, as the rules of tables and reports send them."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]


def sent(strings: list[str], folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Pipe ``strings`` into a program from a script, as Snakemake does with a long command."""
    script = folder / "script.sh"
    receive = shlex.join([sys.executable, "-c", f"from poisonlab.runtime.program import settings; {code}"])
    script.write_text(f"set -euo pipefail; printf '%s\\0' {shlex.join(strings)} | {receive}\n", encoding="utf-8")
    command = ["env", f"PYTHONPATH={ROOT / 'src'}", "bash", str(script)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_ten_thousand_rows_arrive(tmp_path: Path) -> None:
    row = {"settings": "0123456789ab", "seeds": [0], "control": False, "called": "none", "noise": True, "filter": False}
    lines = [{"attack": f"attack{place // 100}", "defense": f"row{place}", **row} for place in range(10_000)]
    strings = spec(lines=lines)
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["true", *strings], check=False)
    done = sent(strings, tmp_path, "found = settings(['-'])['lines']; print(len(found), found[9999]['defense'])")
    assert done.stdout == "10000 row9999\n", done.stderr


def test_marks_arrive_as_they_are(tmp_path: Path) -> None:
    text = 'it\'s\n"$(id)" \\0 %s `x` \t é {x}'
    done = sent(spec(description=text), tmp_path, "print(ascii(settings(['-'])['description']))")
    assert done.stdout == ascii(text) + "\n", done.stderr


def test_what_is_malformed_is_said(tmp_path: Path) -> None:
    done = sent(["a"], tmp_path, "settings(['-'])")
    assert done.returncode != 0
    assert "'a' is not of the form section.key=value" in done.stderr
