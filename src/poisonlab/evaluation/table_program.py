"""The common arguments of the programs that make tables."""

from __future__ import annotations

import argparse
from pathlib import Path

from poisonlab.runtime.program import spec_parser

KINDS = ("csv", "md", "tex", "json")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the arguments of every program that turns trials into a table."""
    arguments = spec_parser(description)
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    for kind in KINDS:
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    return arguments
