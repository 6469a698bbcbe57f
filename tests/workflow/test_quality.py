"""The workflow's own form: linters, graph, and the limits it promises."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from harness import REPOSITORY, STUDY, Checkout, check_out, environment, forked
from predicting import inside

from poisonlab.config.merging import merged_config
from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent


def test_rule_graph(fresh: Checkout) -> None:
    outcome = fresh.snakemake("--rulegraph", "mermaid-js")
    assert outcome.code == 0, outcome.output
    assert "flowchart" in outcome.output
    for rule in ("pretrain", "craft", "noise", "train", "tables"):
        assert rule in outcome.output


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--cores", "all", "--config", "seeds=[1,2]"),
    ],
    ids=["profile alone", "seeds on the command line"],
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
    assert "results/victims/digits/gradient-matching/scratch/none/seed3.safetensors" in outcome.output
    assert "seed10" not in outcome.output


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").glob("*.yaml")), ids=lambda path: str(path.name))
def test_every_config_file_is_valid(path: Path) -> None:
    with inside(REPOSITORY):
        graph = Graph(read_study(merged_config([str(path)], [])))
        graph.check()
        assert graph.all_jobs()


def test_the_study_for_slurm_is_as_its_checks_expect(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which few machines run: `make test-slurm`."""
    monkeypatch.syspath_prepend(REPOSITORY / "tests/slurm")
    checks = import_module("checks")
    with inside(REPOSITORY):
        jobs = Graph(read_study(merged_config([str(REPOSITORY / "tests/slurm/study.yaml")], []))).all_jobs()
    assert {job.stage for job in jobs if job.computes} == checks.ON_A_GPU
    (train,) = [job for job in jobs if f"{checks.VICTIM}.safetensors" in job.outputs.values()]
    assert train.options["checkpoint"] == [checks.CHECKPOINT]


def test_an_overlay_takes_keys_away(fresh: Checkout) -> None:
    files = ("config/paper-mini.yaml", "config/overlays/cifar10-parquet-mini.yaml")
    outcome = fresh.run(sys.executable, "-m", "snakemake", "-n", "--quiet", "--configfile", *files)
    assert "Missing input files" in outcome.output
    assert "data/cifar10/train.parquet" in outcome.output


def profile(name: str) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load((REPOSITORY / f"profiles/{name}/config.yaml").read_text(encoding="utf-8"))
    return settings


def test_profiles_agree_on_what_is_stale() -> None:
    """Profiles do not inherit: what the default one says of any execution, the others must say too."""
    of_the_machine = {"cores", "resources"}
    shared = {key: value for key, value in profile("default").items() if key not in of_the_machine}
    assert "rerun-triggers" in shared
    for name in ("slurm", "cluster-generic"):
        other = profile(name)
        assert {key: other.get(key) for key in shared} == shared


@pytest.fixture
def on_slurm(tmp_path: Path) -> Callable[..., dict[str, dict[str, str]]]:
    """Resources by rule, of the jobs that the Slurm profile submits, as a dry run shows them."""
    pytest.importorskip("snakemake_executor_plugin_slurm")
    checkout = check_out(tmp_path / "study", HERE / "tiny.yaml")
    checkout.append("Snakefile", "\n\nprint('local', *workflow._localrules)\n")

    def resources(device: str, *arguments: str) -> dict[str, dict[str, str]]:
        checkout.change_study(lambda study: study.update(device=device))
        outcome = checkout.snakemake("-n", "--workflow-profile", "profiles/slurm", *arguments)
        assert outcome.code == 0, outcome.output
        (local,) = {line for line in outcome.output.splitlines() if line.startswith("local ")}
        found = dict(re.findall(r"^rule (\w+):$.*?^    resources: (.*?)$", outcome.output, re.MULTILINE | re.DOTALL))
        submitted = found.keys() - set(local.split())
        return {rule: dict(part.split("=", 1) for part in found[rule].split(", ")) for rule in submitted}

    return resources


def test_slurm_gets_the_heavy_jobs_with_their_resources(on_slurm: Callable[..., dict[str, dict[str, str]]]) -> None:
    heavy = {"pretrain", "craft", "noise", "train", "landscape_poison", "landscape_victims", "output_std"}
    given = on_slurm("cuda")
    assert given.keys() == {"dataset", *heavy}
    assert {rule for rule, resources in given.items() if resources.get("gpu") == "1"} == heavy
    for resources in given.values():
        assert int(resources["mem_mb"]) > 0
        assert int(resources["runtime"]) > 0
    assert {rule for rule, resources in on_slurm("cpu").items() if resources.get("gpu") == "1"} == set()


@pytest.mark.parametrize("asked", ["0", "1"])
def test_a_job_on_its_node_asks_for_what_it_was_submitted_with(
    monkeypatch: pytest.MonkeyPatch, on_slurm: Callable[..., dict[str, dict[str, str]]], asked: str
) -> None:
    monkeypatch.setenv("POISONLAB_GPU_HERE", asked)
    assert on_slurm("auto")["train"]["gpu"] == asked


def test_one_line_puts_all_gpu_jobs_into_a_partition(
    tmp_path: Path, on_slurm: Callable[..., dict[str, dict[str, str]]]
) -> None:
    (tmp_path / "study/profiles/slurm/config.yaml").write_text(
        (REPOSITORY / "profiles/slurm/config.yaml")
        .read_text(encoding="utf-8")
        .replace("    # slurm_partition:", "    slurm_partition:")
        .replace("  # slurm_partition:", "  slurm_partition:"),
        encoding="utf-8",
    )
    for resources in on_slurm("cuda").values():
        assert resources["slurm_partition"] == ("gpu" if resources.get("gpu") == "1" else "cpu")


def test_the_environment_leads_to_no_other_checkout() -> None:
    assert "PYTHONPATH" not in environment()


COUNT = """
import cProfile, pstats, sys
from snakemake.cli import main

profile = cProfile.Profile()
try:
    profile.runcall(main, ["-n", "--quiet", "--cores", "1", *sys.argv[1:]])
except SystemExit as ended:
    assert not ended.code
calls = {place: numbers[0] for place, numbers in pstats.Stats(profile).stats.items()}
own = sum(number for (file, _, _), number in calls.items() if "/workflow/rules/" in file or "/src/poisonlab/" in file)
print("calls:", sum(calls.values()), own)
"""


def test_a_dry_run_grows_with_its_jobs_alone(fresh: Checkout, tmp_path: Path) -> None:
    """In calls of Python functions, Snakemake's and our own, because seconds depend on the machine."""
    program = tmp_path / "count.py"
    program.write_text(COUNT, encoding="utf-8")

    def calls(seeds: int) -> tuple[int, int]:
        chosen = f"seeds={list(range(seeds))}".replace(" ", "")
        command = (fresh.python, str(program), "--configfile", STUDY, "--config", chosen)
        outcome = forked("snakemake", command, fresh.path, environment(), 900)
        found = re.search(r"^calls: (\d+) (\d+)$", outcome.output, flags=re.MULTILINE)
        assert found is not None, outcome.output
        return int(found[1]), int(found[2])

    few, more, most = calls(2), calls(7), calls(12)
    # A surrogate, two poison sets, four noises and eight victims per seed.
    jobs = 5 * (1 + 2 + 4 + 8)
    for before, now, then, budget in zip(few, more, most, (11_000, 250), strict=True):
        assert (now - before) / jobs < budget
        assert then - now < 1.05 * (now - before)


QSUB = """#!/bin/bash
# Stands in for a scheduler: starts the script at once and prints a number for it.
echo "$@" >> "$(dirname "$0")/asked"
script=${@: -1}
bash "$script" > /dev/null 2>&1 &
echo $!.here
"""


def test_any_scheduler_that_takes_a_script(planned: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    (bin_ / "qsub").write_text(QSUB, encoding="utf-8")
    (bin_ / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    checkout = planned.copy(tmp_path / "study")
    checkout.change_study(lambda study: study.update(device="cuda"))
    target = "results/poisons/tiny/strong/seed0.safetensors"
    (checkout.path / target).unlink()
    options = ("--workflow-profile", "profiles/cluster-generic", "--seconds-between-status-checks", "1")
    outcome = checkout.snakemake(target, *options)
    assert outcome.code == 0, outcome.output
    assert (checkout.path / target).is_file()
    (asked,) = (bin_ / "asked").read_text(encoding="utf-8").splitlines()
    assert "select=1:ncpus=1:mem=6000mb:ngpus=1" in asked
    assert "walltime=86400 " in asked  # 1440 minutes, of crafting
    assert "Nothing to be done" in checkout.snakemake(target, *options).output


def test_a_config_that_changes_before_a_job_begins_on_its_node_ends_it(
    planned: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    checkout, bin_ = planned.copy(tmp_path / "study"), tmp_path / "bin"
    bin_.mkdir()
    edit = f"sed -i 's/eps: 16/eps: 8/' {checkout.path / 'study.yaml'}"
    log = f"{tmp_path}/node.log"
    (bin_ / "qsub").write_text(QSUB.replace("script=", f"{edit}\nscript=").replace("/dev/null", log), encoding="utf-8")
    (bin_ / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}:{os.environ['PATH']}")
    target = checkout.path / "results/poisons/tiny/strong/seed0.safetensors"
    target.unlink()
    options = (
        "--workflow-profile",
        "profiles/cluster-generic",
        "--seconds-between-status-checks",
        "1",
        "--retries",
        "0",
    )
    outcome = checkout.snakemake(str(target.relative_to(checkout.path)), *options)
    assert outcome.code == 1, outcome.output
    assert not target.exists()
    assert "the config has changed since this job was submitted: restore it" in Path(log).read_text(encoding="utf-8")


@pytest.mark.parametrize("target", ["noise/{}.safetensors", "filters/{}.safetensors", "diluted/{}.safetensors"])
def test_a_target_that_the_study_lacks_is_one_line(planned: Checkout, target: str) -> None:
    path = f"results/{target.format('tiny/strong/scratch/none/seed0')}"
    outcome = planned.snakemake("-n", "--cores", "1", path)
    assert outcome.code == 1
    assert "Traceback" not in outcome.output
    assert f"No rule to produce {path}" in outcome.output


@pytest.mark.parametrize("target", ["tables/tiny-transfer.csv", "tables/tiny-so-far-transfer.csv", "tiny.html"])
def test_so_is_one_of_a_part_that_it_does_not_ask_for(planned: Checkout, target: str) -> None:
    outcome = planned.snakemake("-n", "--cores", "1", f"results/{target}")
    assert "Traceback" not in outcome.output
    assert f"No rule to produce results/{target}" in outcome.output


def test_fewer_cores_than_threads_change_no_bits(planned: Checkout) -> None:
    options = ("--config", "threads=2", "--configfile", "study.yaml", "--forceall")
    commands = planned.commands("results/surrogates/tiny/base/seed0-0.safetensors", *options, "--cores", "1")
    assert " --threads 2 " in commands["pretrain", "base/0/0"]
