"""Make the table of one ablation: a defense with some of its settings varied."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.ablation_layout import VariantOf, compare_variants, readable_variants
from poisonlab.evaluation.choosing import Line, choose_trials, diverged, missing, refusal
from poisonlab.evaluation.findings import ablation_finding
from poisonlab.evaluation.layouts import latex, markdown
from poisonlab.files import atomic_path, write_text
from poisonlab.runtime.program import run, settings


class AblationTable(Settings):
    """What the table shows."""

    description: str
    scale: tuple[str, ...]
    """What was run at what scale, a sentence each."""
    name: Name
    title: str
    defense: Name
    method: Name
    settings: Annotated[tuple[str, ...], Field(min_length=1)]
    """Those that vary, in the order of the columns."""
    lines: tuple[Line, ...]
    variants: Annotated[tuple[VariantOf, ...], Field(min_length=1)]


NOTES = (
    "Success and accuracy as in the study's table. p: paired test against the study's own row on the same poisons, "
    "Holm-corrected over the attack's other rows.",
)


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    for kind in ("csv", "md", "tex"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(AblationTable, settings(args.spec))

    trials, refused = choose_trials(stage.lines, args.trials)
    compared = compare_variants(trials, stage.lines, stage.variants, stage.defense, stage.settings)
    table = readable_variants(compared, stage.settings)
    notes = [
        stage.title or f"{stage.method} of row {stage.defense} with other {' and '.join(stage.settings)}.",
        *(f"Finding: {finding}" for finding in ablation_finding(compared, stage.settings)),
        stage.description,
        *stage.scale,
        *NOTES,
        *diverged(trials),
        *missing(stage.lines, trials),
        *map(refusal, refused),
    ]
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    with atomic_path(args.csv) as temporary:
        compared.to_csv(temporary, index=False, lineterminator="\n")


if __name__ == "__main__":
    run(main)
