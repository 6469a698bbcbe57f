"""Entries of Snakemake's report, of whole studies."""

from __future__ import annotations

import re

import pytest

from poisonlab.config.merging import merged_config
from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph
from poisonlab.graph.listing import CATEGORIES, LISTED


@pytest.mark.parametrize("config", ["smoke", "learned-faster-smoke", "deep-knn-smoke"])
def test_every_table_and_figure_has_a_title_and_a_section(config: str) -> None:
    graph = Graph(read_study(merged_config([f"config/{config}.yaml"], [])))
    titles = set()
    for job in graph.all_jobs():
        for output in LISTED.get(job.stage, ()):
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>.*)", re.escape(graph.places.outputs(job.stage)[output]))
            found = re.fullmatch(pattern, job.outputs[output])
            assert found is not None
            section, labels = graph.listing.entry(job.stage, found.groupdict(), output)
            assert list(labels) == [CATEGORIES.get(job.stage, "Tables").lower().removesuffix("s"), "format"]
            assert section
            assert all(labels.values())
            titles.add((section, *labels.values()))
    # No two files are called the same.
    assert len(titles) == sum(len(LISTED.get(job.stage, ())) for job in graph.all_jobs())
