"""Which measurements tell how long the jobs of a study or scan take."""

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
"""The stages whose jobs become trials."""


def measured(study: Study, scan: Scan | None, jobs: Iterable[Job]) -> Iterator[Measured]:
    """Jobs that ran here, by their run cards, and committed trials of the study; of a scan, jobs of other scans, too.

    Args:
        study: the study, whose paths count from the working folder.
        scan: the scan that the study belongs to, if it is one's.
        jobs: the jobs to be told of, which say in which folder the run cards of each stage lie.

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
    # The studies of all scans have one name, and another scan's dataset may differ as another study's may.
    for other in sorted(results.parent.glob("*/")):
        if other != results:
            yield from (replace(job, study=f"scan {other.name}") for job in read_cards(other, stages))
