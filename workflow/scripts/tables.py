"""Turn trials into tables: tidy CSV, Markdown, LaTeX and JSON, and what each defense costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from poisonlab.config.filter_claim import FilterClaim
from poisonlab.config.poison_claims import PoisonClaims
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.choosing import Claim, Shown, choose_trials, diverged, missing, refusal, unmatched
from poisonlab.evaluation.filtering import filter_findings
from poisonlab.evaluation.findings import paired_findings, results_findings
from poisonlab.evaluation.layouts import for_report, joined_note, markdown, readable, side_by_side, timing, write_table
from poisonlab.evaluation.notes import method_notes
from poisonlab.evaluation.paper_layout import published_by_row
from poisonlab.evaluation.poison_claims import poison_findings
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.results import tidy_results
from poisonlab.evaluation.successes import HITS_NOTE, attacks_with_hits, beside, over_hits
from poisonlab.evaluation.table_program import parser
from poisonlab.evaluation.trials import Row
from poisonlab.files import write_sealed, write_text
from poisonlab.runtime.program import run, settings


class Joined(Settings):
    """A line that rows share in tables of attacks side by side."""

    line: Name
    rows: tuple[Name, ...]
    """No two of these rows face the same attack."""


class Tables(Shown):
    """What the tables show."""

    claims: tuple[Claim, ...] = ()
    """The published lines that are shown beside an attack's results."""
    filter_claim: FilterClaim | None = None
    """The claim that findings compare filters with."""
    only_filters: tuple[Name, ...] = ()
    """The rows that only filter, to which this claim applies."""
    poison_claims: PoisonClaims | None = None
    """The claims that findings compare attacks without a goal with."""
    joined: tuple[Joined, ...] = ()
    """The lines with several rows, or with another name than their row."""


TIME_NOTE = (
    "Wall time per run: training, friendly noise, and for filters and detectors also the training of the row that they "
    "look at{relative}. Surrogates that filters look at are not counted."
)
SIDE_BY_SIDE_NOTE = (
    "The tables against every attack hold means over seeds, with n where the attack's undefended row has more of them; "
    "intervals stand in the table of each attack."
)
PUBLISHED_NOTE = (
    "Published: {paper}, table {table} ({setting}); inside/outside says whether the value lies in our interval."
)


def main(argv: Sequence[str]) -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--reference", type=Path, help="folder of the paper whose numbers are shown beside ours")
    arguments.add_argument("--time", type=Path, required=True, help="output: what each defense costs (Markdown)")
    arguments.add_argument("--costs", type=Path, required=True, help="output: the same for the report (JSON)")
    args = arguments.parse_args(argv)
    stage = read_stage(Tables, settings(args.spec))

    trials, refused, contradicted = choose_trials(stage, args.trials)
    for reason in refused:
        print(f"refused: {reason}")
    known: dict[Row, Mapping[str, float]] = {}
    published_notes: list[str] = []
    if stage.claims:
        known = published_by_row(published(args.reference), stage.claims, stage)
        published_notes = _published_notes(args.reference, sorted({claim.table for claim in stage.claims}))
    rows = [line.row for line in stage.lines]
    results = tidy_results(trials, stage.by_attack, stage.compare, known, rows, stage.mean_over_victims)
    if stage.only_successes:
        over = over_hits(trials, stage.by_attack, stage.compare[0], known, rows, stage.mean_over_victims)
        results = beside(results, over, stage.by_attack, attacks_with_hits(trials, stage.by_attack))
    undefended = next(iter(stage.compare), None)
    line_of = {row: each.line for each in stage.joined for row in each.rows}
    overview = side_by_side(results, stage.by_attack, undefended, line_of)
    notes = [
        stage.description,
        *stage.scale,
        *method_notes(stage, trials),
        *([SIDE_BY_SIDE_NOTE] if overview else []),
        *joined_note(overview),
        *([HITS_NOTE.format(undefended=stage.compare[0])] if stage.only_successes else []),
        *published_notes,
        *diverged(trials),
        *unmatched(trials, undefended),
        *missing(stage.lines, trials),
        *map(refusal, refused),
        *contradicted,
    ]
    findings = results_findings(results, stage.by_attack, stage.compare)
    findings += paired_findings(results, stage.by_attack, stage.compare)
    findings += filter_findings(trials, undefended, stage.filter_claim, stage.only_filters)
    findings += poison_findings(results, trials, undefended, stage.poison_claims)
    counted = [[row] for row in zip(results["attack"], results["victim"], results["defense"], strict=True)]
    table = readable(results, stage.by_attack, stage.compare)
    write_table(vars(args), results, table, findings, notes, counted, overview)
    costs = timing(results, undefended)
    time_notes = [TIME_NOTE.format(relative=f"; relative to '{undefended}'" if undefended else "")]
    write_text(args.time, markdown(costs, time_notes))
    write_sealed(args.costs, for_report(costs, [], time_notes, counted))


def _published_notes(folder: Path, tables: Sequence[int]) -> list[str]:
    paper = read_paper(folder)
    notes = []
    for number in tables:
        table = paper.table(number)
        setting = f"{paper.setting}, {table.setting}"
        notes += [PUBLISHED_NOTE.format(paper=paper.name, table=number, setting=setting), *table.notes]
    return notes


if __name__ == "__main__":
    run(main)
