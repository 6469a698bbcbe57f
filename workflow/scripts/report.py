"""Write the report of a study: one HTML file with its tables, its figures, and every victim with its target."""

from __future__ import annotations

import base64
import hashlib
import io
import math
import os
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, ValidationError

from poisonlab.artifacts.stored import read_stored
from poisonlab.config.stages import read_stage
from poisonlab.config.types import FilePath, Name, Settings
from poisonlab.errors import DamagedError
from poisonlab.evaluation.choosing import MEAN, AttackMeasures, Line, cells_of, trials_of
from poisonlab.evaluation.trials import CLASSES, Key, Row, Trial
from poisonlab.files import read_error, read_sealed, read_text, write_text
from poisonlab.runtime.program import run, settings, spec_parser


class Block(Settings):
    """One table or figure."""

    title: str
    attack: Name | None = None
    """The attack that it is about, if its section is about several."""
    findings: FilePath | None = None
    """JSON file of a table: its findings, the table itself, and its notes."""
    png: FilePath | None = None
    caption: FilePath | None = None
    """Text file of a figure."""


class Section(Settings):
    """A part of the report."""

    title: str
    attack: Name | None = None
    """The attack that it is about."""
    blocks: Annotated[tuple[Block, ...], Field(min_length=1)]


class _Table(Settings):
    """One table of a JSON file (see ``poisonlab.evaluation.layouts.for_report``)."""

    heading: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    victims: tuple[tuple[Row, ...], ...]


class _Findings(Settings):
    """The content of a table's JSON file."""

    findings: tuple[str, ...]
    notes: tuple[str, ...]
    tables: tuple[_Table, ...]


class Poisons(Settings):
    """A poison set with targets."""

    attack: Name
    seed: int
    path: FilePath


class Report(Settings):
    """What the report shows."""

    study: Name
    description: str
    scale: tuple[str, ...] = ()
    lines: tuple[Line, ...]
    measures: tuple[AttackMeasures, ...] = ()
    """Names of the victims' outcomes."""
    sections: tuple[Section, ...] = ()
    cards: FilePath
    """Pattern of a victim's run card, with {attack}, {victim}, {defense} and {seed}."""
    detections: FilePath
    """The same pattern for rows that examine another row's victim."""
    detectors: tuple[Name, ...] = ()
    """The rows that examine another row's victim."""
    poisons: tuple[Poisons, ...] = ()
    """The poison sets with the targets of own victims."""


class _Victim(TypedDict):
    """A line of the table of all victims."""

    trial: Trial
    card: str
    """Path from the report to its run card; "" for a trial from elsewhere."""
    source: str
    """The file of a trial from elsewhere; "" for an own trial."""
    predicted: str
    """How it classifies its targets."""
    targets: Sequence[int]
    """Images of its targets, by number."""


_SHOWN = 3
"""Targets per victim."""
_PIXELS = 64
"""Longest side of a target's image; longer ones are made smaller."""


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    for part in ("template", "style", "script"):
        arguments.add_argument(f"--{part}", required=True, help=f"{part} of the page (jinja2, CSS, JavaScript)")
    arguments.add_argument("--trials", type=Path, nargs="+", required=True, help="own trials, then merged ones (CSV)")
    arguments.add_argument("--html", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Report, settings(args.spec))

    targets, images = _targets(stage.poisons)
    keys = _keys(stage.lines)
    victims = _victims(stage, args.trials, args.html.parent, targets)
    trials = [victim["trial"] for victim in victims]
    looks = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page, style, script = (read_text(Path(path)) for path in (args.template, args.style, args.script))
    write_text(
        args.html,
        looks.from_string(page).render(
            stage=stage,
            style=Markup(style),
            script=Markup(script),
            script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            images=images,
            asked=sum(len(line.seeds) for line in stage.lines),
            victims=victims,
            measures=_measures(stage, trials),
            diverged=sum(bool(trial.failed) for trial in trials),
            attacked=_attacked(trials),
            about=partial(_about, {line.attack for line in stage.lines}),
            on_victim=_on_victim,
            places=_places(trials),
            hours=sum(trial.seconds for trial in trials if not math.isnan(trial.seconds)) / 3600,
            sections=[
                {
                    "title": section.title,
                    "attack": section.attack,
                    "blocks": [_block(block, keys) for block in section.blocks],
                }
                for section in stage.sections
            ],
        ),
    )


def _block(block: Block, keys: Mapping[Row, str]) -> dict[str, object]:
    shown: dict[str, object] = {"title": block.title, "attack": block.attack}
    shown |= {"findings": None, "image": None, "caption": ""}
    if block.findings is not None:
        found = _findings(block.findings)
        shown["findings"] = found
        shown["keys"] = [
            [" ".join(keys[row] for row in rows if row in keys) for rows in table.victims] for table in found.tables
        ]
    if block.png is not None:
        shown["image"] = base64.b64encode(_bytes(block.png)).decode()
    if block.caption is not None:
        shown["caption"] = read_text(Path(block.caption)).strip()
    return shown


def _about(attacks: Collection[str], finding: str) -> str:
    """The attack that a finding begins with, as in "gm on resnet: ..." or "gm, mean over victims: ..."; "" if none."""
    first = re.match("[a-z0-9.-]+(?=:| on |, )", finding)
    return first[0] if first and first[0] in attacks else ""


def _on_victim(finding: str) -> str:
    """The victim that a finding begins with, as in "gm on resnet: ..."; "mean" for their mean; "" if none."""
    found = re.match("[a-z0-9.-]+(?: on ([a-z0-9.-]+)|, (mean) over victims)(?=[:;,])", finding)
    return (found[1] or found[2]) if found else ""


def _findings(path: str) -> _Findings:
    try:
        return _Findings.model_validate(read_sealed(Path(path)))
    except ValidationError as error:
        raise DamagedError(Path(path), "it holds no table") from error


def _keys(lines: Sequence[Line]) -> dict[Row, str]:
    """The mark of each row's victims, ``attack/victim/defense``; a mean over victims has the marks of all victims."""
    of_all: dict[Row, list[str]] = {}
    for line in lines:
        of_all.setdefault((line.attack, MEAN, line.defense), []).append("/".join(line.row))
    return {row: " ".join(keys) for row, keys in of_all.items()} | {line.row: "/".join(line.row) for line in lines}


def _targets(sets: Sequence[Poisons]) -> tuple[dict[tuple[str, int], list[int]], list[str]]:
    """The first targets of each attack and seed, by their numbers; and all images, each once, as PNG in base 64."""
    numbers: dict[str, int] = {}
    targets = {}
    for poisons in sets:
        tensors, _ = read_stored(Path(poisons.path), "poison set", "numpy", np.ndarray.tobytes)
        images = [base64.b64encode(_png(image)).decode() for image in tensors.get("targets", ())[:_SHOWN]]
        targets[poisons.attack, poisons.seed] = [numbers.setdefault(image, len(numbers)) for image in images]
    return targets, list(numbers)


def _png(image: NDArray[Any]) -> bytes:
    """A PNG of an image (C, H, W) uint8; without three channels, the first one is shown."""
    shown = Image.fromarray(image.transpose(1, 2, 0) if len(image) == 3 else image[0])
    shown.thumbnail((_PIXELS, _PIXELS))
    file = io.BytesIO()
    shown.save(file, "PNG", optimize=True)
    return file.getvalue()


def _predicted(trial: Trial) -> str:
    """How a victim classifies its targets, by its measures; "" if these do not show it."""
    measures = trial.measures
    if "success" not in measures:
        return ""
    wanted, right = (trial.classes.get(name, "") for name in ("adversarial_class", "true_class"))
    sure, correct = (measures.get(name, math.nan) for name in ("adversarial_confidence", "target_accuracy"))
    at = "" if math.isnan(sure) else f", adversarial class at {100 * sure:.1f} %"
    if trial.targets != 1:
        of = "the targets" if trial.targets is None else f"{trial.targets} targets"
        more = "" if math.isnan(correct) else f", {100 * correct:.1f} % right"
        return f"{100 * measures['success']:.1f} % of {of} as {wanted or 'adversarial class'}{more}{at}"
    if measures["success"] == 1:
        return (wanted or "adversarial class") + ("" if math.isnan(sure) else f" at {100 * sure:.1f} %")
    if correct == 1:
        return f"{right or 'true class'} (right){at}"
    if measures.get("targets_rejected") == 1:
        return f"turned away{at}"
    return f"{'not the adversarial class' if math.isnan(correct) else 'a third class'}{at}"


def _victims(
    stage: Report, files: Sequence[Path], folder: Path, targets: Mapping[tuple[str, int], Sequence[int]]
) -> list[_Victim]:
    """The trials of the tables, with the paths of their run cards."""
    found: dict[Key, _Victim] = {}
    for path, line, trial in trials_of(stage.lines, files):
        if trial.settings == line.settings and trial.key not in found:
            own = path == files[0]
            found[trial.key] = {
                "trial": trial,
                "card": _card(stage, trial, folder) if own else "",
                "source": "" if own else str(path),
                "predicted": _predicted(trial),
                "targets": targets.get((trial.attack, trial.seed), ()) if own else (),
            }
    return [found[key] for key in cells_of(stage.lines) if key in found]


def _card(stage: Report, trial: Trial, folder: Path) -> str:
    """Path from the report to the run card."""
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


def _places(trials: Sequence[Trial]) -> list[str]:
    """What ran where: a line for each combination of device and versions, with its most frequent commit first."""
    names = ("device", "threads", "torch", "python")
    kinds: dict[tuple[str, ...], Counter[str]] = {}
    for trial in trials:
        known = {name: trial.provenance.get(name, "unknown") for name in (*names, "commit")}
        kinds.setdefault(tuple(known[name] for name in names), Counter())[known["commit"]] += 1
    return [
        f"{commits.total()} on {device} ({threads} CPU thread{'s' * (threads != '1')}), torch {torch}, "
        f"Python {python}, commit{'s' * (len(commits) > 1)} {', '.join(name for name, _ in commits.most_common())}"
        for (device, threads, torch, python), commits in sorted(kinds.items(), key=lambda item: -item[1].total())
    ]


def _bytes(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise read_error(Path(path), error) from error


if __name__ == "__main__":
    run(main)
