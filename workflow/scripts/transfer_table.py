"""Make the table of how poisons transfer to clean networks, beside what they do to victims and what was published."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from poisonlab.config.stages import read_stage
from poisonlab.config.transfer import Score
from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.layouts import Outputs
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.transfer import transfer_findings, transfer_layout, transfer_table
from poisonlab.files import read_sealed
from poisonlab.runtime.program import run, settings

_KINDS = ("csv", "md", "tex", "json")
_NOTES = {
    "misclassified": "Transfer: the share of the poisons that a network misclassifies which was trained on clean data.",
    "agreement": "Transfer, as the paper's code counts: poisons that are misclassified where their clean image is not, "
    "and those that are not where it is, over the clean images that are not.",
}


class Shown(Settings):
    """A row: an attack, its first victim, and what the paper calls it."""

    attack: Name
    victim: Name
    called: str


class TransferTable(Settings):
    """What the table shows."""

    description: str
    scale: tuple[str, ...] = ()
    rows: tuple[Shown, ...]
    defense: Name | None
    """The undefended row, if there is one."""
    networks: tuple[Name, ...]
    score: Score
    table: int | None = None


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--measured", type=Path, nargs="+", required=True, help="shares of every poison set (JSON)")
    arguments.add_argument("--results", type=Path, required=True, help="the study's own table (CSV)")
    arguments.add_argument("--reference", type=Path, help="folder of the paper")
    for kind in _KINDS:
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(TransferTable, settings(args.spec))

    found = [read_sealed(path) for path in args.measured]
    shares = pd.DataFrame(
        [{"attack": each["attack"], **{name: each["shares"][name] for name in stage.networks}} for each in found]
    )
    results = pd.read_csv(args.results)
    first = results["attack"].map({row.attack: row.victim for row in stage.rows})
    undefended = (results["victim"] == first) & (results["defense"] == stage.defense)
    paper, numbers = None, pd.DataFrame(columns=["table", "row", "measure", "value"])
    if args.reference is not None and stage.table is not None:
        paper, numbers = read_paper(args.reference), published(args.reference)
    rows = {row.attack: row.called for row in stage.rows}
    table = transfer_table(shares, results[undefended], numbers[numbers["table"] == stage.table], rows)
    notes = [
        stage.description if paper is None else f"{paper.name}, table {stage.table}. Ours: {stage.description}",
        *stage.scale,
        _NOTES[stage.score],
        "n: seeds, each with its own networks and poisons; transfer is their mean. Bold: within 1 % of the best, which "
        "is the highest transfer and the lowest accuracy.",
        *([] if paper is None else [f"Published: {paper.setting}, {paper.table(stage.table or 0).setting}."]),
    ]
    outputs = Outputs(**{kind: getattr(args, kind) for kind in _KINDS})
    outputs.write(table, transfer_layout(table, stage.networks, paper), transfer_findings(table), notes)


if __name__ == "__main__":
    run(main)
