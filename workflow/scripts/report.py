"""Write the report of a study: one HTML file with its tables, its figures, and where every victim was trained."""

from __future__ import annotations

import argparse
import base64
import csv
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import jinja2
from markdown_it import MarkdownIt
from markupsafe import Markup
from pydantic import Field

from poisonlab.config.stages import read_stage
from poisonlab.config.types import FilePath, Name, Settings
from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.choosing import Line
from poisonlab.evaluation.trials import read_trials
from poisonlab.files import write_text
from poisonlab.runtime.program import run, settings

_FINDING = "- Finding: "


class Block(Settings):
    """One table or figure."""

    title: str
    table: FilePath | None = None
    """Markdown file."""
    png: FilePath | None = None
    caption: FilePath | None = None
    """Text file; of a figure."""


class Section(Settings):
    """A part of the report."""

    title: str
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]


class Report(Settings):
    """What the report shows."""

    study: Name
    description: str
    scale: tuple[str, ...] = ()
    lines: tuple[Line, ...]
    sections: tuple[Section, ...] = ()
    cards: FilePath
    """Pattern of a victim's run card, with {attack}, {defense} and {seed}."""
    detections: FilePath
    """The same of rows that examine another row's victim."""
    detectors: tuple[Name, ...] = ()
    """Those rows."""


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--spec", nargs="+", required=True, metavar="KEY=VALUE")
    arguments.add_argument("--template", type=Path, required=True, help="jinja template of the page")
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    arguments.add_argument("--html", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Report, settings(args.spec))

    victims = _victims(stage, args.trials, args.html.parent)
    looks = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    page = looks.from_string(_text(str(args.template)))
    write_text(
        args.html,
        page.render(
            stage=stage,
            asked=sum(len(line.seeds) for line in stage.lines),
            victims=victims,
            diverged=sum(bool(victim["failed"]) for victim in victims),
            places=_places(victims),
            hours=sum(float(victim["seconds"] or 0) for victim in victims) / 3600,
            sections=[
                {"title": section.title, "blocks": list(map(_block, section.blocks))} for section in stage.sections
            ],
        ),
    )


def _block(block: Block) -> dict[str, object]:
    shown: dict[str, object] = {"title": block.title, "table": None, "findings": [], "image": None, "caption": ""}
    if block.table is not None:
        # HTML in names or descriptions is shown, not interpreted, and nothing is loaded from elsewhere.
        markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link", "autolink"])
        lines = _text(block.table).splitlines()
        # What a table says stands above it.
        shown["findings"] = [line.removeprefix(_FINDING) for line in lines if line.startswith(_FINDING)]
        rest = [line for line in lines if not line.startswith(_FINDING)]
        shown["table"] = Markup(markdown.render("\n".join(rest)))
    if block.png is not None:
        shown["image"] = base64.b64encode(_bytes(block.png)).decode()
    if block.caption is not None:
        shown["caption"] = _text(block.caption).strip()
    return shown


def _victims(stage: Report, files: Sequence[Path], folder: Path) -> list[dict[str, str]]:
    """The trials that the tables are made of, with what their run cards say and where those lie."""
    wanted = {(line.attack, line.defense, seed): line for line in stage.lines for seed in line.seeds}
    found: dict[tuple[str, str, int], dict[str, str]] = {}
    for path in files:
        read_trials(path)  # complains about a damaged file
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                key = row["attack"], row["defense"], int(row["seed"])
                line = wanted.get(key)
                if line is not None and row["settings"] == line.settings and key not in found:
                    own = path == files[0]
                    card = _card(stage, row, folder) if own else ""
                    found[key] = {"failed": "", **row, "card": card, "source": "" if own else str(path)}
    return [found[key] for key in wanted if key in found]


def _card(stage: Report, row: Mapping[str, str], folder: Path) -> str:
    """From the report to the run card."""
    pattern = stage.detections if row["defense"] in stage.detectors else stage.cards
    return os.path.relpath(pattern.format(**{name: row[name] for name in ("attack", "defense", "seed")}), folder)


def _places(victims: Sequence[Mapping[str, str]]) -> list[str]:
    """What ran where, a line per combination of device and versions."""
    names = ("device", "threads", "torch", "python", "commit")
    kinds = Counter(tuple(row[name] or "unknown" for name in names) for row in victims)
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
