"""Make the table of poisons' transfer to clean networks, beside their effect on victims and the published numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from poisonlab.config.stages import read_stage
from poisonlab.config.transfer import Score
from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.choosing import refusal
from poisonlab.evaluation.layouts import write_table
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.table_program import KINDS
from poisonlab.evaluation.transfer import OUTCOMES, transfer_findings, transfer_layout, transfer_table
from poisonlab.files import read_sealed
from poisonlab.runtime.program import run, settings, spec_parser

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
    settings: str | None = None
    """Digest of the settings that its shares must have; not compared if not given."""
    seeds: tuple[int, ...] = ()
    """The expected seeds; without any, no seed is reported as missing."""


class TransferTable(Settings):
    """What the table shows."""

    description: str
    scale: tuple[str, ...] = ()
    rows: tuple[Shown, ...]
    defense: Name | None
    """The undefended row, if there is one."""
    networks: tuple[Name, ...]
    shared: tuple[Name, ...] = ()
    """The networks that are the same for all seeds."""
    score: Score
    table: int | None = None


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    arguments.add_argument("--measured", type=Path, nargs="*", default=[], help="shares of each poison set (JSON)")
    arguments.add_argument("--results", type=Path, required=True, help="the study's own table (CSV)")
    arguments.add_argument("--reference", type=Path, help="folder of the paper")
    for kind in KINDS:
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(TransferTable, settings(args.spec))

    found, refused = sorted_out([read_sealed(path) for path in args.measured], stage.rows)
    shares = pd.DataFrame(
        [{"attack": each["attack"], **{name: each["shares"][name] for name in stage.networks}} for each in found],
        columns=["attack", *stage.networks],
    )
    # By default pandas takes a row called "null" for a missing value, and an attack called "7" for a number.
    names = dict.fromkeys(("attack", "victim", "defense"), str)
    empty = {measure.name: ["", "nan"] for measure in OUTCOMES}
    results = pd.read_csv(args.results, dtype=names, keep_default_na=False, na_values=empty)
    first = results["attack"].map({row.attack: row.victim for row in stage.rows})
    undefended = (results["victim"] == first) & (results["defense"] == stage.defense)
    paper, numbers = None, pd.DataFrame(columns=["table", "row", "measure", "value"])
    if args.reference is not None and stage.table is not None:
        paper, numbers = read_paper(args.reference), published(args.reference)
    rows = {row.attack: row.called for row in stage.rows}
    but = f", but the same {', '.join(stage.shared)}" if stage.shared else ""
    table = transfer_table(shares, results[undefended], numbers[numbers["table"] == stage.table], rows)
    notes = [
        stage.description if paper is None else paper.beside(stage.table or 0, stage.description),
        *stage.scale,
        _NOTES[stage.score],
        f"n: seeds, each with its own networks and poisons{but}; transfer is their mean. Bold: within 1 % of the best, "
        "which is the highest transfer and the lowest accuracy.",
        f"Peak and final accuracy are of victim {' and '.join(dict.fromkeys(row.victim for row in stage.rows))}.",
        *([] if paper is None else [f"Published: {paper.setting}, {paper.table(stage.table or 0).setting}."]),
        *missing(stage.rows, found),
        *refused,
    ]
    write_table(vars(args), table, transfer_layout(table, stage.networks, paper), transfer_findings(table), notes)


Shares = Mapping[str, Any]
"""The output of the program ``transfer.py``."""


def sorted_out(found: Sequence[Shares], rows: Sequence[Shown]) -> tuple[list[Shares], list[str]]:
    """The shares with the expected settings, and a sentence about each attack with other settings."""
    expected = {row.attack: row.settings for row in rows}
    kept = [each for each in found if expected[each["attack"]] in (None, each.get("settings"))]
    others: dict[str, list[int]] = {}
    for each in found:
        if each not in kept:
            others.setdefault(each["attack"], []).append(each["seed"])
    told = [f"{attack} (seeds {', '.join(map(str, sorted(seeds)))})" for attack, seeds in others.items()]
    return kept, list(map(refusal, told))


def missing(rows: Sequence[Shown], found: Sequence[Shares]) -> list[str]:
    """How many of the expected poison sets are not measured yet; nothing if none are."""
    known = {(each["attack"], each["seed"]) for each in found}
    expected = [(row.attack, seed) for row in rows for seed in row.seeds]
    count = sum(pair not in known for pair in expected)
    return [f"Not measured yet: {count} of {len(expected)} poison sets."] if count else []


if __name__ == "__main__":
    run(main)
