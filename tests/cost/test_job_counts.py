"""The jobs that the estimate counts against those that Snakemake plans."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poisonlab.config.study import read_study
from poisonlab.cost.jobs import Jobs, jobs_of
from poisonlab.cost.sizes import sizes_of
from poisonlab.cost.stages import stages_of

ROOT = Path(__file__).resolve().parents[2]
RULES = (
    "pretrain",
    "craft",
    "filter",
    "noise",
    "train",
    "detect",
    "landscape_poison",
    "landscape_victims",
    "output_std",
)
DRAWINGS, TABLES = "figure_", ("dataset", "trials", "tables", "paper_table", "ablation_", "report")


def planned(study: Path, results: str) -> dict[str, int]:
    """Rule to jobs: the statistics of a dry run into a folder that is not there."""
    command = ["snakemake", "-n", "--quiet", "rules", "--nolock", "--cores", "1", "--configfile", str(study)]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--config", f"results={results}"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = re.findall(r"^(\w+) +(\d+)$", done.stdout + done.stderr, flags=re.MULTILINE)
    return {rule: int(count) for rule, count in lines}


def counts(jobs: Jobs) -> dict[str, int]:
    return {rule: len(getattr(jobs, rule)) for rule in RULES}


@pytest.mark.workflow
@pytest.mark.parametrize("name", ["smoke", "defenses", "attacks"])
def test_counts_are_those_of_a_dry_run(name: str) -> None:
    path = ROOT / "config" / f"{name}.yaml"
    statistics = planned(path, "results/none-of-these-exist")
    study = read_study(yaml.safe_load(path.read_text(encoding="utf-8")))
    jobs = jobs_of(study)
    assert counts(jobs) == {rule: statistics.get(rule, 0) for rule in RULES}
    assert jobs.drawings == sum(count for rule, count in statistics.items() if rule.startswith(DRAWINGS))
    assert jobs.tables == sum(count for rule, count in statistics.items() if rule.startswith(TABLES))
    # Snakemake adds the rule that asks for everything.
    assert sum(stage.jobs for stage in stages_of(study, sizes_of(study.dataset))) == statistics["total"] - 1


def test_a_grey_box_needs_the_network_that_is_not_crafted_on() -> None:
    study = yaml.safe_load((ROOT / "tests" / "docs" / "study.yaml").read_text(encoding="utf-8"))
    study["victims"] = [{"name": "moved", "scenario": "transfer", "pretrained": "base", "member": 2}]
    assert jobs_of(read_study(study)).pretrain == {("base", seed, member) for seed in (0, 1) for member in (0, 2)}
