"""How a failed job is reported: its command once and shortened, and at the end the last error of its log."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from pathlib import Path

_COMMAND = re.compile(r"Command '.*' (returned non-zero exit status|died with)", re.DOTALL)
_PROGRAM = re.compile(r"[^\s']*workflow/scripts/\w+\.py")
_LONGEST = 200
_SHOWN = 40
_ERROR = re.compile(r"error: |[\w.]+(Error|Exception|Interrupt)\b")
_TAIL = 1 << 14


class ShortCommands(logging.Filter):
    """Shortens the commands in Snakemake's messages about failed jobs.

    A command holds every setting and every digest of code, thousands of characters. Snakemake shows it in full with
    ``--printshellcmds``.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.msg, str):
            record.msg = _COMMAND.sub(r"Its command \1", record.msg)
        # Commands that the user asked for come with another event.
        command = getattr(record, "shellcmd", None)
        if "error" in str(getattr(record, "event", "")) and isinstance(command, str):
            vars(record)["shellcmd"] = short(command)
        return True


def short(command: str) -> str:
    """The program of a long command; a short command is unchanged."""
    if len(command) <= _LONGEST:
        return command
    program = _PROGRAM.search(command)
    shown = program[0] if program else command[:_SHOWN]
    return f"{shown} ... ({len(command):,} characters; snakemake --printshellcmds shows them)"


def last_errors(logs: Iterable[Path], since: float) -> list[str]:
    """The last line of each log that ends in an error and was written since a time, with the log's name.

    Args:
        logs: files; those that cannot be read are passed over.
        since: seconds since the epoch.
    """
    found = []
    for log in logs:
        try:
            if log.stat().st_mtime < since:
                continue
            last = last_line(log)
        except OSError:
            continue
        if is_error(last):
            found.append(f"{log}: {last}")
    return found


def last_line(log: Path) -> str:
    """The last line of a log that is not blank; of a progress bar, its last state.

    Raises:
        OSError: the log cannot be read.
    """
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL))
        lines = re.split(r"[\r\n]", file.read().decode("utf-8", "replace"))
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def is_error(line: str) -> bool:
    """Whether a program that ends with this line has failed."""
    return _ERROR.match(line) is not None
