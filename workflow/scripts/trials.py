"""Gather the victims' outcomes and run cards into one CSV file of trials."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from poisonlab.config.stages import read_stage
from poisonlab.config.types import Name, Settings
from poisonlab.errors import DataError
from poisonlab.evaluation.choosing import first_victims
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.trials import CLASSES, PROVENANCE, Key, Row, Trial, at_first_victim, read_trials, write_trials
from poisonlab.files import read_sealed
from poisonlab.runtime.program import run, settings, spec_parser


class Line(Settings):
    """The victims of one row against one attack, and the results that they needed."""

    attack: Name
    victim: Name
    defense: Name
    seeds: tuple[int, ...]
    settings: str | None
    """Digest of their settings; if not given, the digest of each run card."""
    detector: bool
    """Whether the row examines another row's victims."""
    noise: bool
    """Whether they needed friendly noise of their own."""
    filter: bool
    """Whether they needed a keep-list of their own."""
    network: Name | None
    """The row whose victims its filters or detector looked at."""
    network_settings: str | None
    """Digest of the settings of that row's victims."""


class Gathering(Settings):
    """What is gathered."""

    lines: tuple[Line, ...]


def main(argv: Sequence[str]) -> None:
    arguments = spec_parser(__doc__)
    for kind in ("victims", "detections", "noise", "filters"):
        layout = "folder: <attack>/<victim>/<defense>/seed<seed>.*"
        arguments.add_argument(f"--{kind}", type=Path, required=True, help=layout)
    arguments.add_argument("--merge", type=Path, nargs="*", default=[], help="trials from elsewhere, for their cost")
    arguments.add_argument("--trials", type=Path, required=True, help="output (.csv)")
    args = arguments.parse_args(argv)
    lines = read_stage(Gathering, settings(args.spec)).lines

    elsewhere = _seconds_elsewhere(lines, args.merge)
    networks = {(line.attack, line.victim, line.defense): line.network for line in lines}
    own: dict[Key, float] = {}
    trials = []
    for line in lines:
        for seed in line.seeds:
            place = Path(line.attack) / line.victim / line.defense / f"seed{seed}"
            outcome = (args.detections if line.detector else args.victims) / place
            path = outcome.with_name(f"{outcome.name}.card.json")
            card = _card(path)
            own[line.attack, line.victim, line.defense, seed] = (
                _number(card, "seconds", path)
                + (_card_seconds(args.noise / place, "cost_seconds") if line.noise else 0.0)
                + (_card_seconds(args.filters / place, "seconds") if line.filter else 0.0)
            )
            said = card.get("settings")
            digest = line.settings if line.settings is not None else str(said)
            if said is not None and digest != said:
                raise DataError(
                    f"{path} is of a victim with other settings than the config's, which Snakemake has not noticed: "
                    "restore what the config names (data that were moved: leave a link at the old place), or delete "
                    "the file and run the workflow again"
                )
            trial = _trial(line, seed, outcome.with_name(f"{outcome.name}.metrics.json"), digest)
            trials.append(replace(trial, provenance=_provenance(card)))
    charged = [replace(trial, seconds=_cost(trial.key, own, networks, elsewhere)) for trial in trials]
    write_trials(args.trials, charged)


def _seconds_elsewhere(lines: Sequence[Line], files: Sequence[Path]) -> dict[Key, float]:
    """The cost of networks from elsewhere. As in the tables, earlier files win, and networks with other settings do not
    count."""
    looked_at = {(line.attack, line.victim, line.network): line.network_settings for line in lines}
    first = first_victims([(line.attack, line.victim, line.defense) for line in lines])
    found = [at_first_victim(trial, first) for path in reversed(files) for trial in read_trials(path)]
    return {trial.key: trial.seconds for trial in found if trial.settings == looked_at.get(trial.key[:3])}


def _cost(
    key: Key, own: Mapping[Key, float], networks: Mapping[Row, str | None], elsewhere: Mapping[Key, float]
) -> float:
    """Seconds of its own jobs, plus the cost of the network that its filters or detector looked at; nan if unknown."""
    if key not in own:
        return elsewhere.get(key, math.nan)
    attack, victim, defense, seed = key
    network = networks[attack, victim, defense]
    return own[key] + (0.0 if network is None else _cost((attack, victim, network, seed), own, networks, elsewhere))


def _card(path: Path) -> dict[str, Any]:
    card = read_sealed(path)
    if not isinstance(card.get("software", {}), dict):
        raise DataError(f"{path} is no run card: delete it and run the workflow again")
    return card


def _card_seconds(place: Path, key: str) -> float:
    path = place.with_name(f"{place.name}.card.json")
    return _number(_card(path), key, path)


def _number(content: Mapping[str, Any], key: str, path: Path) -> float:
    try:
        number = float(content[key])
        if number < 0:
            raise ValueError(f"{key} from 0 up")
        return number
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path} lacks {error}: delete it and run the workflow again") from error


def _trial(line: Line, seed: int, metrics: Path, digest: str) -> Trial:
    content = read_sealed(metrics)
    try:
        who = (line.attack, line.victim, line.defense, seed)
        if (failed := content.get("failed")) is not None:
            return Trial(*who, failed=_reason(failed), settings=digest)
        measures, examples = content["measures"], content.get("examples")
        found = None if examples is None else Detection(**examples)
        classes = {name: str(value) for name, value in dict(content.get("classes", {})).items() if name in CLASSES}
        return Trial(*who, dict(measures), targets=content["targets"], found=found, settings=digest, classes=classes)
    except ValueError as error:
        raise DataError(f"{metrics} is no outcome ({error}): delete it and run the workflow again") from error
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{metrics} lacks {error}: delete it and run the workflow again") from error


def _reason(failed: Mapping[str, Any]) -> str:
    where = f"{failed['what']} at epoch {failed['epoch']}, batch {failed['batch']}"
    return where + (f", {failed['source']}" if "source" in failed else "")


def _provenance(card: Mapping[str, Any]) -> dict[str, str]:
    known = {**(card.get("software") or {}), **card}
    return {name: str(known[name]) for name in PROVENANCE if known.get(name) is not None}


if __name__ == "__main__":
    run(main)
