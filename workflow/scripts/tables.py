"""Turn trials into tables: tidy CSV, Markdown and LaTeX, and what each defense costs."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from poisonlab.config.stages import read_stage
from poisonlab.config.types import Settings
from poisonlab.errors import SettingsError
from poisonlab.evaluation.choosing import Claim, Line, choose_trials, diverged, missing, refusal
from poisonlab.evaluation.findings import results_findings
from poisonlab.evaluation.layouts import latex, markdown, readable, timing
from poisonlab.evaluation.published import SETTINGS
from poisonlab.evaluation.published import published as read_published
from poisonlab.evaluation.results import REFERENCE_ROW, tidy_results
from poisonlab.evaluation.trials import Trial
from poisonlab.files import atomic_path, write_text
from poisonlab.runtime.program import run, settings


class Tables(Settings):
    """What the tables show."""

    description: str
    scale: tuple[str, ...] = ()
    """What was run at what scale, a sentence each."""
    lines: tuple[Line, ...]
    claims: tuple[Claim, ...] = ()
    """The published lines that an attack's results are set beside."""


NOTES = (
    "Poison success: share of seeds whose target gets the adversarial label after training; Wilson 95 % interval.",
    "Test accuracy: mean over seeds; Student's t 95 % interval, cut to [0, 100].",
    "p: exact McNemar test against 'none', and against FRIENDS-B where the study has it, on the same poisons, "
    "Holm-corrected over the rows of the attack.",
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
    "in our interval."
)
PRINTED_NOTE = "Table 1's printed +- is p(1-p)/sqrt(n), not a standard error, and is not repeated."


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
    known = _published(args.reference, stage.claims)
    # A row may face several attacks; one of their tables must know it by the name that it gives itself.
    for line in stage.lines:
        faced = {other.attack for other in stage.lines if other.defense == line.defense}
        names = sorted({defense for attack, defense in known if attack in faced})
        if line.called != line.defense and names and line.called not in names:
            raise SettingsError(f"defense {line.defense!r}: published {line.called!r} is not one of {names}")
    pairs = [(line.attack, line.defense) for line in stage.lines]
    beside = {
        (line.attack, line.defense): known[line.attack, line.called]
        for line in stage.lines
        if (line.attack, line.called) in known
    }
    results = tidy_results(trials, beside, pairs)
    table = readable(results)
    controls = [(line.attack, line.defense) for line in stage.lines if line.control]
    findings = [f"Finding: {finding}" for finding in results_findings(results, controls)]
    notes = [
        stage.description,
        *findings,
        *stage.scale,
        *_notes(trials, stage),
        *diverged(trials),
        *missing(stage.lines, trials),
        *map(refusal, refused),
    ]
    write_text(args.md, markdown(table, notes))
    write_text(args.tex, latex(table, notes))
    write_text(args.time, markdown(timing(results, REFERENCE_ROW), [TIME_NOTE]))
    with atomic_path(args.csv) as temporary:
        results.to_csv(temporary, index=False, lineterminator="\n")


def _notes(trials: Sequence[Trial], stage: Tables) -> list[str]:
    notes = [*NOTES]
    notes += [TRIGGER_NOTE] if any(trial.triggered for trial in trials) else []
    notes += [DROPPED_NOTE] if any(trial.found and trial.found.dropped for trial in trials) else []
    notes += [REJECTED_NOTE] if any(not math.isnan(trial.false_alarms) for trial in trials) else []
    notes += [PRIVACY_NOTE] if any(not math.isnan(trial.privacy_epsilon) for trial in trials) else []
    tables = sorted({claim.table for claim in stage.claims})
    notes += [PUBLISHED_NOTE.format(table=table, setting=SETTINGS[table]) for table in tables]
    return notes + ([PRINTED_NOTE] if 1 in tables else [])


def _published(folder: Path, claims: Sequence[Claim]) -> dict[tuple[str, str], dict[str, float]]:
    """Success and accuracy in [0, 1] per attack and defense."""
    if not claims:
        return {}
    numbers = read_published(folder)
    names = {"Poison Acc": "success", "Test Acc": "accuracy"}
    known: dict[tuple[str, str], dict[str, float]] = {}
    for where in claims:
        attack = where.attack
        chosen = numbers[(numbers["table"] == where.table) & numbers["column"].isin(list(names))]
        if where.row is not None:
            rows = sorted(chosen["row"].unique())
            chosen = chosen[chosen["row"] == where.row]
            if chosen.empty:
                raise SettingsError(f"attack {attack!r}: published row {where.row!r} is not one of {rows}")
        chosen = chosen[chosen["defense"].notna() & (chosen["defense"] != "")]
        if bool(chosen.duplicated(["defense", "column"]).any()):
            raise SettingsError(
                f"attack {attack!r}: table {where.table} has several rows for the same defense: "
                f"give the row, one of {sorted(chosen['row'].unique())}"
            )
        for _, row in chosen.iterrows():
            known.setdefault((attack, row["defense"]), {})[names[row["column"]]] = row["value"] / 100
    return known


if __name__ == "__main__":
    run(main)
