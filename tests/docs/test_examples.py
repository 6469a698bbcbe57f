"""The worked examples of docs/add-*.md, carried out in a copy of the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_pages import ROOT, blocks
from harness import forked

from poisonlab.modules import roots
from poisonlab.provenance import code_digests

PAGES = ("add-a-model.md", "add-an-attack.md", "add-a-defense.md", "add-a-dataset.md")
COPIED = (
    "Snakefile",
    "src",
    "workflow",
    "config",
    "config.yaml",
    "envs",
    "reference",
    "profiles",
    "tests/conftest.py",
    "tests/contracts",
)
JOBS = {
    "dataset": ("workflow/scripts/dataset.py", "poisonlab.data.digits_on_photos"),
    "craft": ("workflow/scripts/craft.py", "poisonlab.attacks.gradient_matching"),
    "train": ("workflow/scripts/train.py", "poisonlab.defenses.random_noise", *roots("models", "small-resnet")),
    "tables": ("workflow/scripts/tables.py",),
}


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the workflow needs, without the examples."""
    place = tmp_path_factory.mktemp("examples") / "poisonlab"
    place.mkdir()
    for name in COPIED:
        source = ROOT / name
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, place / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy2(source, place / name)
    return place


@pytest.fixture(scope="module")
def copy(bare: Path) -> Path:
    """The repository with all examples carried out, and config/example.yaml that uses them."""
    place = bare.with_name("with-examples")
    shutil.copytree(bare, place)
    for page in PAGES:
        add_example(page, place)
    return place


def add_example(page: str, place: Path) -> None:
    for body in blocks(page, "python"):
        path = place / body.partition("\n")[0].removeprefix("# ")
        assert not (ROOT / path.relative_to(place)).exists(), f"docs/{page}: {path.name} exists; choose another example"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    for body in blocks(page, "diff"):
        apply_diff(body, place, page)
    config = place / "config" / "example.yaml"
    study = yaml.safe_load(
        (config if config.exists() else ROOT / "tests" / "docs" / "study.yaml").read_text(encoding="utf-8")
    )
    for body in blocks(page, "yaml"):
        for key, value in yaml.safe_load(body).items():
            study[key] = study[key] + value if isinstance(value, list) else value
    config.write_text(yaml.safe_dump(study), encoding="utf-8")


def apply_diff(diff: str, place: Path, page: str) -> None:
    """Apply hunks whose context and removed lines occur once in the file; their line numbers are not given."""
    path = None
    for hunk in diff.split("@@\n"):
        lines = hunk.splitlines()
        if lines[-1].startswith("+++ b/"):
            path = place / lines[-1].removeprefix("+++ b/")
            continue
        assert path is not None
        before = "".join(line[1:] + "\n" for line in lines if line[:1] != "+")
        after = "".join(line[1:] + "\n" for line in lines if line[:1] != "-")
        text = path.read_text(encoding="utf-8")
        assert text.count(before) == 1, f"docs/{page}: the diff no longer fits {path.relative_to(place)}:\n{before}"
        path.write_text(text.replace(before, after), encoding="utf-8")


def in_copy(place: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *command], cwd=place, env=variables(place), capture_output=True, text=True)


def variables(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(place / "src"), "OMP_NUM_THREADS": "1"}


def test_a_config_with_all_of_them_is_accepted(copy: Path) -> None:
    program = (
        "import yaml, poisonlab\n"
        "from poisonlab.config.study import read_study\n"
        "study = read_study(yaml.safe_load(open('config/example.yaml')))\n"
        "print(poisonlab.__file__)\n"
        "print(study.dataset.source, study.attacks[-1].method, [d.method for d in study.defenses[-1].apply])\n"
        "print([victim.model.name for victim in study.victims_of(study.attack('carried-over'))])\n"
    )
    done = in_copy(copy, "-c", program)
    assert done.returncode == 0, done.stderr
    where, chosen, models = done.stdout.splitlines()
    assert Path(where).is_relative_to(copy)
    assert chosen == "checkerboard watermark ['label-smoothing', 'random-noise']"
    assert models == "['small-resnet', 'perceptron']"


def test_a_wrong_value_is_reported_by_its_key(copy: Path) -> None:
    program = (
        "import yaml\n"
        "from poisonlab.config.study import read_study\n"
        "study = yaml.safe_load(open('config/example.yaml'))\n"
        "study['attacks'][-1]['opacity'] = 2\n"
        "read_study(study)\n"
    )
    done = in_copy(copy, "-c", program)
    assert "SettingsError: config: attacks.2.opacity:" in done.stderr


@pytest.mark.workflow
def test_the_graph_holds_the_new_jobs(copy: Path) -> None:
    command = (sys.executable, "-m", "snakemake", "-n", "--cores", "1", "--configfile", "config/example.yaml")
    done = forked("snakemake", command, copy, variables(copy), 300)
    assert done.code == 0, done.output
    for path in (
        "poisons/checkerboard/watermark/seed0.safetensors",
        "victims/checkerboard/watermark/scratch/smooth-bernoulli/seed1.safetensors",
        "victims/checkerboard/gradient-matching/scratch/smooth/seed0.safetensors",
        "victims/checkerboard/carried-over/other/none/seed0.safetensors",
    ):
        assert path in done.output


def test_the_tests_of_the_examples_pass(copy: Path) -> None:
    made = sorted(str(path) for path in (copy / "tests").rglob("test_*.py") if path.parent.name != "contracts")
    assert len(made) == len(PAGES)
    contracts = [
        str(copy / "tests" / "contracts" / f"test_{kind}.py") for kind in ("architectures", "attacks", "defenses")
    ]
    # Of the contracts only what the examples add.
    others = "not (test_architectures or test_attacks or test_defenses)"
    chosen = ("-k", f"perceptron or watermark or label-smoothing or registered or {others}")
    options = ("-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(copy))
    beside = ("-o", f"pythonpath={copy / 'tests' / 'contracts'}")
    command = (sys.executable, "-m", "pytest", *options, *beside, *chosen, *made, *contracts)
    done = forked("jobs", command, copy, variables(copy), 600)
    assert done.code == 0, done.output


def digests(place: Path) -> dict[str, list[str]]:
    return {job: code_digests(*roots, base=place) for job, roots in JOBS.items()}


def test_adding_a_model_an_attack_a_defense_or_a_dataset_changes_no_other_job(bare: Path, copy: Path) -> None:
    assert digests(copy) == digests(bare)


def test_an_edit_of_the_attack_changes_its_job_only(copy: Path, tmp_path: Path) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(copy, edited)
    module = edited / "src" / "poisonlab" / "attacks" / "watermark.py"
    text = module.read_text(encoding="utf-8")
    assert "settings.opacity *" in text
    module.write_text(text.replace("settings.opacity *", "0.5 * settings.opacity *"), encoding="utf-8")
    own: dict[str, Any] = {place: code_digests("poisonlab.attacks.watermark", base=place) for place in (copy, edited)}
    assert own[copy] != own[edited]
    assert digests(copy) == digests(edited)
