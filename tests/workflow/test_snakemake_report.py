"""``snakemake --report``: every table and figure is in it, with category, labels and caption."""

from __future__ import annotations

import html
import zipfile
from pathlib import Path

import pytest
from harness import Checkout
from listed import listed

pytestmark = pytest.mark.workflow

FIGURE = "results/figures/real/strong/{}.png"


def test_every_table_and_figure_is_in_the_report(finished: Checkout, tmp_path: Path) -> None:
    outcome = finished.snakemake("--report", str(tmp_path / "report.zip"))
    assert outcome.code == 0, outcome.output
    with zipfile.ZipFile(tmp_path / "report.zip") as archive:
        archive.extractall(tmp_path)
    report = listed(tmp_path / "report/report.html")

    made = finished.files("tables/*.md", "tables/*.csv", "figures/**/*.png", "reports/*.html")
    assert len(made) >= 12
    assert set(report.results) == set(made)
    for path, content in made.items():
        assert (tmp_path / "report" / report.results[path]["data_uri"]).read_bytes() == content

    kinds = {"tables": "Tables", "figures": "Figures", "reports": "Report"}
    for category, sections in report.categories.items():
        for paths in sections.values():
            assert {kinds[Path(path).parts[1]] for path in paths} == {category if category != "Study" else "Tables"}
    assert report.categories["Study"] == {"real": ["results/tables/real-trials.csv"]}
    assert report.categories["Figures"]["Outcome"] == ["results/figures/real/outcome.png"]
    assert FIGURE.format("examples") in report.categories["Figures"]["strong"]

    labels = {path: found["labels"] for path, found in report.results.items()}
    assert labels[FIGURE.format("examples")] == {"figure": "Poisons and friendly noise", "format": "png"}
    assert labels["results/tables/real-table4.md"]["table"] == "Table 4"

    for path, found in report.results.items():
        if path.endswith(".png"):
            told = finished.path / path.replace(".png", ".txt")
            assert told.read_text(encoding="utf-8").strip() in html.unescape(found["caption"])
        elif path.endswith(".md"):
            assert (finished.path / path).read_text(encoding="utf-8").strip() in html.unescape(found["caption"])
        else:
            assert "<p>" in found["caption"]
