"""Make the table of one ablation: a defense with some of its settings varied."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field

from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name
from poisonlab.evaluation.ablation_layout import VariantOf, compare_variants, readable_variants
from poisonlab.evaluation.choosing import Shown, choose_trials, diverged, missing, refusal
from poisonlab.evaluation.findings import ablation_finding
from poisonlab.evaluation.table_program import outputs, parser
from poisonlab.runtime.program import run, settings


class AblationTable(Shown):
    """What the table shows."""

    name: Name
    title: str
    defense: Name
    method: Name
    settings: Annotated[tuple[str, ...], Field(min_length=1)]
    """Those that vary, in the order of the columns."""
    variants: Annotated[tuple[VariantOf, ...], Field(min_length=1)]


NOTE = (
    "Measures and intervals as in the study's table. p: paired test against the study's own row on the same poisons, "
    "Holm-corrected over the attack's other rows."
)


def main(argv: Sequence[str]) -> None:
    args = parser(__doc__).parse_args(argv)
    stage = read_stage(AblationTable, settings(args.spec))

    trials, refused = choose_trials(stage, args.trials)
    compared = compare_variants(trials, stage, stage.variants, stage.defense, stage.settings)
    undefended = stage.compare[0] if stage.compare else None
    notes = [
        stage.title or f"{stage.method} of row {stage.defense} with other {' and '.join(stage.settings)}.",
        stage.description,
        *stage.scale,
        NOTE,
        *diverged(trials),
        *missing(stage.lines, trials),
        *map(refusal, refused),
    ]
    findings = ablation_finding(compared, stage.by_attack, stage.settings, undefended)
    table = readable_variants(compared, stage.by_attack, stage.settings, undefended)
    counted = [[row] for row in zip(compared["attack"], compared["victim"], compared["row"], strict=True)]
    outputs(args).write(compared, table, findings, notes, counted)


if __name__ == "__main__":
    run(main)
