"""The workflow's own form: linters, graph, and the limits it promises."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from harness import REPOSITORY, Checkout, check_out, environment

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent


def test_lint(fresh: Checkout) -> None:
    outcome = fresh.run(sys.executable, "-m", "snakemake", "--lint")
    assert outcome.code == 0, outcome.output


def test_snakefmt(fresh: Checkout) -> None:
    program = shutil.which("snakefmt", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("snakefmt is not installed")
    shutil.copy(REPOSITORY / "pyproject.toml", fresh.path)
    outcome = fresh.run(program, "--check", "Snakefile", "workflow/rules")
    assert outcome.code == 0, outcome.output


def test_rule_graph(fresh: Checkout) -> None:
    outcome = fresh.snakemake("--rulegraph", "mermaid-js")
    assert outcome.code == 0, outcome.output
    assert "flowchart" in outcome.output
    for rule in ("pretrain", "craft", "noise", "train", "tables"):
        assert rule in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cores", "all"),
        (),
        ("--cores", "all", "--config", "seeds=[1,2]"),
        ("--cores", "all", "--configfile", "config/smoke.yaml"),
    ],
    ids=["cores all", "profile alone", "seeds on the command line", "smoke study"],
)
def test_readme_commands(fresh: Checkout, arguments: tuple[str, ...]) -> None:
    outcome = fresh.run(sys.executable, "-m", "snakemake", "-n", *arguments)
    assert outcome.code == 0, outcome.output
    assert "This was a dry-run" in outcome.output


def test_overlay_on_the_default_study(fresh: Checkout, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text("seeds: [3]\n", encoding="utf-8")
    outcome = fresh.run(sys.executable, "-m", "snakemake", "-n", "--configfile", str(overlay))
    assert outcome.code == 0, outcome.output
    assert "results/victims/digits/gradient-matching/none/seed3.safetensors" in outcome.output
    assert "seed10" not in outcome.output


def test_every_config_file_is_valid(fresh: Checkout) -> None:
    for path in sorted((fresh.path / "config").glob("*.yaml")):
        outcome = fresh.run(sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile", str(path))
        # A study of files that are not here may stop at those, and at nothing else.
        assert outcome.code == 0 or "Missing input files" in outcome.output, outcome.output


def test_an_overlay_takes_keys_away(fresh: Checkout) -> None:
    files = ("config/paper-mini.yaml", "config/overlays/cifar10-parquet.yaml")
    outcome = fresh.run(sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile", *files)
    assert "Missing input files" in outcome.output
    assert "data/cifar10/train.parquet" in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [(), ("--resources", "mem_mb=1000"), ("--workflow-profile", "none")],
    ids=["profile", "other resources on the command line", "no profile"],
)
def test_one_gpu_job_at_a_time(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    checkout = check_out(tmp_path / "study", HERE / "tiny.yaml")
    checkout.replace("study.yaml", "device: cpu", "device: cuda")
    checkout.append("Snakefile", "\n\nprint('limits', workflow.global_resources)\n")
    outcome = checkout.snakemake("-n", "--cores", "4", *arguments)
    assert outcome.code == 0, outcome.output
    (limits,) = {line for line in outcome.output.splitlines() if line.startswith("limits")}
    assert 'Resource("gpu", 1)' in limits
    assert "gpu=1" in outcome.output


def test_the_environment_leads_to_no_other_checkout() -> None:
    assert "PYTHONPATH" not in environment()
