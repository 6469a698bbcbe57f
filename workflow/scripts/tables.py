"""Gather the victims' outcomes into tables: tidy CSV, Markdown and LaTeX, and what each defense costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import Field

from poisonlab.artifacts.files import atomic_path, read_json, write_text
from poisonlab.commandline import run, settings
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, Settings
from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation.layouts import latex, markdown, readable, timing
from poisonlab.evaluation.published import published as read_published
from poisonlab.evaluation.results import REFERENCE_ROW, Trial, tidy_results


class Cell(Settings):
    """Which files belong to one victim, by place in the arguments."""

    attack: Name
    defense: Name
    seed: int
    control: bool
    noise: int | None
    """Place of the noise job's card, if the victim's defense needed one."""


class Published(Settings):
    """Which published numbers an attack's results are set beside."""

    table: int
    row: str | None = None


class Tables(Settings):
    """What the tables show."""

    description: str
    cells: tuple[Cell, ...]
    published: dict[str, Published] = Field(default_factory=dict)
    """By attack."""


NOTES = (
    "Poison success: share of seeds whose target gets the adversarial label after training; Wilson 95 % interval.",
    "Test accuracy: mean over seeds; Student's t 95 % interval.",
    "p: exact McNemar test against 'none' on the same poisons, Holm-corrected over the rows of the attack.",
    "'clean' is the control: a victim trained on unpoisoned data, judged on the same targets.",
)
TRIGGER_NOTE = (
    "Attacks with a trigger: mean over seeds of the share of triggered test images that get the adversarial label, "
    "with Student's t interval cut to [0, 100] and a paired permutation test; 'without trigger' is that share of the "
    "same images before the trigger is put on."
)
PUBLISHED_NOTE = (
    "Published: FRIENDS, table {table} (CIFAR-10, ResNet-18, {setting}); inside/outside says whether the value lies "
    "in our interval. Table 1's printed +- is p(1-p)/sqrt(n), not a standard error, and is not repeated."
)
SETTINGS = {
    1: "80 epochs, 20 poison sets",
    2: "40 epochs, 24 poison sets",
    3: "80 epochs from scratch, 40 in transfer",
    4: "80 epochs, 20 poison sets",
    5: "40 epochs, 24 poison sets",
    6: "80 epochs, 20 poison sets",
}


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--metrics", type=Path, nargs="+", required=True, help="one per cell, in order")
    arguments.add_argument("--cards", type=Path, nargs="+", required=True, help="one per cell, in order")
    arguments.add_argument("--noise-cards", type=Path, nargs="*", default=[])
    arguments.add_argument("--reference", type=Path, required=True, help="folder of the published numbers")
    for kind in ("csv", "md", "tex", "time"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Tables, settings(args.spec))
    if not len(stage.cells) == len(args.metrics) == len(args.cards):
        raise DataError(f"{len(stage.cells)} cells need as many --metrics and --cards")

    noise_seconds = [read_json(path)["cost_seconds"] for path in args.noise_cards]
    trials = [
        _trial(cell, metrics, card, 0.0 if cell.noise is None else noise_seconds[cell.noise])
        for cell, metrics, card in zip(stage.cells, args.metrics, args.cards, strict=True)
    ]
    results = tidy_results(trials, _published(args.reference, stage.published))
    notes = [stage.description, *NOTES]
    notes += [TRIGGER_NOTE] if any(trial.triggered for trial in trials) else []
    tables = sorted({published.table for published in stage.published.values()})
    notes += [PUBLISHED_NOTE.format(table=table, setting=SETTINGS[table]) for table in tables]
    table = readable(results)
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    write_text(args.time, markdown(timing(results, REFERENCE_ROW), ["Wall time per run, friendly noise included."]))
    with atomic_path(args.csv) as temporary:
        results.to_csv(temporary, index=False, lineterminator="\n")


def _trial(cell: Cell, metrics: Path, card: Path, noise_seconds: float) -> Trial:
    final = read_json(metrics)["final"]
    try:
        return Trial(
            cell.attack,
            cell.defense,
            cell.seed,
            success=final["success"],
            adversarial_confidence=final["adversarial_confidence"],
            accuracy=final["accuracy"],
            untriggered_success=final.get("untriggered_success", math.nan),
            seconds=read_json(card)["seconds"] + noise_seconds,
            control=cell.control,
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{metrics} or {card} lacks {error}: delete both and run the workflow again") from error


def _published(folder: Path, tables: Mapping[str, Published]) -> dict[tuple[str, str], dict[str, float]]:
    """Success and accuracy in [0, 1] per attack and defense."""
    if not tables:
        return {}
    numbers = read_published(folder)
    names = {"Poison Acc": "success", "Test Acc": "accuracy"}
    known: dict[tuple[str, str], dict[str, float]] = {}
    for attack, where in tables.items():
        chosen = numbers[(numbers["table"] == where.table) & numbers["column"].isin(list(names))]
        if where.row is not None:
            rows = sorted(chosen["row"].unique())
            chosen = chosen[chosen["row"] == where.row]
            if chosen.empty:
                raise SettingsError(f"attack {attack!r}: published_row {where.row!r} is not one of {rows}")
        chosen = chosen[chosen["defense"].notna() & (chosen["defense"] != "")]
        if bool(chosen.duplicated(["defense", "column"]).any()):
            raise SettingsError(
                f"attack {attack!r}: table {where.table} has several rows for the same defense: "
                f"give published_row, one of {sorted(chosen['row'].unique())}"
            )
        for _, row in chosen.iterrows():
            known.setdefault((attack, row["defense"]), {})[names[row["column"]]] = row["value"] / 100
    return known


if __name__ == "__main__":
    run(main)
