"""The paper's whole graph, really computed at the scale of config/smoke.yaml."""

from __future__ import annotations

import base64
import html
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import REPOSITORY, Checkout, check_out
from PIL import Image

pytestmark = pytest.mark.workflow

TABLES = range(1, 7)
ABLATIONS = ("begin", "norm", "search")


def test_the_whole_graph(tmp_path: Path, warm: str) -> None:
    """One test, so that one worker computes it and the other goes on."""
    study = check_out(tmp_path / "study", REPOSITORY / "config" / "smoke.yaml", warm)
    outcome = study.snakemake("paper", "--cores", "2", timeout=1800)
    assert outcome.code == 0, outcome.output
    for number in TABLES:
        check_table(study, number)
    for name in ABLATIONS:
        check_ablation(study, name)
    check_figures(study)
    check_report(study)
    again = study.snakemake("paper", "--cores", "2")
    assert again.code == 0
    assert "Nothing to be done" in again.output


def figures(study: Checkout) -> list[Path]:
    return sorted((study.path / "results/figures/smoke").rglob("*.png"))


def check_table(study: Checkout, number: int) -> None:
    """Every published number has ours beside it."""
    table = pd.read_csv(study.path / f"results/tables/smoke-table{number}.csv")
    published = table[table["published_success"].notna()]
    ours = pd.read_csv(REPOSITORY / f"reference/friends/table{number}.csv")
    assert len(published) == (ours["measure"] == "success").sum()
    assert (published["n"] == 1).all()
    assert published[["success", "accuracy"]].notna().all(axis=None)
    for kind in ("md", "tex"):
        assert (study.path / f"results/tables/smoke-table{number}.{kind}").stat().st_size > 500


def check_ablation(study: Checkout, name: str) -> None:
    """Every variant has a victim."""
    table = pd.read_csv(study.path / f"results/tables/smoke-ablation-{name}.csv")
    assert (table["n"] == 1).all()
    assert table["own"].sum() == 1
    assert (table["row"] == "none").sum() == 1


def check_figures(study: Checkout) -> None:
    """Every figure shows something and says it in numbers."""
    drawn = figures(study)
    names = {path.relative_to(study.path / "results/figures/smoke").with_suffix("").as_posix() for path in drawn}
    both = ("examples", "landscape-victims", "noise-histogram", "output-std", "learning-curves")
    assert names == {
        *("outcome", "outcome-2", *(f"ablation-{name}" for name in ABLATIONS)),
        *(f"{attack}/{figure}" for attack in ("gradient-matching", "sleeper-agent") for figure in both),
        "gradient-matching/landscape-poison",
    }
    for path in drawn:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert (pixels != 255).any(axis=2).mean() > 0.02, path
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        caption = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert any(letter.isdigit() for letter in caption), path
        assert "nan" not in caption.split(), path


def check_report(study: Checkout) -> None:
    """The report holds every table, figure and caption."""
    page = (study.path / "results/reports/smoke.html").read_text(encoding="utf-8")
    for path in figures(study):
        assert base64.b64encode(path.read_bytes()).decode() in page, path
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert caption in html.unescape(page), path
    for number in TABLES:
        assert f">Table {number}</h3>" in page
    trials = pd.read_csv(study.path / "results/tables/smoke-trials.csv")
    assert f"{len(trials)} of {len(trials)} victims" in page
    assert page.count(".card.json") == len(trials)
