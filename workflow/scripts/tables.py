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
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.layouts import latex, markdown, readable, timing
from poisonlab.evaluation.published import published as read_published
from poisonlab.evaluation.results import REFERENCE_ROW, Trial, tidy_results


class Cell(Settings):
    """Which files belong to one victim, by place in the arguments."""

    attack: Name
    defense: Name
    seed: int
    control: bool
    noise: int | None = None
    """Place of the noise job's card, if the victim's defense needed one."""
    filter: int | None = None
    """Place of the filter job's card, likewise."""
    network: int | None = None
    """Place of the cell whose victim its filters or detector looked at."""


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
    aliases: dict[str, str] = Field(default_factory=dict)
    """What the published tables call a row, by row, where it is not the row's name."""


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
DROPPED_NOTE = (
    "Poisons found, clean dropped, precision, MCC (Matthews correlation): what filters and training-time defenses "
    "dropped by the end of training, against what was poisoned; means over seeds."
)
REJECTED_NOTE = (
    "False alarms: share of clean test images that a detector turns away. They count as errors in test accuracy, and a "
    "target that is turned away as a failure of the attack."
)
PRIVACY_NOTE = "epsilon: (epsilon, 1/N) differential privacy of the training of one victim (RDP accountant)."
TIME_NOTE = (
    "Wall time per run: training, friendly noise, and for filters and detectors also the training of the network that "
    "they look at; relative to undefended training."
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
    arguments.add_argument("--filter-cards", type=Path, nargs="*", default=[])
    arguments.add_argument("--reference", type=Path, required=True, help="folder of the published numbers")
    for kind in ("csv", "md", "tex", "time"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Tables, settings(args.spec))
    if not len(stage.cells) == len(args.metrics) == len(args.cards):
        raise DataError(f"{len(stage.cells)} cells need as many --metrics and --cards")

    seconds = _costs(stage.cells, args.cards, args.noise_cards, args.filter_cards)
    trials = [
        _trial(cell, metrics, cost) for cell, metrics, cost in zip(stage.cells, args.metrics, seconds, strict=True)
    ]
    known = _published(args.reference, stage.published)
    for row, alias in stage.aliases.items():
        if known and alias not in (names := {defense for _, defense in known}):
            raise SettingsError(f"defense {row!r}: published {alias!r} is not one of {sorted(names)}")
    beside = {
        (cell.attack, cell.defense): known[key]
        for cell in stage.cells
        if (key := (cell.attack, stage.aliases.get(cell.defense, cell.defense))) in known
    }
    results = tidy_results(trials, beside)
    notes = [stage.description, *NOTES]
    notes += [TRIGGER_NOTE] if any(trial.triggered for trial in trials) else []
    notes += [DROPPED_NOTE] if any(trial.found and trial.found.dropped for trial in trials) else []
    notes += [REJECTED_NOTE] if any(not math.isnan(trial.false_alarms) for trial in trials) else []
    notes += [PRIVACY_NOTE] if any(not math.isnan(trial.privacy_epsilon) for trial in trials) else []
    tables = sorted({published.table for published in stage.published.values()})
    notes += [PUBLISHED_NOTE.format(table=table, setting=SETTINGS[table]) for table in tables]
    table = readable(results)
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    write_text(args.time, markdown(timing(results, REFERENCE_ROW), [TIME_NOTE]))
    with atomic_path(args.csv) as temporary:
        results.to_csv(temporary, index=False, lineterminator="\n")


def _costs(
    cells: Sequence[Cell], cards: Sequence[Path], noise_cards: Sequence[Path], filter_cards: Sequence[Path]
) -> list[float]:
    """Seconds per cell: its own job, its noise and filters, and all that the network cost that they looked at."""
    own = [_seconds(path, "seconds") for path in cards]
    noise = [_seconds(path, "cost_seconds") for path in noise_cards]
    filters = [_seconds(path, "seconds") for path in filter_cards]

    def cost(place: int) -> float:
        cell = cells[place]
        return (
            own[place]
            + (0.0 if cell.noise is None else noise[cell.noise])
            + (0.0 if cell.filter is None else filters[cell.filter])
            + (0.0 if cell.network is None else cost(cell.network))
        )

    return [cost(place) for place in range(len(cells))]


def _seconds(card: Path, key: str) -> float:
    try:
        return float(read_json(card)[key])
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{card} lacks {error}: delete it and run the workflow again") from error


def _trial(cell: Cell, metrics: Path, seconds: float) -> Trial:
    content = read_json(metrics)
    try:
        final = content["final"]
        return Trial(
            cell.attack,
            cell.defense,
            cell.seed,
            success=final["success"],
            adversarial_confidence=final["adversarial_confidence"],
            accuracy=final["accuracy"],
            untriggered_success=final.get("untriggered_success", math.nan),
            seconds=seconds,
            control=cell.control,
            found=_detection(content.get("examples")),
            privacy_epsilon=content.get("report", {}).get("privacy_epsilon", math.nan),
            false_alarms=content.get("report", {}).get("false_alarms", math.nan),
        )
    except (KeyError, TypeError) as error:
        raise DataError(f"{metrics} lacks {error}: delete it and run the workflow again") from error


def _detection(counts: Mapping[str, int] | None) -> Detection | None:
    """What was dropped, of a row that trains a victim."""
    return None if counts is None else Detection(**counts)


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
