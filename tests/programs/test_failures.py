"""What is told of a failed job: a short command, and the error that its log ends with."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from snakemake_interface_logger_plugins.common import LogEvent

from poisonlab.runtime.failures import ShortCommands, last_errors, short

COMMAND = "PYTHONPATH=src bin/python workflow/scripts/craft.py " + " ".join(
    f"--spec key{place}='it''s {place}'" for place in range(200)
)


def record(message: str, **more: object) -> logging.LogRecord:
    found = logging.LogRecord("snakemake", logging.ERROR, "", 0, message, (), None)
    vars(found).update(more)
    return found


def test_long_commands_are_shortened_where_a_job_failed() -> None:
    error = record(f"CalledProcessError in file x:\nCommand '{COMMAND}\n more' returned non-zero exit status 2.")
    assert ShortCommands().filter(error)
    assert error.getMessage() == "CalledProcessError in file x:\nIts command returned non-zero exit status 2."
    told = record("", event=LogEvent.JOB_ERROR, shellcmd=COMMAND)
    ShortCommands().filter(told)
    assert vars(told)["shellcmd"] == short(COMMAND)
    assert len(short(COMMAND)) < 200
    assert short(COMMAND).startswith("workflow/scripts/craft.py ... (")
    assert f"({len(COMMAND):,} characters" in short(COMMAND)
    assert short("python a.py") == "python a.py"


def test_a_command_that_was_asked_for_stays_whole() -> None:
    asked = record(f"Shell command: {COMMAND}", event=LogEvent.SHELLCMD, shellcmd=COMMAND)
    assert ShortCommands().filter(asked)
    assert vars(asked)["shellcmd"] == COMMAND
    assert COMMAND in asked.getMessage()


def test_the_last_errors_of_logs(tmp_path: Path) -> None:
    texts = {
        "bad.log": "bar 50%\nerror: photos/train is missing: correct root\n\n",
        "bug.log": "Traceback (most recent call last):\n  File x\nKeyError: 'a'\n",
        "long.log": "x" * 100_000 + "\nerror: the end\n",
        "cured.log": "error: once\ndone\n",
        "fine.log": "warning: two images\n",
        "empty.log": "",
        "odd.log": "error: \udcff",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    (tmp_path / "old.log").write_text("error: of yesterday\n", encoding="utf-8")
    os.utime(tmp_path / "old.log", (1, 1))
    found = last_errors(sorted([*tmp_path.iterdir(), tmp_path / "gone.log"]), since=2)
    assert found == [
        f"{tmp_path}/bad.log: error: photos/train is missing: correct root",
        f"{tmp_path}/bug.log: KeyError: 'a'",
        f"{tmp_path}/long.log: error: the end",
        f"{tmp_path}/odd.log: error: \ufffd",
    ]
