"""Entries of a study's outputs in Snakemake's own report: category, section, and labels to sort by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import NamedTuple

from poisonlab.config.study import Study
from poisonlab.graph.job import Job
from poisonlab.graph.places import SCOPES
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


class Entry(NamedTuple):
    """One file in the report."""

    section: str
    labels: dict[str, str]
    """Title and format of the file."""


class Listing:
    """The entries of a study.

    Args:
        study: the study.
        report: the lab's own report, which gives sections and titles.
        job: the job of a stage with some wildcards.
    """

    def __init__(self, study: Study, report: Report, job: Callable[..., Job]) -> None:
        self._study, self._report, self._job = study, report, job

    @cached_property
    def _titles(self) -> dict[str, tuple[str, str]]:
        return {stem: found for scope in SCOPES for stem, found in self._report.titles(scope).items()}

    def entry(self, stage: str, wildcards: Mapping[str, str], output: str) -> Entry:
        """The entry of an output in ``LISTED``."""
        stem, _, ending = self._job(stage, wildcards).outputs[output].rpartition(".")
        section, title = (self._study.study, _TITLES[stage]) if stage in _TITLES else self._titles[stem]
        kind = CATEGORIES.get(stage, "Tables").lower().removesuffix("s")
        return Entry(section.removeprefix("Figures: "), {kind: title, "format": ending})
