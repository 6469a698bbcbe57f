"""The jobs of a scan: those of its study, which read, train and plant, and its own, which examine the results."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from poisonlab.config.data.image_folder import BESIDE_A_PATH
from poisonlab.config.merging import is_scan
from poisonlab.config.own_code import source_of
from poisonlab.config.scan import NETWORK, Scan, read_scan
from poisonlab.config.study import Study, read_study
from poisonlab.data.source_at import source_at, with_folder_keys
from poisonlab.errors import SettingsError
from poisonlab.graph.cells import Cell
from poisonlab.graph.computing import Computing, model_roots
from poisonlab.graph.job import Job
from poisonlab.graph.places import Places
from poisonlab.provenance import spec

_LONGEST_NAME = 60
NEIGHBOURS = 5
"""Neighbours of each image on the page, which are also searched for near-duplicates."""


def read_config(config: Mapping[str, Any]) -> tuple[Study, Scan | None]:
    """The study that a merged config describes, and the scan that the study belongs to, if any.

    Raises:
        PoisonlabError: one line that names the first problem.
    """
    if not is_scan(config):
        return read_study(config), None
    scan = scan_from(config)
    return scan.study(), scan


def scan_from(config: Mapping[str, Any]) -> Scan:
    """The scan that a config describes. The format of the path in ``data`` is detected; ``size`` and ``class_order``
    are keys of an image folder.

    Raises:
        PoisonlabError: one line that names the first problem.
    """
    values = dict(config)
    data, keys = values.pop("data", None), {name: values.pop(name, None) for name in BESIDE_A_PATH}
    if (data in (None, "")) == (values.get("dataset") is None):
        raise SettingsError("scan: name the images once, by data: folder-or-file or by dataset: with its keys")
    if data not in (None, ""):
        path = Path(str(data)).expanduser()
        values["dataset"] = source_at(path).told()
        values.setdefault("scan", _name_of(path))
    values["dataset"] = with_folder_keys(values["dataset"], keys)
    return read_scan(values)


def _name_of(path: Path) -> str:
    """The path, relative to the current folder, with dashes for slashes; with a digest if another path could get the
    same name."""
    absolute = Path(os.path.abspath(path))
    shown = str(absolute.relative_to(Path.cwd()) if Path.cwd() in absolute.parents else absolute)
    name = re.sub(r"[^a-z0-9.]+", "-", shown.lower()).strip("-.")
    # A dash in this path could be a slash in another one.
    if re.fullmatch(r"[a-z0-9][a-z0-9./]*", shown) and shown.replace("/", "-") == name and len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(os.fsencode(shown)).hexdigest()[:8]
    return f"{digest}-{name[len(digest) + 1 - _LONGEST_NAME :].strip('-.') or 'images'}"


class Scanning(Computing):
    """The computing jobs of a scan's study, which plant poisons by number, and the scan's own jobs."""

    def __init__(self, scan: Scan, study: Study, places: Places, template: str) -> None:
        super().__init__(study, places)
        self.scan = scan
        self.template = template
        self.own = [f"own-{seed}" for seed in scan.seeds]
        self.planted = {f"planted-{attack.name}": attack.name for attack in scan.attacks}

    def pretrain(self, surrogate: str, seed: int, member: int) -> Job:
        """Train one network on the data, or use the user's weights."""
        trained = super().pretrain(surrogate, seed, member)
        if self.scan.weights is None or self.scan.network is not None:
            return trained
        return replace(
            trained,
            program="adopt.py",
            inputs={**trained.inputs, "own": [self.scan.weights]},
            settings=spec(model=self.scan.model.told()),
            roots=model_roots(self.scan.model),
            options={},
            saves=False,
            watched=(self.scan.weights,),
        )

    def craft(self, attack: str, seed: int) -> Job:
        """Plant the poisons of one attack."""
        job = super().craft(attack, seed)
        settings = [string for string in job.settings if not string.startswith("attack.budget=")]
        return replace(
            job, program="plant.py", settings=sorted([*settings, *spec(planted={"poisons": self.scan.poisons})])
        )

    def features(self, scanned: str) -> Job:
        """Compute one network's features of every image."""
        own = self.scan.network
        return self.job(
            "features",
            {"network": [self._network(scanned)], "poisons": self._poisons_in(scanned)},
            spec(model=self.scan.model.told()) if own is None else spec(network=own),
            [self.scan.model] if own is None else [],
            (),
            self.scan.model.name if own is None else own,
            watched=() if own is None else (str(self.scan.weights), *source_of(own)),
            scanned=scanned,
        )

    def suspects(self, scanned: str) -> Job:
        """Rank the training images by every filter."""
        return self.job(
            "suspects",
            {"features": [self._path("features", scanned)], "poisons": self._poisons_in(scanned)},
            spec(filters=list(self.scan.filters), neighbours=self.scan.neighbours, seed=self.scan.seed),
            (),
            (),
            "+".join(self.scan.filters),
            options={"memory": [str(self.scan.memory_mb)]},
            scanned=scanned,
        )

    def neighbours(self) -> Job:
        """Find the nearest neighbours of every image, and the duplicates."""
        return self.job(
            "neighbours",
            {"features": [self._path("features", self.own[0])]},
            spec(neighbours=NEIGHBOURS, near=self.scan.near),
            (),
            (),
            "neighbours",
            options={"memory": [str(self.scan.memory_mb)]},
        )

    def page(self) -> Job:
        """Write the page, the table of all images, and the summary."""
        return Job(
            "scan_page",
            "scan_page.py",
            {
                "dataset": [self.places.dataset],
                "features": [self._path("features", self.own[0])],
                "suspects": [self._path("suspects", name) for name in self.own],
                "neighbours": [self.places.path("neighbours", "neighbours")],
                "planted": [self._path("suspects", name) for name in self.planted],
                "poisons": [path for name in self.planted for path in self._poisons_in(name)],
                "victims": [] if self.scan.weights else [self.victim(self._cell(n), "metrics") for n in self.planted],
                "template": [self.template],
            },
            self.places.outputs("scan_page"),
            spec(
                scan=self.scan.scan,
                dataset=self.scan.dataset.told(),
                suspects=self.scan.suspects,
                neighbours=self.scan.neighbours,
                near=self.scan.near,
                weights=self.scan.weights is not None,
                attacks=[{"name": attack.name, "method": attack.method} for attack in self.scan.attacks],
            ),
            watched=self.scan.dataset.folder_files,
        )

    def looking(self) -> Iterator[Job]:
        """Every job that the scan adds to those of a study of its attacks."""
        for seed in self.scan.seeds:
            yield self.pretrain(NETWORK, seed, 0)
        for scanned in (*self.own, *self.planted):
            yield self.features(scanned)
            yield self.suspects(scanned)
        yield self.neighbours()
        yield self.page()

    def _path(self, stage: str, scanned: str) -> str:
        return self.places.path(stage, stage, scanned=scanned)

    def _cell(self, scanned: str) -> Cell:
        return Cell(self.planted[scanned], NETWORK, "none", self.scan.seed)

    def _network(self, scanned: str) -> str:
        """The network to examine: trained on the scanned data, unless the user gave one."""
        if self.scan.network is not None:
            return str(self.scan.weights)
        if scanned in self.planted and self.scan.weights is None:
            return self.victim(self._cell(scanned))
        seed = self.scan.seed if scanned in self.planted else self.scan.seeds[self.own.index(scanned)]
        return self.weights(NETWORK, seed)

    def _poisons_in(self, scanned: str) -> list[str]:
        return [self.poisons(self.planted[scanned], self.scan.seed)] if scanned in self.planted else []
