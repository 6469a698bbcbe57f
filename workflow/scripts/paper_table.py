"""Make one table of the paper in its own layout, each of our numbers beside the published one: CSV, Markdown, LaTeX."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from poisonlab.config.stages import read_stage
from poisonlab.config.types import Settings
from poisonlab.evaluation.choosing import Claim, Line, choose_trials, diverged, missing, refusal
from poisonlab.evaluation.findings import inside_findings
from poisonlab.evaluation.layouts import latex, markdown
from poisonlab.evaluation.paper_layout import compare, paper_layout, table_notes
from poisonlab.evaluation.published import published
from poisonlab.files import atomic_path, write_text
from poisonlab.runtime.program import run, settings


class PaperTable(Settings):
    """What the table shows."""

    description: str
    scale: tuple[str, ...] = ()
    """What was run at what scale, a sentence each."""
    lines: tuple[Line, ...]
    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]
    """All of one table."""


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    arguments.add_argument("--reference", type=Path, required=True, help="folder of the published numbers")
    for kind in ("csv", "md", "tex"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(PaperTable, settings(args.spec))

    trials, refused = choose_trials(stage.lines, args.trials)
    number = stage.claims[0].table
    numbers = published(args.reference)
    compared = compare(
        numbers[numbers["table"] == number],
        trials,
        stage.lines,
        stage.claims,
    )
    table = paper_layout(compared)
    shown = [line for line in stage.lines if line.attack in {claim.attack for claim in stage.claims}]
    notes = [
        f"FRIENDS, table {number}. Ours: {stage.description}",
        *(f"Finding: {finding}." for finding in inside_findings(compared, "success_inside")),
        *stage.scale,
        *table_notes(number, compared),
        *diverged([trial for trial in trials if trial.attack in {line.attack for line in shown}]),
        *missing(shown, trials),
        *map(refusal, refused),
    ]
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    with atomic_path(args.csv) as temporary:
        compared.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
