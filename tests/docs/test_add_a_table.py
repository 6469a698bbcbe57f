"""docs/add-a-table.md: its configs are valid and its program runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from doc_pages import ROOT, blocks

from poisonlab.config.study import Study, read_study
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse

PAGE = "add-a-table.md"


def with_block(number: int) -> Study:
    """The default study with one of the page's configs in it."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    study.update(yaml.safe_load(blocks(PAGE, "yaml")[number]))
    return read_study(study)


def test_the_ablations_become_the_rows_that_the_page_names() -> None:
    study = with_block(0)
    names = [row.name for row in study.rows]
    assert {"begin-1", "begin-10", "search-20-10"} <= set(names)
    # 4, and 200 with 30, are the study's own.
    assert [name for name in names if name.startswith(("begin", "search"))] == [
        *("begin-1", "begin-10", "search-20-1", "search-20-10", "search-20-30", "search-200-1", "search-200-10")
    ]


def test_the_variants_of_the_attack_are_crafted() -> None:
    study = with_block(0)
    # 24 is the study's own.
    assert [attack.name for attack in study.every_attack] == ["gradient-matching", "bound-8", "bound-16"]
    assert study.seeds_of(study.attack("bound-8")) == (10, 11, 12)


def test_rows_of_two_attacks_are_joined_and_only_the_study_s_table_knows() -> None:
    values = yaml.safe_load((ROOT / "config" / "deep-knn.yaml").read_text(encoding="utf-8"))
    rows = yaml.safe_load(blocks(PAGE, "yaml")[1])["defenses"]
    graph = Graph(
        read_study({**values, "seeds": [0], "defenses": [{"name": "none"}, *rows], "ablations": [], "figures": {}})
    )
    told = [{"line": "deep-knn", "rows": ["deep-knn-collision", "deep-knn-polytope"]}]
    assert parse(graph.job("tables", {"scope": ""}).settings)["joined"] == told
    assert {job.stage for job in graph.all_jobs() if any("joined" in each for each in job.settings)} == {"tables"}


def test_the_published_places_are_read() -> None:
    (attack,) = with_block(2).attacks
    assert [place.table for place in attack.published] == [4, 3]


def test_the_figures_of_filters_are_drawn() -> None:
    figures = Graph(with_block(3)).figures.every()
    assert {f"gradient-matching/{name}" for name in ("projection-near", "layer-distances-near", "by-victim")} < set(
        figures
    )


def test_the_program_prints_the_chosen_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results" / "tables").mkdir(parents=True)
    trials = ROOT / "results" / "reference" / "defenses-float32-cpu" / "defenses-trials.csv"
    shutil.copy(trials, tmp_path / "results" / "tables" / "digits-trials.csv")
    monkeypatch.chdir(tmp_path)
    (program,) = blocks(PAGE, "python")
    exec(compile(program, f"docs/{PAGE}", "exec"), {})
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert sum("friends-bernoulli" in line for line in lines) == sum("| none" in line for line in lines) == 2
    assert not any("deep-knn" in line for line in lines)
