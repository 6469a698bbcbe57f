"""Which trials a table is made of: those of the study's cells, made with the study's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from poisonlab.config.types import Name, Settings
from poisonlab.evaluation.trials import Trial, read_trials

_NAMED = 8


class Line(Settings):
    """One row of the study, and which trials belong to it."""

    attack: Name
    defense: Name
    control: bool
    seeds: tuple[int, ...]
    settings: str
    """Digest that its trials must carry."""
    called: Name
    """What the published tables call the defense."""


class Claim(Settings):
    """An attack of the study stands for lines of a published table."""

    attack: Name
    table: int
    row: str | None = None
    """Those of this row; of all rows if not given."""


def choose_trials(lines: Sequence[Line], files: Sequence[Path]) -> tuple[list[Trial], list[str]]:
    """The trials of the study's cells, the first file's before another's, in the study's order; and why others were
    refused."""
    wanted = {(line.attack, line.defense, seed): line for line in lines for seed in line.seeds}
    chosen: dict[tuple[str, str, int], Trial] = {}
    refused: dict[str, list[int]] = {}
    for path in files:
        for trial in read_trials(path):
            if (line := wanted.get(trial.key)) is None:
                continue
            if trial.settings != line.settings:
                refused.setdefault(f"{trial.attack}/{trial.defense} of {path}", []).append(trial.seed)
            elif trial.key not in chosen:
                chosen[trial.key] = replace(trial, control=line.control)
    reasons = [f"{rows} (seeds {', '.join(map(str, seeds))})" for rows, seeds in refused.items()]
    return [chosen[key] for key in wanted if key in chosen], reasons


def refusal(name: str) -> str:
    """The note about a row whose trials were refused."""
    return f"Refused, because made with other settings than this study's: {name}."


def diverged(trials: Sequence[Trial]) -> list[str]:
    """The note about victims without an outcome."""
    failed = [trial for trial in trials if trial.failed]
    if not failed:
        return []
    each = [f"{trial.attack}/{trial.defense}, seed {trial.seed} ({trial.failed})" for trial in failed[:_NAMED]]
    more = f" and {len(failed) - _NAMED} more (see the trials)" if len(failed) > _NAMED else ""
    return [f"Diverged, and left out of all numbers: {len(failed)} of {len(trials)} victims: {'; '.join(each)}{more}."]


def missing(lines: Sequence[Line], trials: Sequence[Trial]) -> list[str]:
    """What the study asks for and nobody has run."""
    have = {trial.key for trial in trials}
    cells = [(line.attack, line.defense, seed) for line in lines for seed in line.seeds]
    gone = [cell for cell in cells if cell not in have]
    return [f"Not run yet: {len(gone)} of {len(cells)} victims."] if gone else []
