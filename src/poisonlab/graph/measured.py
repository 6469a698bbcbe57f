"""The measurements that estimate how long the jobs of a study or scan take."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from poisonlab.config.scan import Scan
from poisonlab.config.study import Study
from poisonlab.evaluation.seconds import Measured, read_cards, read_committed
from poisonlab.graph.job import Job

COMMITTED = Path("results", "reference")
OUTCOMES = ("train", "detect")
"""Stages whose jobs become trials."""


def measured(study: Study, scan: Scan | None, jobs: Iterable[Job]) -> Iterator[Measured]:
    """Jobs that ran here, by their run cards, and committed trials of the study; for a scan, also jobs of other scans.

    Args:
        study: the study, whose paths count from the working folder.
        scan: the scan that the study belongs to, if any.
        jobs: the planned jobs, which give the folder of each stage's run cards.

    Raises:
        DataError: a run card is damaged, or a file holds no trials.
    """
    results = Path(study.results)
    cards = [(job.outputs["card"], job.stage) for job in jobs if "card" in job.outputs]
    stages = {Path(card).relative_to(results).parts[0]: stage for card, stage in cards}
    yield from read_cards(results, stages)
    if scan is None:
        yield from read_committed(COMMITTED, study.study, OUTCOMES)
        return
    # All scans' studies have the same name, and datasets differ between scans as between studies.
    for other in sorted(results.parent.glob("*/")):
        if other != results:
            yield from (replace(job, study=f"scan {other.name}") for job in read_cards(other, stages))
