"""Where Snakemake keeps what it knows of how a file was made. Standard library only."""

from __future__ import annotations

import base64
import os
from pathlib import Path

RECORDS = Path(".snakemake", "metadata")
UNFINISHED = Path(".snakemake", "incomplete")
LOCKS = Path(".snakemake", "locks")


def record_of(path: str, folder: Path = RECORDS) -> Path:
    """The record of a file, named as in a rule's output; in another ``folder``, the mark of one that is being made."""
    name = base64.urlsafe_b64encode(path.encode()).decode()
    # A name too long for the file system becomes folders; so does Snakemake.
    longest = os.pathconf(".", "PC_NAME_MAX") - 1
    *folders, last = [name[start : start + longest] for start in range(0, len(name), longest)]
    return Path(folder, *(f"@{part}" for part in folders), last)
