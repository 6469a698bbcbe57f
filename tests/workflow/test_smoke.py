"""The whole graphs of two papers, really computed at the scale of their smoke studies, and counted anew."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import REPOSITORY, Checkout, check_out
from PIL import Image

pytestmark = pytest.mark.workflow

COLLISION = ("deep-knn-collision", "l2-collision", "svm-collision", "random-collision", "deep-knn-friends-collision")
POLYTOPE = (
    *("deep-knn-polytope", "l2-polytope", "svm-polytope", "random-polytope"),
    *("deep-knn-robust", "deep-knn-friends-polytope"),
)


def test_the_whole_graph(tmp_path: Path, warm: str) -> None:
    """One test, so that one worker computes it and the other goes on."""
    study = computed(tmp_path, "smoke", warm)
    for number in range(1, 7):
        check_table(study, number)
    for ablation in ("begin", "norm", "search"):
        check_ablation(study, "smoke", ablation)
    both = ("examples", "landscape-victims", "noise-histogram", "output-std", "learning-curves")
    check_figures(
        study,
        "smoke",
        {
            *("outcome", "outcome-2", "ablation-begin", "ablation-norm", "ablation-search"),
            *(f"{attack}/{figure}" for attack in ("gradient-matching", "sleeper-agent") for figure in both),
            "gradient-matching/landscape-poison",
        },
    )
    check_report(study, "smoke", range(1, 7))
    check_nothing_is_left(study)


def test_the_whole_graph_of_deep_knn(tmp_path: Path, warm: str) -> None:
    study = computed(tmp_path, "deep-knn-smoke", warm)
    check_successes(study, 1, "feature-collision", COLLISION)
    check_successes(study, 2, "convex-polytope", POLYTOPE)
    check_ablation(study, "deep-knn-smoke", "neighbours")
    # Two victims, and the mean over them.
    check_ablation(study, "deep-knn-smoke", "votes", victims=3)
    check_figures(
        study,
        "deep-knn-smoke",
        {
            *("outcome", "ablation-neighbours", "ablation-votes"),
            *(f"convex-polytope/{figure}-two" for figure in ("projection", "layer-distances")),
            *(f"convex-polytope/{figure}" for figure in ("by-victim", "projection-small", "filtered-images-small")),
            *(f"feature-collision/{figure}-alexnet" for figure in ("projection", "layer-distances", "filtered-images")),
        },
    )
    check_report(study, "deep-knn-smoke", (1, 2))
    check_nothing_is_left(study)


def computed(folder: Path, name: str, python: str) -> Checkout:
    study = check_out(folder / "study", REPOSITORY / "config" / f"{name}.yaml", python)
    outcome = study.snakemake("paper", "--cores", "2", timeout=1800)
    assert outcome.code == 0, outcome.output
    return study


def check_nothing_is_left(study: Checkout) -> None:
    again = study.snakemake("paper", "--cores", "2")
    assert again.code == 0
    assert "Nothing to be done" in again.output


def figures(study: Checkout, name: str) -> list[Path]:
    return sorted((study.path / "results/figures" / name).rglob("*.png"))


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


def check_successes(study: Checkout, number: int, attack: str, filters: Collection[str]) -> None:
    """Every number is that of the trials whose undefended attack succeeds, counted anew; that of all stands beside."""
    trials = pd.read_csv(study.path / "results/tables/deep-knn-smoke-trials.csv")
    trials = trials[trials["attack"] == attack]
    hits = trials.loc[(trials["defense"] == "none") & (trials["success"] == 1), ["victim", "seed"]]
    assert len(hits) > 0
    table = pd.read_csv(study.path / f"results/tables/deep-knn-smoke-table{number}.csv").set_index("our_defense")
    published = pd.read_csv(REPOSITORY / f"reference/deep-knn/table{number}.csv")
    assert set(table["defense"]) >= set(published["defense"])
    assert {"none", "robust-features", *filters} <= set(table.index)
    for row, line in table.iterrows():
        every = trials[trials["defense"] == row]
        counted = every.merge(hits)
        # Of several victims, n of the hits is the sum; n of all counts seeds.
        assert (line["n"], line["all_n"]) == (len(counted), every["seed"].nunique()), row
        for measure in ("success", "accuracy"):
            of_victims = counted.groupby("victim")[measure].mean()
            assert line[measure] == pytest.approx(of_victims.mean()), (row, measure)
            assert line[f"all_{measure}"] == pytest.approx(every.groupby("victim")[measure].mean().mean())
        if row not in filters:
            assert math.isnan(line["poisons_found"])
            continue
        for share, what in (("poisons_found", "poisons"), ("clean_dropped", "clean")):
            dropped, kept = counted[f"{what}_dropped"].sum(), counted[f"{what}_kept"].sum()
            assert line[share] == pytest.approx(dropped / (dropped + kept)), (row, share)


def check_ablation(study: Checkout, name: str, ablation: str, victims: int = 1) -> None:
    """Every variant has a victim of each kind."""
    table = pd.read_csv(study.path / f"results/tables/{name}-ablation-{ablation}.csv")
    assert (table["n"] == 1).all()
    assert table["own"].sum() == victims
    assert (table["row"] == "none").sum() == victims


def check_figures(study: Checkout, name: str, expected: set[str]) -> None:
    """Every figure shows something and says it in numbers."""
    drawn = figures(study, name)
    folder = study.path / "results/figures" / name
    assert {path.relative_to(folder).with_suffix("").as_posix() for path in drawn} == expected
    for path in drawn:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        assert (pixels != 255).any(axis=2).mean() > 0.02, path
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        caption = path.with_suffix(".txt").read_text(encoding="utf-8")
        assert any(letter.isdigit() for letter in caption), path
        assert "nan" not in caption.split(), path


def check_report(study: Checkout, name: str, tables: Iterable[int]) -> None:
    """The report holds every table, figure and caption."""
    page = (study.path / f"results/reports/{name}.html").read_text(encoding="utf-8")
    for path in figures(study, name):
        assert base64.b64encode(path.read_bytes()).decode() in page, path
        caption = path.with_suffix(".txt").read_text(encoding="utf-8").strip()
        assert caption in html.unescape(page), path
    for number in tables:
        assert f">Table {number}</h3>" in page
    trials = pd.read_csv(study.path / f"results/tables/{name}-trials.csv")
    assert f"{len(trials)} of {len(trials)} victims" in page
    assert page.count(".card.json") == len(trials)
