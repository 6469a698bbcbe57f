"""What can go wrong on a machine: damaged files, full and read-only disks, clocks that jump, trainings that diverge."""

from __future__ import annotations

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from harness import STUDY, Checkout, Outcome, environment
from killing import lasting_content
from test_run import _made

from poisonlab.files import read_sealed

pytestmark = pytest.mark.workflow

DAY = 86_400


@pytest.fixture
def study(finished: Checkout, tmp_path: Path) -> Checkout:
    """A copy of ``finished`` to spoil."""
    return finished.copy(tmp_path / "study")


def errors(outcome: Outcome) -> set[str]:
    """The lines in which programs say what is wrong; they stand on their own, and there is no traceback."""
    assert "Traceback" not in outcome.output, outcome.output
    return {line.strip() for line in outcome.output.splitlines() if line.strip().startswith("error: ")}


def remove(study: Checkout, *patterns: str) -> None:
    for pattern in patterns:
        paths = list((study.path / "results").glob(pattern))
        assert paths, pattern
        for path in paths:
            path.unlink()


# --- damage -----------------------------------------------------------------------------------------------------


def test_what_is_damaged_is_named_never_used_and_made_anew(study: Checkout, finished: Checkout) -> None:
    poisons, metrics, landscape = (
        f"results/{name}"
        for name in (
            "poisons/real/strong/seed1.safetensors",
            "victims/real/strong/scratch/none/seed0.metrics.json",
            "figures/real/strong/landscape-poison.npz",
        )
    )
    os.truncate(study.path / poisons, (study.path / poisons).stat().st_size - 100)
    text = (study.path / metrics).read_text(encoding="utf-8")
    (study.path / metrics).write_text(text.replace('"accuracy": 0.', '"accuracy": 1.', 1), encoding="utf-8")
    content = bytearray((study.path / landscape).read_bytes())
    content[len(content) // 2] ^= 1
    (study.path / landscape).write_bytes(content)
    # What needs them is to be made again.
    remove(
        study,
        "noise/real/strong/scratch/*/seed1.*",
        "tables/real-trials.csv",
        "figures/real/strong/landscape-poison.p*",
    )

    # Tables wait for the victims of the poisons, so that their reader comes second.
    for found in ({poisons, landscape}, {metrics}):
        outcome = study.snakemake("--cores", "1")
        assert outcome.code == 1
        lines = errors(outcome)
        assert {line.removeprefix("error: ").split(" is damaged ")[0] for line in lines} == found
        assert all(line.endswith(": run the workflow again to make it anew") for line in lines)
        for name in found:
            assert not (study.path / name).exists()
            assert (study.path / f"{name}.damaged").exists()
            assert f"a damaged file is now named {name}.damaged" in outcome.output
        assert not (study.path / "results/tables/real-trials.csv").exists()
    # The poisons, what followed from them within one call, and no more.
    made = _made(outcome.output)
    stages = ("dataset", "pretrain", "craft", "noise", "train", "landscape_poison")
    assert [made[rule] for rule in stages] == [0, 0, 1, 1, 2, 1]

    last = study.snakemake("--cores", "1")
    assert last.code == 0, last.output
    made = _made(last.output)
    assert [made[rule] for rule in stages] == [0, 0, 0, 0, 1, 0]
    for damaged in (study.path / "results").rglob("*.damaged"):
        damaged.unlink()
    assert lasting_content(study) == lasting_content(finished)
    assert "Nothing to be done" in study.snakemake("--cores", "1").output


def test_verify_sets_aside_what_is_damaged_if_asked(study: Checkout) -> None:
    paths = [
        f"results/{name}"
        for name in (
            "victims/real/strong/scratch/none/seed1.card.json",
            "tables/real-trials.csv",
            "data/real.safetensors",
        )
    ]
    for path in paths:
        content = bytearray((study.path / path).read_bytes())
        content[len(content) // 2] ^= 1
        stamp = (study.path / path).stat()
        (study.path / path).write_bytes(content)
        os.utime(study.path / path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    command = ("verify", "--configfile", STUDY)
    looked = study.script(*command, "--deep")
    assert looked.code == 3, looked.output
    assert [line.split()[1].rstrip(":") for line in looked.output.splitlines() if line.startswith("damaged")] == sorted(
        paths
    )
    assert all((study.path / path).exists() for path in paths)
    assert study.script(*command, "--set-aside").code == 3
    assert not any((study.path / path).exists() for path in paths)
    # What was set aside is no fault any more, and what is missing is none.
    assert "0 unknown, 0 damaged; 3 not made yet" in study.script(*command, "--deep").output


# --- disks ------------------------------------------------------------------------------------------------------


def mounting(study: Checkout, script: str) -> Outcome | None:
    """Run a script in the study's folder that mounts what nobody else sees; None where that is not allowed."""
    own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*own, "mount", "-t", "tmpfs", "none", "/tmp"], capture_output=True, check=False).returncode:
        return None
    return study.run(*own, "bash", "-c", script)


def snakemake(*arguments: str) -> str:
    return shlex.join([sys.executable, "-m", "snakemake", *arguments, "--cores", "1", "--configfile", STUDY])


def test_a_full_disk_is_named_and_costs_nothing(study: Checkout) -> None:
    """The whole results folder on a disk that has room for the dataset, and later for all."""
    (study.path / "results").rename(study.path / "made")
    (study.path / "results").mkdir()
    script = f"""
        mount -t tmpfs -o size=600k none results
        cp -a made/data results/data || exit 90
        head -c 1000000 /dev/zero > results/filler 2> /dev/null
        {snakemake("pretrained", "--config", "seeds=[0]")}; echo "code $?"
        find results -path results/logs -prune -o -type f -print
        rm results/filler; mount -o remount,size=20m results
        {snakemake("pretrained", "--config", "seeds=[0]")}; echo "code $?"
        find results/surrogates -type f -name '*.safetensors'
    """
    outcome = mounting(study, script)
    if outcome is None:
        pytest.skip("mounting is not allowed here: tests/artifacts has the same with a faked error")
    full, room = outcome.output.split("code 1\n")
    (line,) = errors(Outcome(1, full))
    assert line == "error: the disk of results is full: free some space and run again"
    left, again = room.split("Using workflow specific profile", 1)
    assert set(left.split()) == {"results/data/real.safetensors", "results/filler"}
    assert "code 0" in again
    assert "rule dataset:" not in again
    assert again.rstrip().endswith("results/surrogates/real/base/seed0-0.safetensors")


def test_a_folder_of_results_that_cannot_be_written_is_one_line(fresh: Checkout, tmp_path: Path) -> None:
    study = fresh.copy(tmp_path / "study")
    (study.path / "results").mkdir()
    here = shlex.quote(str(study.path))
    protect = "mount --bind {0} {0} && mount -o remount,bind,ro {0} && cd {1} && "
    outcome = mounting(study, protect.format("results", here) + snakemake("pretrained"))
    whole = mounting(study, protect.format(here, here) + snakemake("-n"))
    if outcome is None or whole is None:
        if os.geteuid() == 0:
            pytest.skip("mounting is not allowed here, and nothing is read-only to root")
        (study.path / "results").chmod(0o555)
        outcome = study.snakemake("pretrained", "--cores", "1")
        study.path.chmod(0o555)
        whole = study.snakemake("-n", "--cores", "1")
        study.path.chmod(0o755)
    for found, folder in ((outcome, study.path / "results"), (whole, study.path / ".snakemake")):
        assert found.code == 1
        assert "Traceback" not in found.output
        assert found.output.count(f"{folder} cannot be written: make it writable") == 1


# --- two at once --------------------------------------------------------------------------------------------------


def test_a_second_workflow_in_the_folder_is_turned_away(study: Checkout, finished: Checkout) -> None:
    remove(study, "victims/real/strong/scratch/none/seed0.*")
    first = subprocess.Popen(
        [study.python, "-m", "snakemake", "victims", "--cores", "1", "--configfile", STUDY],
        cwd=study.path,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list((study.path / ".snakemake/locks").glob("*")):
        assert first.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    # It waits while the other one is asked.
    first.send_signal(signal.SIGSTOP)
    second = study.snakemake("victims", "--cores", "1")
    first.send_signal(signal.SIGCONT)
    assert second.code == 1
    assert "Traceback" not in second.output
    assert "Directory cannot be locked" in second.output
    assert first.wait(timeout=120) == 0
    assert study.files("victims/**/*.safetensors") == finished.files("victims/**/*.safetensors")


def test_tables_so_far_leave_a_running_study_locked(copied: Checkout) -> None:
    locks = copied.path / ".snakemake/locks"
    locks.mkdir(exist_ok=True)
    # As a call has it that makes a victim.
    (locks / "0.output.lock").write_text(
        "results/victims/tiny/strong/scratch/none/seed0.safetensors\n", encoding="utf-8"
    )
    assert copied.snakemake("results/tables/tiny-so-far.csv", "--cores", "1", "--touch").code == 0
    assert [lock.name for lock in locks.iterdir()] == ["0.output.lock"]
    second = copied.snakemake("victims", "--cores", "1", "--force")
    assert "Directory cannot be locked" in second.output
    assert copied.snakemake("--unlock", "--cores", "1").code == 0
    assert not locks.exists() or not list(locks.iterdir())


# --- edits while a study runs -----------------------------------------------------------------------------------


def test_code_that_changes_while_a_study_runs_is_not_run(fresh: Checkout, tmp_path: Path, warm: str) -> None:
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    # The first job edits what the second one runs, as somebody else would.
    study.append(
        "workflow/scripts/dataset.py",
        "\nPath('workflow/scripts/pretrain.py').open('a').write('\\nEDITED = 1\\n')\n",
    )
    target = "results/surrogates/tiny/base/seed0-0.safetensors"
    outcome = study.snakemake(target, "--cores", "1")
    assert outcome.code == 1, outcome.output
    (line,) = errors(outcome)
    assert line.startswith(
        "error: the code has changed since this job was planned (workflow/scripts/pretrain.py): restore"
    )
    assert not (study.path / target).exists()


# --- clocks -----------------------------------------------------------------------------------------------------


def shift(study: Checkout, seconds: float, *patterns: str) -> None:
    """Make results as if the clock had been wrong when they were written."""
    for pattern in patterns:
        for path in (study.path / "results").glob(pattern):
            stamp = path.stat()
            os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + int(seconds * 1e9)))


def test_a_clock_that_was_wrong_while_crafting_reruns_nothing(copied: Checkout) -> None:
    """A day ahead for one seed, and a day behind for the other."""
    shift(copied, DAY, "poisons/**/seed0.*")
    shift(copied, -DAY, "poisons/**/seed1.*")
    assert copied.plan().reasons == {}


def test_a_clock_that_jumps_back_between_two_stages(copied: Checkout) -> None:
    """What the surrogates and poisons say of their age lies in the future when the victims are trained."""
    remove(copied, "victims/tiny/strong/**/seed0.*")
    shift(copied, DAY, "data/*", "surrogates/**/*.*", "poisons/**/*.*", "noise/**/*.*")
    outcome = copied.snakemake("victims", "--cores", "2")
    assert outcome.code == 0, outcome.output
    made = _made(outcome.output)
    assert (made["pretrain"], made["craft"], made["noise"], made["train"]) == (0, 0, 0, 4)
    # It is not made again for ever, and what changes is noticed whatever the time.
    assert copied.plan("victims").reasons == {}
    copied.change_study(lambda study: study["attacks"][0].update(eps=8))
    assert copied.plan().direct() == {("craft", "strong/0"), ("craft", "strong/1")}


# --- trainings that diverge -----------------------------------------------------------------------------------------

WILD = {"method": "dp-sgd", "noise_multiplier": 1e30}
ROWS = [
    {"name": "wild", "apply": [WILD]},
    {"name": "filtered", "apply": [{"method": "l2-centroid", "fraction": 0.1, "network": "wild"}]},
    {"name": "strip", "apply": [{"method": "strip", "count": 5, "clean_share": 0.4, "far": 0.5, "network": "wild"}]},
    {"name": "friendly", "apply": [WILD, {"method": "friendly-noise", "steps": 2, "def_epoch": 1}]},
]


def test_a_victim_that_diverges_is_a_hole_in_the_table(study: Checkout, finished: Checkout) -> None:
    """And so is what needs it; all else is made, the report too."""

    def extend(settings: Any) -> None:
        settings["attacks"][0]["seeds"] = [0]
        settings["defenses"] += ROWS
        settings["figures"]["landscape"]["victims"] = ["none"]

    study.change_study(extend)
    curves = "results/figures/real/strong/learning-curves.png"
    outcome = study.snakemake("results", "results/reports/real.html", curves, "--cores", "1")
    assert outcome.code == 0, outcome.output
    assert errors(outcome) == set()
    assert _made(outcome.output) >= Counter(train=3, filter=1, noise=1, detect=1, tables=1, page=1)

    path = study.path / "results/victims/real/strong/scratch/wild/seed0"
    failed = read_sealed(path.with_name("seed0.metrics.json"))["failed"]
    assert failed.keys() == {"what", "epoch", "batch"}
    assert json.loads(path.with_name("seed0.card.json").read_text(encoding="utf-8"))["failed"] == failed
    assert not (study.path / "results/checkpoints/real/train/strong/scratch/wild/0.safetensors").exists()
    where = f"{failed['what']} at epoch {failed['epoch']}, batch {failed['batch']}"
    log = (study.path / "results/logs/real/train/strong/scratch/wild/seed0.log").read_text(encoding="utf-8")
    assert f"warning: training diverged: {where}" in log

    with (study.path / "results/tables/real-trials.csv").open(encoding="utf-8", newline="") as file:
        lines = {line["defense"]: line for line in csv.DictReader(file)}
    sources = {
        "wild": "",
        "filtered": "filters/real/strong/scratch/filtered/seed0.safetensors",
        "strip": "victims/real/strong/scratch/wild/seed0.safetensors",
        "friendly": "noise/real/strong/scratch/friendly/seed0.safetensors",
    }
    assert [name for name, line in lines.items() if line["failed"]] == list(sources)
    for name, source in sources.items():
        assert lines[name]["success"] == lines[name]["accuracy"] == ""
        assert lines[name]["failed"] == where + (f", results/{source}" if source else "")
        assert (
            f"warning: a victim has no outcome, because training diverged: strong/scratch/{name}, seed 0"
            in outcome.output
        )

    with (study.path / "results/tables/real.csv").open(encoding="utf-8", newline="") as file:
        table = {line["defense"]: (line["n"], line["diverged"]) for line in csv.DictReader(file)}
    assert table == {"none": ("1", "0"), "friends-bernoulli": ("1", "0"), **dict.fromkeys(sources, ("0", "1"))}
    text = (study.path / "results/tables/real.md").read_text(encoding="utf-8")
    assert f"- Diverged, and left out of all numbers: 4 of 6 victims: strong/scratch/wild, seed 0 ({where}); " in text
    (finding,) = [line for line in text.splitlines() if line.startswith("- Finding: ")]
    assert not any(name in finding for name in sources)
    page = (study.path / "results/reports/real.html").read_text(encoding="utf-8")
    assert "6 of 6 victims (4 diverged)" in page
    assert where in page
    # It is an outcome: nothing is tried again, and nothing else has changed.
    assert "Nothing to be done" in study.snakemake("results", "--cores", "1").output
    assert finished.files("victims/**/seed0.safetensors").items() <= study.files("victims/**/*.safetensors").items()

    # Who cannot do without the network says so.
    study.change_study(lambda settings: settings["figures"]["landscape"].update(victims=["filtered"]))
    landscape = study.snakemake("results/figures/real/strong/landscape-victims.npz", "--cores", "1")
    assert landscape.code == 1
    (line,) = errors(landscape)
    assert "results/victims/real/strong/scratch/filtered/seed0.safetensors" in line
    assert where in line


def test_a_surrogate_that_diverges_fails_its_job(study: Checkout) -> None:
    card = json.loads((study.path / "results/surrogates/real/base/seed0-0.card.json").read_text(encoding="utf-8"))
    outputs = [*("--checkpoint", "c"), *("--weights", "out/w"), *("--metrics", "out/m"), *("--card", "out/k")]
    wild = [string for string in card["spec"] if not string.startswith("recipe.lr=")]
    given = ["--spec", *wild, "recipe.lr=1e30", "--dataset", "results/data/real.safetensors"]
    outcome = study.script("pretrain", *given, *outputs)
    assert outcome.code == 2
    (line,) = errors(outcome)
    assert line.startswith("error: training diverged: ")
    assert "at epoch 0, batch " in line
    assert not (study.path / "out").exists()
