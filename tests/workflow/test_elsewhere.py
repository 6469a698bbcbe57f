"""The workflow called from another folder, used as a module of another workflow, and deployed from a Git host."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness import REPOSITORY, STUDY, Checkout
from listed import listed

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
VICTIM = "results/victims/tiny/strong/scratch/none/seed0.safetensors"
HOST = """configfile: "study.yaml"

module plain:
    snakefile: "{snakefile}"
    config: config

module moved:
    snakefile: "{snakefile}"
    config: config
    prefix: "lab"

module default:
    snakefile: "{snakefile}"
    config: dict(study="mine", seeds=[3])

use rule * from plain as plain_*
use rule * from moved as moved_*
use rule * from default as default_*

# Of this workflow's own commands.
shell.prefix("set -eu; ")

rule both:
    default_target: True
    input: rules.plain_all.input, rules.moved_all.input, rules.default_pretrained.input
"""


def test_from_another_folder(planned: Checkout, tmp_path: Path) -> None:
    shutil.copy(HERE / "tiny.yaml", tmp_path / STUDY)
    elsewhere = Checkout(tmp_path, planned.python)
    options = ("--snakefile", str(planned.path / "Snakefile"), "--cores", "2")
    outcome = elsewhere.snakemake(VICTIM, *options)
    assert outcome.code == 0, outcome.output
    for told in ("params", "input"):
        assert planned.record(VICTIM)[told] == elsewhere.record(VICTIM)[told]
    assert "Nothing to be done" in elsewhere.snakemake(VICTIM, *options).output
    # Nothing is written beside the workflow's own files.
    assert {path.name for path in elsewhere.path.iterdir()} == {STUDY, "results", ".snakemake"}


# --- As a module ---


def test_a_module_has_the_jobs_of_a_direct_run(fresh: Checkout, tmp_path: Path) -> None:
    host = Checkout(tmp_path)
    shutil.copy(HERE / "real.yaml", tmp_path / STUDY)
    text = HOST.format(snakefile=fresh.path / "workflow/Snakefile")
    (tmp_path / "Snakefile").write_text(text, encoding="utf-8")
    direct = host.commands("all", "--snakefile", str(fresh.path / "Snakefile"), "--configfile", STUDY)
    assert {"dataset", "craft", "train", "tables", "figure", "page"} <= {rule for rule, _ in direct}
    # Packages that lie beside the environment stay in reach.
    assert all("${PYTHONPATH:+:$PYTHONPATH}" in command for command in direct.values())
    of_modules = host.commands()
    for module, results in (("plain", "results"), ("moved", "lab/results")):
        own = {
            (rule.removeprefix(f"{module}_"), name): command
            for (rule, name), command in of_modules.items()
            if rule.startswith(f"{module}_")
        }
        # Every path is moved, those within settings and commands, too, and nothing else differs.
        assert own == {job: command.replace("results/", f"{results}/") for job, command in direct.items()}
    # What a config leaves out is as in the default study.
    surrogates = {job for job in of_modules if job[0] == "default_pretrain"}
    assert surrogates == {("default_pretrain", "base/3/0"), ("default_pretrain", "base/3/1")}


def test_the_documented_module_makes_the_same_bytes(
    fresh: Checkout, finished: Checkout, warm: str, tmp_path: Path
) -> None:
    page = (REPOSITORY / "config/README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    here, found = re.subn(r"github\(.*?\)", repr(str(fresh.path / "workflow/Snakefile")), block)
    assert found == 1
    host = Checkout(tmp_path, warm)
    text = f"configfile: {STUDY!r}\n\n{here.replace('digits.csv', 'real.csv')}"
    (tmp_path / "Snakefile").write_text(text, encoding="utf-8")
    study = yaml.safe_load((HERE / "real.yaml").read_text(encoding="utf-8"))
    (tmp_path / STUDY).write_text(yaml.safe_dump({"poisonlab": study, "mine": 1}), encoding="utf-8")
    tables = tmp_path / "poisoning/results/tables"
    tables.mkdir(parents=True)
    shutil.copy(finished.path / "results/tables/real-trials.csv", tables)
    outcome = host.run(warm, "-m", "snakemake", "--cores", "1", "mine")
    assert outcome.code == 0, outcome.output
    made = [path for path in finished.files("real.*") if "/tables/" in path]
    assert len(made) == 4
    for path in made:
        assert (tmp_path / "poisoning" / path).read_bytes() == (finished.path / path).read_bytes(), path
        assert host.record(f"poisoning/{path}")["params"] == finished.record(path)["params"]


# --- From a Git host ---


@pytest.fixture
def hosted(fresh: Checkout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a repository with the workflow; Git finds here what Snakemake looks for on GitHub."""
    repository = tmp_path / "github/lab/poisonlab"
    shutil.copytree(fresh.path, repository, ignore=shutil.ignore_patterns(".snakemake", "results", "imported"))
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "all"), ("tag", "v1")):
        git = ("git", "-c", "user.name=someone", "-c", "user.email=someone@example.org", *arguments)
        subprocess.run(git, cwd=repository, check=True)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/github/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return f"file://{repository}"


def deploy(hosted: str, folder: Path, python: str, *version: str) -> Checkout:
    """A folder as snakedeploy makes it, with a small study in the place of the default one."""
    snakedeploy = str(Path(sys.executable).with_name("snakedeploy"))
    outcome = Checkout(folder.parent).run(snakedeploy, "deploy-workflow", hosted, folder.name, *version)
    assert outcome.code == 0, outcome.output
    config = folder / "config/config.yaml"
    assert config.read_bytes() == (REPOSITORY / "config.yaml").read_bytes()
    shutil.copy(HERE / "real.yaml", config)
    return Checkout(folder, python)


def test_a_deployed_tag_makes_the_same_bytes(finished: Checkout, hosted: str, warm: str, tmp_path: Path) -> None:
    deployed = deploy(hosted, tmp_path / "deployed", warm, "--tag", "v1")
    dataset = "results/data/real.safetensors"
    outcome = deployed.run(warm, "-m", "snakemake", "--cores", "1", dataset)
    assert outcome.code == 0, outcome.output
    assert (deployed.path / dataset).read_bytes() == (finished.path / dataset).read_bytes()
    assert deployed.record(dataset)["params"] == finished.record(dataset)["params"]


def test_a_deployed_branch_makes_the_same_bytes(finished: Checkout, hosted: str, warm: str, tmp_path: Path) -> None:
    deployed = deploy(hosted, tmp_path / "deployed", warm, "--branch", "main")
    table, trials = "results/tables/real.md", "results/tables/real-trials.csv"
    (deployed.path / trials).parent.mkdir(parents=True)
    shutil.copy(finished.path / trials, deployed.path / trials)
    outcome = deployed.run(warm, "-m", "snakemake", "--cores", "1", table)
    assert outcome.code == 0, outcome.output
    assert (deployed.path / table).read_bytes() == (finished.path / table).read_bytes()
    # Captions come from the Git host, too.
    outcome = deployed.run(warm, "-m", "snakemake", table, "--report", "report.html")
    assert outcome.code == 0, outcome.output
    assert "friends-bernoulli" in listed(deployed.path / "report.html").results[table]["caption"]
