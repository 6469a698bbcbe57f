"""Write the report of a study: one HTML file with its tables, its figures, and where every victim was trained."""

from __future__ import annotations

import argparse
import base64
import csv
import math
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, TypedDict

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import Field, ValidationError

from poisonlab.config.stages import read_stage
from poisonlab.config.types import FilePath, Name, Settings
from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.choosing import AttackMeasures, Line, first_victims
from poisonlab.evaluation.trials import CLASSES, PROVENANCE, Key, Trial, at_first_victim, read_trials
from poisonlab.files import read_sealed, write_text
from poisonlab.runtime.program import run, settings


class Block(Settings):
    """One table or figure."""

    title: str
    table: FilePath | None = None
    """Markdown file; not read where there are findings, whose file holds the table as well."""
    findings: FilePath | None = None
    """JSON file of a table: what it says, the table itself, and its notes."""
    png: FilePath | None = None
    caption: FilePath | None = None
    """Text file; of a figure."""


class Section(Settings):
    """A part of the report."""

    title: str
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]


class _Table(Settings):
    """One table of a JSON file (see ``poisonlab.evaluation.layouts.Outputs``)."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class _Findings(Settings):
    """What such a file holds."""

    findings: tuple[str, ...]
    notes: tuple[str, ...]
    tables: tuple[_Table, ...]


class Report(Settings):
    """What the report shows."""

    study: Name
    description: str
    scale: tuple[str, ...] = ()
    lines: tuple[Line, ...]
    measures: tuple[AttackMeasures, ...] = ()
    """What the victims' outcomes are called."""
    sections: tuple[Section, ...] = ()
    cards: FilePath
    """Pattern of a victim's run card, with {attack}, {victim}, {defense} and {seed}."""
    detections: FilePath
    """The same of rows that examine another row's victim."""
    detectors: tuple[Name, ...] = ()
    """Those rows."""


class _Victim(TypedDict):
    """A line of the table of all victims."""

    trial: Trial
    card: str
    """Where its run card lies from the report; "" for a trial from elsewhere."""
    source: str
    """The file that a trial from elsewhere stands in."""
    place: dict[str, str]
    """What its run card says."""


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--template", type=Path, required=True, help="jinja template of the page")
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    arguments.add_argument("--html", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Report, settings(args.spec))

    victims = _victims(stage, args.trials, args.html.parent)
    trials = [victim["trial"] for victim in victims]
    looks = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = looks.from_string(_text(str(args.template)))
    write_text(
        args.html,
        page.render(
            stage=stage,
            asked=sum(len(line.seeds) for line in stage.lines),
            victims=victims,
            measures=_measures(stage, trials),
            diverged=sum(bool(trial.failed) for trial in trials),
            attacked=_attacked(trials),
            places=_places(victims),
            hours=sum(trial.seconds for trial in trials if not math.isnan(trial.seconds)) / 3600,
            sections=[
                {"title": section.title, "blocks": list(map(_block, section.blocks))} for section in stage.sections
            ],
        ),
    )


def _block(block: Block) -> dict[str, object]:
    shown: dict[str, object] = {"title": block.title, "table": None, "findings": None, "image": None, "caption": ""}
    if block.findings is not None:
        shown["findings"] = _findings(block.findings)
    elif block.table is not None:
        # HTML in names or descriptions is shown, not interpreted, and nothing is loaded from elsewhere.
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
        shown["table"] = Markup(markdown.render(_text(block.table)))
    if block.png is not None:
        shown["image"] = base64.b64encode(_bytes(block.png)).decode()
    if block.caption is not None:
        shown["caption"] = _text(block.caption).strip()
    return shown


def _findings(path: str) -> _Findings:
    try:
        return _Findings.model_validate(read_sealed(Path(path)))
    except ValidationError as error:
        raise DamagedError(Path(path), "it holds no table") from error


def _victims(stage: Report, files: Sequence[Path], folder: Path) -> list[_Victim]:
    """The trials that the tables are made of, with what their run cards say and where those lie."""
    wanted = {(*line.row, seed): line for line in stage.lines for seed in line.seeds}
    first = first_victims([line.row for line in stage.lines])
    found: dict[Key, _Victim] = {}
    for path in files:
        trials = read_trials(path)
        with path.open(encoding="utf-8", newline="") as file:
            for read, row in zip(trials, csv.DictReader(file), strict=True):
                trial = at_first_victim(read, first)
                line = wanted.get(trial.key)
                if line is not None and trial.settings == line.settings and trial.key not in found:
                    own = path == files[0]
                    found[trial.key] = {
                        "trial": trial,
                        "place": {name: row[name] for name in PROVENANCE},
                        "card": _card(stage, trial, folder) if own else "",
                        "source": "" if own else str(path),
                    }
    return [found[key] for key in wanted if key in found]


def _card(stage: Report, trial: Trial, folder: Path) -> str:
    """From the report to the run card."""
    pattern = stage.detections if trial.defense in stage.detectors else stage.cards
    names = dict(zip(("attack", "victim", "defense", "seed"), trial.key, strict=True))
    return os.path.relpath(pattern.format(**names), folder)


def _measures(stage: Report, trials: Sequence[Trial]) -> dict[str, str]:
    """Names and titles of all measures, those of the attacks first."""
    named = {measure.name: measure.label for each in stage.measures for measure in each.measures}
    return named | {name: name for trial in trials for name in trial.measures if name not in named}


def _attacked(trials: Sequence[Trial]) -> list[tuple[str, str, Trial]]:
    """The classes that each attack is about: its name, its seeds with these classes, and a trial of theirs."""
    sets: dict[tuple[str, int], Trial] = {}
    for trial in trials:
        if trial.classes:
            sets.setdefault((trial.attack, trial.seed), trial)
    lines: dict[tuple[str, ...], list[Trial]] = {}
    for trial in sets.values():
        lines.setdefault((trial.attack, *(trial.classes.get(name, "") for name in CLASSES)), []).append(trial)
    return [(found[0].attack, ", ".join(str(trial.seed) for trial in found), found[0]) for found in lines.values()]


def _places(victims: Sequence[_Victim]) -> list[str]:
    """What ran where, a line per combination of device and versions."""
    names = ("device", "threads", "torch", "python", "commit")
    kinds = Counter(tuple(victim["place"][name] or "unknown" for name in names) for victim in victims)
    return [
        f"{count} on {device} ({threads} CPU thread{'s' * (threads != '1')}), torch {torch}, Python {python}, "
        f"commit {commit}"
        for (device, threads, torch, python, commit), count in kinds.most_common()
    ]


def _text(path: str) -> str:
    try:
        return _bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedError(Path(path), "no UTF-8 text") from error


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): run the workflow to make it") from error


if __name__ == "__main__":
    run(main)
