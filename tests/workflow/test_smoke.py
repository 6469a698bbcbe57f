"""The whole graphs of two papers, really computed at the scale of their smoke studies, and counted anew.

Left out are rows, attacks and variants that run the code of others with another number: tests/config holds that the
smoke studies have all of the papers', and tests/evaluation/test_paper_layout.py that every published number has a cell.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from gpu.workflow import SPARED, SPARED_ABLATIONS
from harness import REPOSITORY, Checkout, check_out
from PIL import Image

pytestmark = pytest.mark.workflow

COLLISION = ("deep-knn-collision", "l2-collision", "deep-knn-friends-collision")
POLYTOPE = (
    *("deep-knn-polytope", "svm-polytope", "random-polytope"),
    *("deep-knn-robust", "deep-knn-friends-polytope"),
)


def without(settings: Any, key: str, names: Collection[str]) -> None:
    """Take entries with these names out of a list of the settings."""
    assert {entry["name"] for entry in settings[key]} >= set(names)
    settings[key] = [entry for entry in settings[key] if entry["name"] not in names]


def friends(settings: Any) -> None:
    without(settings, "attacks", {"gradient-matching-8", "sleeper-agent-bernoulli"})
    without(settings, "defenses", {*SPARED, "friends-uniform", "friends-bernoulli-lenet"})
    without(settings, "ablations", SPARED_ABLATIONS)


LEFT_OUT = {1: 3, 2: 2, 3: 2, 4: 3, 5: 2, 6: 1}
"""Lines of each table without a number of ours, because of that."""


def deep_knn(settings: Any) -> None:
    without(settings, "defenses", {"l2-polytope", "svm-collision", "random-collision"})
    settings["figures"]["by_victim"][0]["defenses"].remove("l2-polytope")
    del settings["ablations"][1]["vary"]["self_counts"]


def test_the_whole_graph(tmp_path: Path, warm: str) -> None:
    """One test, so that one worker computes it and the other goes on."""
    study = computed(tmp_path, "smoke", warm, friends)
    for number in range(1, 7):
        check_table(study, number)
    check_ablation(study, "smoke", "norm")
    both = ("examples", "landscape-victims", "noise-histogram", "output-std", "learning-curves")
    check_figures(
        study,
        "smoke",
        {
            *("outcome", "ablation-norm"),
            *(f"{attack}/{figure}" for attack in ("gradient-matching", "sleeper-agent") for figure in both),
            "gradient-matching/landscape-poison",
        },
    )
    check_report(study, "smoke", range(1, 7))
    check_nothing_is_left(study)


def test_the_whole_graph_of_deep_knn(tmp_path: Path, warm: str) -> None:
    study = computed(tmp_path, "deep-knn-smoke", warm, deep_knn)
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


def computed(folder: Path, name: str, python: str, spare: Callable[[Any], None]) -> Checkout:
    study = check_out(folder / "study", REPOSITORY / "config" / f"{name}.yaml", python)
    study.change_study(spare)
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
    """Every published number is there, and has ours beside it if it was run."""
    table = pd.read_csv(study.path / f"results/tables/smoke-table{number}.csv")
    published = table[table["published_success"].notna()]
    every = pd.read_csv(REPOSITORY / f"reference/friends/table{number}.csv")
    assert len(published) == (every["measure"] == "success").sum()
    ran = published[published["our_defense"].notna()]
    assert len(published) - len(ran) == LEFT_OUT[number]
    assert (ran["n"] == 1).all()
    assert ran[["success", "accuracy"]].notna().all(axis=None)
    for kind in ("md", "tex"):
        assert (study.path / f"results/tables/smoke-table{number}.{kind}").stat().st_size > 500


def check_successes(study: Checkout, number: int, attack: str, filters: Collection[str]) -> None:
    """Every number is that of the trials whose undefended attack succeeds, counted anew; that of all stands beside."""
    trials = pd.read_csv(study.path / "results/tables/deep-knn-smoke-trials.csv")
    trials = trials[trials["attack"] == attack]
    hits = trials.loc[(trials["defense"] == "none") & (trials["success"] == 1), ["victim", "seed"]]
    assert len(hits) > 0
    table = pd.read_csv(study.path / f"results/tables/deep-knn-smoke-table{number}.csv")
    published = pd.read_csv(REPOSITORY / f"reference/deep-knn/table{number}.csv")
    assert set(table["defense"]) >= set(published["defense"])
    table = table.dropna(subset="our_defense").set_index("our_defense")
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
