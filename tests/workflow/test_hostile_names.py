"""Paths, texts and class names full of marks that a shell, Snakemake or a page would act on: nothing does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import REPOSITORY, check_out
from PIL import Image

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
MARKS = """it's $(touch canary1) `touch canary2`; touch canary3 & "x" | *[?] #é -rf"""
FOLDER = "it's (a) *; touch canary4 & #é"


def test_every_shell_command_is_put_together_and_quoted_by_the_graph() -> None:
    for path in (REPOSITORY / "workflow/rules").glob("*.smk"):
        lines = path.read_text(encoding="utf-8").splitlines()
        shells = [lines[place + 1].strip() for place, line in enumerate(lines) if line.strip() == "shell:"]
        assert set(shells) <= {'"{params.command} > {log:q} 2>&1"'}, path


def study_of(folder: Path) -> Any:
    def change(study: Any) -> None:
        study["description"] = f"{MARKS} {{seed}} <b>bold</b> \\input{{x}} % é"
        names = [f"{MARKS} 0", "$x_1$", "=1+1"]
        study["dataset"] = {"source": "npz", "path": f"{MARKS}/a {MARKS}.npz", "class_names": names}
        study["seeds"] = [0]
        study["attacks"] = [{"name": "moved", "method": "imported", "path": f"{MARKS}/seed{{seed}}", "target_index": 0}]
        study["surrogates"], study["figures"] = [], {"attacks": []}
        study["defenses"], study["compare"] = [{"name": "none"}], ["none"]
        study["merge"] = [f"{MARKS}/b {MARKS}.csv"]

    return change


def test_marks_that_the_schema_allows_reach_the_programs_and_nothing_else(tmp_path: Path, warm: str) -> None:
    study = check_out(tmp_path / FOLDER, HERE / "tiny.yaml", warm)
    study.change_study(study_of(study.path))
    inputs = study.path / MARKS
    (inputs / "seed0").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = rng.integers(0, 256, (60, 16, 16, 3), dtype=np.uint8)
    np.savez(
        inputs / f"a {MARKS}.npz", x_train=images, y_train=labels, x_test=images[::-1][:12], y_test=labels[::-1][:12]
    )
    for row in (0, 3):
        Image.fromarray(images[row] ^ 1).save(inputs / "seed0" / f"{row}.png")
    header = (REPOSITORY / "results/reference/digits-cpu/digits-trials.csv").read_text(encoding="utf-8").splitlines()[0]
    (inputs / f"b {MARKS}.csv").write_text(header + "\n", encoding="utf-8")
    before = {path.relative_to(study.path) for path in study.path.rglob("*")}

    outcome = study.snakemake("results", "report", "--cores", "2")

    assert outcome.code == 0, outcome.output
    made = {path.relative_to(study.path) for path in study.path.rglob("*") if path.is_file()} - before
    wanted = {path for path in made if path.parts[0] in (".snakemake", "results") or "__pycache__" in path.parts}
    assert made == wanted
    assert not list(tmp_path.rglob("canary*"))
    results = {path.as_posix() for path in made if path.parts[0] == "results" and path.suffix not in (".log", ".json")}
    assert results == {
        "results/data/tiny.safetensors",
        "results/poisons/tiny/moved/seed0.safetensors",
        "results/victims/tiny/moved/scratch/none/seed0.safetensors",
        *(f"results/tables/tiny{end}" for end in (".csv", ".md", ".tex", "-time.md", "-trials.csv")),
        *(f"results/figures/tiny/outcome.{end}" for end in ("pdf", "png", "txt")),
        "results/reports/tiny.html",
    }
    page = (study.path / "results/reports/tiny.html").read_text(encoding="utf-8")
    assert "<b>bold</b>" not in page
    assert "&lt;b&gt;bold&lt;/b&gt;" in page
    # What is no table stands in a comment.
    source = (study.path / "results/tables/tiny.tex").read_text(encoding="utf-8")
    assert all(line.startswith("%") for line in source.splitlines() if "input" in line)


@pytest.mark.parametrize("name", ["a$(touch canary)`touch canary`", 'a"\\b\nc', "{a}"])
def test_a_folder_that_snakemake_cannot_quote_is_refused(name: str, tmp_path: Path) -> None:
    study = check_out(tmp_path / name, HERE / "tiny.yaml")
    outcome = study.snakemake("-n", "--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    assert "has a mark in its name that Snakemake cannot quote: rename it" in outcome.output
    assert not list(tmp_path.rglob("canary*"))


def test_results_where_a_file_is(tmp_path: Path) -> None:
    study = check_out(tmp_path / "study", HERE / "tiny.yaml")
    study.change_study(lambda settings: settings.update(results="config.yaml/x"))
    outcome = study.snakemake("-n", "--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    assert "config: results: 'config.yaml' is a file" in outcome.output
