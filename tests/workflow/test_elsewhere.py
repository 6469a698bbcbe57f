"""The workflow called from another folder, and used as a module of another workflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from harness import STUDY, Checkout

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
VICTIM = "results/victims/tiny/strong/scratch/none/seed0.safetensors"
MODULE = """configfile: "{study}"

module lab:
    snakefile: "{snakefile}"
    config: config

use rule * from lab as lab_*

rule mine:
    default_target: True
    input: "{target}", "results/tables/tiny.csv"
"""


@pytest.fixture
def elsewhere(planned: Checkout, tmp_path: Path) -> Checkout:
    """A folder without the workflow, for a study whose jobs a stub does."""
    shutil.copy(HERE / "tiny.yaml", tmp_path / STUDY)
    return Checkout(tmp_path, planned.python)


def same_jobs(one: Checkout, other: Checkout, output: str) -> None:
    """Settings, code and inputs of the job that made a result do not depend on the folder."""
    assert one.record(output)["params"] == other.record(output)["params"]
    assert one.record(output)["input"] == other.record(output)["input"]


def test_from_another_folder(planned: Checkout, elsewhere: Checkout) -> None:
    options = ("--snakefile", str(planned.path / "Snakefile"), "--cores", "2")
    outcome = elsewhere.snakemake(VICTIM, *options)
    assert outcome.code == 0, outcome.output
    same_jobs(planned, elsewhere, VICTIM)
    assert "Nothing to be done" in elsewhere.snakemake(VICTIM, *options).output
    # Nothing is written beside the workflow's own files.
    assert {path.name for path in elsewhere.path.iterdir()} == {STUDY, "results", ".snakemake"}


def test_as_a_module(planned: Checkout, elsewhere: Checkout) -> None:
    text = MODULE.format(study=STUDY, snakefile=planned.path / "workflow/Snakefile", target=VICTIM)
    (elsewhere.path / "Snakefile").write_text(text, encoding="utf-8")
    command = (elsewhere.python, "-m", "snakemake", "--cores", "2")
    outcome = elsewhere.run(*command)
    assert outcome.code == 0, outcome.output
    same_jobs(planned, elsewhere, VICTIM)
    assert "Nothing to be done" in elsewhere.run(*command).output
