"""Write the findings of a scan: a page, a table of all images, and a summary for other programs."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, PositiveInt, PositiveLevels, Settings
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import poisoned_examples
from poisonlab.evaluation.fitting import has_learned, largest_share
from poisonlab.files import read_sealed, read_text, write_sealed, write_text
from poisonlab.runtime.program import run, settings, spec_parser
from poisonlab.scanning import page
from poisonlab.scanning.amounts import usual_suspects
from poisonlab.scanning.duplicates import Neighbourhood
from poisonlab.scanning.features import Features
from poisonlab.scanning.ranking import Ranking


class AttackOf(Settings):
    """An attack whose poisons were planted."""

    name: Name
    method: Name


class Page(Settings):
    """What the page is about."""

    scan: Name
    dataset: dict[str, object]
    """Settings of its source, which decides the names of images."""
    suspects: PositiveInt | None = None
    neighbours: PositiveInt
    near: PositiveLevels
    weights: bool
    """Whether the network is the user's."""
    attacks: tuple[AttackOf, ...] = ()


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    arguments.add_argument("--dataset", type=Path, required=True, help="the dataset (.safetensors)")
    arguments.add_argument("--template", type=Path, required=True, help="jinja template of the page")
    arguments.add_argument("--features", type=Path, required=True, help="features of the first network")
    arguments.add_argument("--suspects", type=Path, nargs="+", required=True, help="rankings, one per network")
    arguments.add_argument("--neighbours", type=Path, required=True, help="neighbours and duplicates")
    arguments.add_argument("--planted", type=Path, nargs="*", default=[], help="rankings of data with planted poisons")
    arguments.add_argument("--poisons", type=Path, nargs="*", default=[], help="the planted poisons")
    arguments.add_argument("--victims", type=Path, nargs="*", default=[], help="metrics of networks trained on them")
    for kind in ("html", "csv", "json"):
        arguments.add_argument(f"--{kind}", type=Path, required=True, help="output")
    args = arguments.parse_args(argv)
    stage = read_stage(Page, settings(args.spec))
    dataset, features = read_dataset(args.dataset), Features.load(args.features)
    tests = len(features.test_features)
    scan = page.Scanned(
        dataset,
        tests,
        page.names_of(dataset, tests, stage.dataset),
        [Ranking.load(path) for path in args.suspects],
        Neighbourhood.load(args.neighbours),
        _planted(stage, args, dataset),
        min(stage.suspects or usual_suspects(len(dataset.train_labels)), len(dataset.train_labels)),
    )
    counts, pairs = page.duplicates(scan)
    summary = {
        "scan": stage.scan,
        "images": {"train": scan.training, "test": tests},
        "not_looked_at": page.not_looked_at(stage.dataset),
        "flagged": scan.suspects,
        "fitted": round(features.fitted, 4),
        "largest_class": round(largest_share(dataset.train_labels), 4),
        "accuracy": None if features.accuracy is None else round(features.accuracy, 4),
        "filters": list(scan.rankings[0].filters),
        "deep_knn": page.voters(scan, stage.neighbours),
        "power": page.power(scan),
        "stability": page.stability(scan),
        "duplicates": counts,
        "suspects": [scan.names[row] for row in scan.rankings[0].first(scan.suspects).tolist()],
    }
    looks = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    shown = looks.from_string(read_text(args.template)).render(
        stage=stage,
        **summary | {"suspects": page.suspects(scan)},
        classes=page.classes(scan),
        pairs=pairs,
        learned=has_learned(features.fitted, dataset.train_labels),
        other_order=page.other_class_order(dataset, stage.dataset),
    )
    write_text(args.csv, _text(_csv(scan)))
    write_sealed(args.json, summary)
    write_text(args.html, _text(shown))


def _planted(stage: Page, args: argparse.Namespace, dataset: ImageDataset) -> list[page.Planted]:
    successes: list[Any] = [read_sealed(path)["measures"].get("success") for path in args.victims]
    return [
        page.Planted(
            attack.name,
            attack.method,
            poisoned_examples(dataset, PoisonSet.load(poisons)),
            Ranking.load(ranking),
            success,
        )
        for attack, ranking, poisons, success in zip(
            stage.attacks, args.planted, args.poisons, successes or [None] * len(args.planted), strict=True
        )
    ]


def _text(shown: str) -> str:
    """Text that UTF-8 can hold: bytes of file names that are no UTF-8 become escapes, such as ``\\udce9``."""
    return shown.encode("utf-8", "backslashreplace").decode("utf-8")


def _csv(scan: page.Scanned) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(page.table(scan))
    return text.getvalue()


if __name__ == "__main__":
    run(main)
