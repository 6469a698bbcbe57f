"""Entries of a study's outputs in Snakemake's own report: category, section, and labels to sort by."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple

from poisonlab.config.study import Study
from poisonlab.graph.figures import BY_VICTIM
from poisonlab.graph.job import Job
from poisonlab.graph.places import SCOPES, Places
from poisonlab.graph.report import Report

_TABLE = {"md": "table", "csv": "table"}
LISTED = {
    "trials": {"trials": "trials"},
    "tables": {**_TABLE, "time": "time"},
    "paper_table": _TABLE,
    "ablation": _TABLE,
    "transfer_table": _TABLE,
    "figure": {"png": "figure"},
    "page": {"html": "page"},
    "scan_page": {"html": "scan", "csv": "scan"},
}
"""The outputs of each stage in the report, with the name of their caption."""

CATEGORIES = {"trials": "Study", "figure": "Figures", "page": "Report", "scan_page": "Scan"}
"""Categories of the stages that make no table."""

_TITLES = {
    "trials": "All victims, a line each",
    "page": "Tables, figures and victims on one page",
    "scan_page": "Images by suspicion",
}
_MEASURING = ("landscape_poison", "landscape_victims", "output_std")
_MOST = 3
"""Most names spelled out in a label."""


class Entry(NamedTuple):
    """One file in the report."""

    section: str
    labels: dict[str, str]
    """Title, attack, victim, defense and format of the file."""


class Listing:
    """The entries of a study.

    Args:
        study: the study.
        places: paths of its results.
        report: the lab's own report, which gives sections and titles.
        job: the job of a stage with some wildcards.
    """

    def __init__(self, study: Study, places: Places, report: Report, job: Callable[..., Job]) -> None:
        self._study, self._report, self._job = study, report, job
        folders = "|".join(map(re.escape, places.folders.values()))
        self._cell = re.compile(rf"(?:{folders})/(?P<attack>[^/]+)/(?P<victim>[^/]+)/(?P<defense>[^/]+)/")
        poisons = places.outputs("craft")["poisons"].partition("{")[0]
        self._poisons = re.compile(rf"{re.escape(poisons)}(?P<attack>[^/]+)/")

    @cached_property
    def _titles(self) -> dict[str, tuple[str, str]]:
        return {stem: found for scope in SCOPES for stem, found in self._report.titles(scope).items()}

    def entry(self, stage: str, wildcards: Mapping[str, str], output: str) -> Entry:
        """The entry of an output in ``LISTED``."""
        job = self._job(stage, wildcards)
        stem, _, ending = job.outputs[output].rpartition(".")
        section, title = (self._study.study, _TITLES[stage]) if stage in _TITLES else self._titles[stem]
        kind = CATEGORIES.get(stage, "Tables").lower().removesuffix("s")
        return Entry(section.removeprefix("Figures: "), {kind: title, **self._shown(job, wildcards), "format": ending})

    def _shown(self, job: Job, wildcards: Mapping[str, str]) -> dict[str, str]:
        """Attack, victim and defense of a job, as far as its files and the config tell."""
        study = self._study
        names = {
            "attack": {attack.name for attack in study.attacks},
            "victim": {victim.name for victim in study.victims},
            "defense": {row.name for row in study.defenses},
        }
        if job.stage == "paper_table":
            number = int(wildcards["number"])
            names["attack"] = {a.name for a in study.attacks if number in [place.table for place in a.published]}
        elif job.stage == "ablation":
            ablation = next(each for each in study.ablations if each.name == wildcards["ablation"])
            if ablation.defense is not None:
                names |= {"defense": {ablation.defense}, "attack": set(ablation.attacks or names["attack"])}
            else:
                names |= {"defense": set(ablation.defenses or ()), "attack": {str(ablation.attack)}}
        elif job.stage == "figure":
            jobs = [job, *self._measured(wildcards["figure"])]
            met = self._met(path for each in jobs for paths in each.inputs.values() for path in paths)
            # A figure of a table shows all that the table does.
            names = met if any(met.values()) else names
            for bars in study.figures.by_victim:
                if wildcards["figure"] == f"{bars.attack}/{BY_VICTIM}":
                    victims = {victim.name for victim in study.victims_of(study.attack(bars.attack))}
                    names = {"attack": {bars.attack}, "victim": victims, "defense": set(bars.defenses)}
        return {name: _told(found) for name, found in names.items()}

    def _measured(self, figure: str) -> list[Job]:
        """The jobs that measure for a figure of an attack."""
        attack, _, drawn = figure.rpartition("/")
        stage = drawn.replace("-", "_")
        jobs = [self._job(stage, {"attack": attack})] if attack and stage in _MEASURING else []
        views = [view.name for view in self._study.figures.features if figure in self._report.figures.of_view(view)]
        return jobs + [self._job("feature_view", {"attack": attack, "view": name}) for name in views]

    def _met(self, paths: Iterable[str]) -> dict[str, set[str]]:
        """The attacks, victims and defenses in the paths of some files."""
        met: dict[str, set[str]] = {"attack": set(), "victim": set(), "defense": set()}
        for path in paths:
            for pattern in (self._cell, self._poisons):
                if (found := pattern.match(path)) is not None:
                    for name, value in found.groupdict().items():
                        met[name].add(value)
        return met


def _told(names: Iterable[str]) -> str:
    found = sorted(names)
    return ", ".join(found) if len(found) <= _MOST else f"{len(found)} of them"
