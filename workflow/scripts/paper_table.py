"""Make one table of a paper in its own layout, each of our numbers beside the published one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from poisonlab.config.stages import read_stage
from poisonlab.evaluation.choosing import Claim, Shown, choose_trials, diverged, missing, refusal, unmatched
from poisonlab.evaluation.findings import inside_findings
from poisonlab.evaluation.layouts import write_table
from poisonlab.evaluation.paper_layout import compare, counted_victims, paper_layout, table_notes, whose_numbers
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.successes import HITS_NOTE
from poisonlab.evaluation.table_program import parser
from poisonlab.runtime.program import run, settings


class PaperTable(Shown):
    """What the table shows."""

    claims: Annotated[tuple[Claim, ...], Field(min_length=1)]
    """All claims are about one table."""


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--reference", type=Path, required=True, help="folder of the paper")
    args = arguments.parse_args(argv)
    stage = read_stage(PaperTable, settings(args.spec))

    trials, refused, contradicted = choose_trials(stage, args.trials)
    number = stage.claims[0].table
    paper, numbers = read_paper(args.reference), published(args.reference)
    compared, measures = compare(numbers[numbers["table"] == number], trials, stage, stage.claims)
    attacks = {claim.attack for claim in stage.claims}
    shown = [trial for trial in trials if trial.attack in attacks]
    findings = [
        f"{finding}."
        for measure in measures
        for finding in inside_findings(measure, compared[f"published_{measure.name}_inside"])
    ]
    notes = [
        paper.beside(number, stage.description),
        *stage.scale,
        *whose_numbers(compared, stage),
        *table_notes(paper, number, compared),
        *([HITS_NOTE.format(undefended=stage.compare[0])] if stage.only_successes else []),
        *diverged(shown),
        *unmatched(shown, next(iter(stage.compare), None)),
        *missing([line for line in stage.lines if line.attack in attacks], trials),
        *map(refusal, refused),
        *contradicted,
    ]
    table = paper_layout(compared, measures, paper)
    write_table(vars(args), compared, table, findings, notes, counted_victims(compared))


if __name__ == "__main__":
    run(main)
