"""Turn trials into tables: tidy CSV, Markdown and LaTeX, and what each defense costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from poisonlab.artifacts.files import atomic_path, write_text
from poisonlab.commandline import run, settings
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, Settings
from poisonlab.errors import SettingsError
from poisonlab.evaluation.layouts import latex, markdown, readable, timing
from poisonlab.evaluation.published import published as read_published
from poisonlab.evaluation.results import REFERENCE_ROW, tidy_results
from poisonlab.evaluation.trials import Trial, read_trials


class Line(Settings):
    """One row of the study, and which trials belong to it."""

    attack: Name
    defense: Name
    control: bool
    seeds: tuple[int, ...]
    settings: str
    """Digest that its trials must carry."""


class Published(Settings):
    """Which published numbers an attack's results are set beside."""

    table: int
    row: str | None = None


class Tables(Settings):
    """What the tables show."""

    description: str
    lines: tuple[Line, ...]
    published: dict[str, Published] = Field(default_factory=dict)
    """By attack: the lines of the paper that its rows are set beside."""
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
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    arguments.add_argument("--reference", type=Path, required=True, help="folder of the published numbers")
    for kind in ("csv", "md", "tex", "time"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Tables, settings(args.spec))

    trials, refused = choose_trials(stage.lines, args.trials)
    for reason in refused:
        print(f"refused: {reason}")
    known = _published(args.reference, stage.published)
    for row, alias in stage.aliases.items():
        if known and alias not in (names := {defense for _, defense in known}):
            raise SettingsError(f"defense {row!r}: published {alias!r} is not one of {sorted(names)}")
    pairs = [(line.attack, line.defense) for line in stage.lines]
    beside = {pair: known[key] for pair in pairs if (key := (pair[0], stage.aliases.get(pair[1], pair[1]))) in known}
    results = tidy_results(trials, beside, pairs)
    table = readable(results)
    notes = [stage.description, *_notes(trials, stage), *_missing(stage.lines, trials), *map(_refusal, refused)]
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    write_text(args.time, markdown(timing(results, REFERENCE_ROW), [TIME_NOTE]))
    with atomic_path(args.csv) as temporary:
        results.to_csv(temporary, index=False, lineterminator="\n")


def choose_trials(lines: Sequence[Line], files: Sequence[Path]) -> tuple[list[Trial], list[str]]:
    """The trials of the study's cells, the first file's before another's, in the study's order; and why others were
    refused."""
    wanted = {(line.attack, line.defense, seed): line for line in lines for seed in line.seeds}
    chosen: dict[tuple[str, str, int], Trial] = {}
    refused: dict[str, list[int]] = {}
    for path in files:
        for trial in read_trials(path):
            if (line := wanted.get(trial.key)) is None or trial.key in chosen:
                continue
            if trial.settings != line.settings:
                refused.setdefault(f"{trial.attack}/{trial.defense} of {path.name}", []).append(trial.seed)
                continue
            chosen[trial.key] = replace(trial, control=line.control)
    reasons = [f"{rows} (seeds {', '.join(map(str, seeds))})" for rows, seeds in refused.items()]
    return [chosen[key] for key in wanted if key in chosen], reasons


def _refusal(name: str) -> str:
    return f"Refused, because made with other settings than this study's: {name}."


def _missing(lines: Sequence[Line], trials: Sequence[Trial]) -> list[str]:
    """What the study asks for and nobody has run."""
    have = {trial.key for trial in trials}
    cells = [(line.attack, line.defense, seed) for line in lines for seed in line.seeds]
    gone = [cell for cell in cells if cell not in have]
    return [f"Not run yet: {len(gone)} of {len(cells)} victims."] if gone else []


def _notes(trials: Sequence[Trial], stage: Tables) -> list[str]:
    notes = [*NOTES]
    notes += [TRIGGER_NOTE] if any(trial.triggered for trial in trials) else []
    notes += [DROPPED_NOTE] if any(trial.found and trial.found.dropped for trial in trials) else []
    notes += [REJECTED_NOTE] if any(not math.isnan(trial.false_alarms) for trial in trials) else []
    notes += [PRIVACY_NOTE] if any(not math.isnan(trial.privacy_epsilon) for trial in trials) else []
    tables = sorted({published.table for published in stage.published.values()})
    return notes + [PUBLISHED_NOTE.format(table=table, setting=SETTINGS[table]) for table in tables]


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
