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

pytestmark = [pytest.mark.workflow, pytest.mark.xdist_group("smoke")]

TABLES = range(1, 7)
ABLATIONS = ("begin", "norm", "search")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    study = check_out(tmp_path_factory.mktemp("smoke") / "study", REPOSITORY / "config" / "smoke.yaml")
    outcome = study.snakemake("paper", "--cores", "2", timeout=1800)
    assert outcome.code == 0, outcome.output
    return study


def figures(study: Checkout) -> list[Path]:
    return sorted((study.path / "results/figures/smoke").rglob("*.png"))


def test_a_second_run_has_nothing_to_do(smoke: Checkout) -> None:
    outcome = smoke.snakemake("paper", "--cores", "2")
    assert outcome.code == 0
    assert "Nothing to be done" in outcome.output


@pytest.mark.parametrize("number", TABLES)
def test_every_published_number_has_ours_beside_it(smoke: Checkout, number: int) -> None:
    table = pd.read_csv(smoke.path / f"results/tables/smoke-table{number}.csv")
    published = table[table["published_success"].notna()]
    ours = pd.read_csv(REPOSITORY / f"reference/friends_table{number}.csv")
    assert len(published) == (ours["column"] == "Poison Acc").sum()
    assert (published["n"] == 1).all()
    assert published[["success", "accuracy"]].notna().all(axis=None)
    for kind in ("md", "tex"):
        assert (smoke.path / f"results/tables/smoke-table{number}.{kind}").stat().st_size > 500


@pytest.mark.parametrize("name", ABLATIONS)
def test_every_variant_has_a_victim(smoke: Checkout, name: str) -> None:
    table = pd.read_csv(smoke.path / f"results/tables/smoke-ablation-{name}.csv")
    assert (table["n"] == 1).all()
    assert table["own"].sum() == 1
    assert (table["row"] == "none").sum() == 1


def test_every_figure_shows_something_and_says_it_in_numbers(smoke: Checkout) -> None:
    drawn = figures(smoke)
    names = {path.relative_to(smoke.path / "results/figures/smoke").with_suffix("").as_posix() for path in drawn}
    both = ("examples", "landscape-victims", "noise-histogram", "output-std", "learning-curves")
    assert names == {
        *("outcome", *(f"ablation-{name}" for name in ABLATIONS)),
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


def test_the_report_holds_every_table_figure_and_caption(smoke: Checkout) -> None:
    page = (smoke.path / "results/reports/smoke.html").read_text(encoding="utf-8")
    for path in figures(smoke):
        assert base64.b64encode(path.read_bytes()).decode() in page, path
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert caption in html.unescape(page), path
    for number in TABLES:
        assert f">Table {number}</h3>" in page
    trials = pd.read_csv(smoke.path / "results/tables/smoke-trials.csv")
    assert f"{len(trials)} of {len(trials)} victims" in page
    assert page.count(".card.json") == len(trials)
