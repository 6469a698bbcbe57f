"""workflow/scripts/progress.py and poisonlab.graph.progress: how far a study is, by files alone.

What Snakemake notes is written here by Snakemake's own class, so that a change of its layout is noticed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from loading import program
from rich.console import Console
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from poisonlab.errors import PoisonlabError, SettingsError
from poisonlab.evaluation.seconds import methods
from poisonlab.files import read_sealed, write_sealed
from poisonlab.graph.job import Job
from poisonlab.graph.progress import State, bar, log_of, remaining

ROOT = Path(__file__).resolve().parents[2]
NOW = 1_800_000_000.0
HOUR = 3600.0


class Tree:
    """A study's folder in which jobs are made to stand as they would."""

    def __init__(self, module: ModuleType, config: dict[str, Any] | None = None) -> None:
        study = config or yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
        self.watch = module.Watch(*module.read_config(study))
        self.jobs = {(job.stage, job.name): job for job in self.watch._jobs}
        self.snakemake: Any = FilePersistence(nolock=True)
        self.locked: list[str] = []

    def of(self, stage: str, number: int = 0) -> Job:
        """Some job of a stage."""
        return [job for job in self.watch._jobs if job.stage == stage][number]

    def record(self, job: Job, *params: str) -> None:
        code = self.watch._graph.code(job)
        for path in job.outputs.values():
            known = params or (repr(list(job.settings)), repr(code))
            self.snakemake._write_record(path, MetadataRecord(rule=job.stage, params=sorted(known)))

    def done(self, job: Job, seconds: float = HOUR, **more: object) -> None:
        for path in job.outputs.values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        if "card" in job.outputs:
            facts = {"seconds": seconds, "peak_host_mib": 9, "peak_device_mib": None, "device": "A40", "threads": 1}
            write_sealed(Path(job.outputs["card"]), {"spec": list(job.settings), **facts, **more})
        self.record(job)

    def begun(self, job: Job, since: float, locked: bool = True) -> None:
        for path in job.outputs.values():
            self.snakemake._mark_incomplete(path, None)
            os.utime(self.snakemake._record_path(".snakemake/incomplete", path), (since, since))
        if locked:
            self.snakemake._write_locks("output", job.outputs.values())

    def says(self, job: Job, text: str, at: float = NOW) -> Path:
        log = log_of(self.watch._graph, job)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(text, encoding="utf-8")
        os.utime(log, (at, at))
        return log

    def states(self) -> dict[tuple[str, str], Any]:
        return {(each.job.stage, each.job.name): each for each in self.watch.look(NOW)[0]}

    def state(self, job: Job) -> Any:
        return self.states()[job.stage, job.name]


@pytest.fixture(scope="module")
def progress() -> ModuleType:
    return program("progress")


@pytest.fixture
def tree(progress: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tree:
    """In an empty folder with links to the checkout's code."""
    monkeypatch.chdir(tmp_path)
    for name in ("src", "workflow", "envs", "reference"):
        Path(name).symlink_to(ROOT / name)
    return Tree(progress)


def shown(progress: ModuleType, tree: Tree, diverged: int = 0) -> str:
    """The page as text without colours, its blanks joined."""
    console = Console(record=True, width=160, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(progress.page("digits", *tree.watch.look(NOW), diverged, NOW))
    return " ".join(console.export_text().split())


def test_each_state_is_told_from_the_others(tree: Tree) -> None:
    dataset, craft = tree.of("dataset"), tree.of("craft")
    trained = [tree.of("train", number) for number in range(5)]
    tree.done(dataset)
    tree.begun(craft, NOW - 60)
    tree.says(craft, " 10%|#         | 1/10 [00:10<01:30, 10.0s/step]\r 20%|##        | 2/10 [00:20<01:20, 10.0s/step]")
    tree.says(trained[0], "Traceback\nerror: the loss is nan")
    tree.begun(trained[1], NOW - 60)
    tree.begun(trained[2], NOW - 60, locked=False)
    tree.says(trained[3], "100%|####| 3/3 [00:01<00:00,  1.0s/epoch]")
    found = tree.states()
    of = {name: found[job.stage, job.name] for name, job in zip("dcabexy", (dataset, craft, *trained), strict=True)}
    assert {name: each.state for name, each in of.items()} == {
        "d": State.DONE,
        "c": State.RUNNING,
        "a": State.FAILED,
        # Handed in, but its log has not begun.
        "b": State.SUBMITTED,
        # Marked by a call that holds no lock any more.
        "e": State.STOPPED,
        # It has ended, and left neither results nor an error.
        "x": State.STOPPED,
        "y": State.WAITING,
    }
    assert (of["c"].said.split()[0], of["c"].since) == ("20%|##", NOW - 60)
    assert of["a"].said == "error: the loss is nan"


def test_a_job_that_is_submitted_again_has_not_failed(tree: Tree) -> None:
    job = tree.of("train")
    tree.says(job, "error: killed", NOW - 600)
    assert tree.state(job).state is State.FAILED
    tree.begun(job, NOW - 60)
    assert tree.state(job).state is State.SUBMITTED


def test_results_of_other_settings_are_to_be_made_again(tree: Tree, progress: ModuleType) -> None:
    job, unknown = tree.of("train"), tree.of("train", 1)
    tree.done(job)
    tree.done(unknown)
    assert tree.state(job).state is State.DONE
    tree.record(job, "['recipe.epochs=7']", repr(tree.watch._graph.code(job)))
    tree.snakemake._delete_record(unknown.outputs["weights"])
    assert (tree.state(job).state, tree.state(job).stale) == (State.WAITING, True)
    # Snakemake takes results without a record as they are, too.
    assert tree.state(unknown).state is State.DONE
    assert "1 of those that wait have results of other settings or code" in shown(progress, tree)


def test_long_paths_are_found_where_snakemake_keeps_them(tree: Tree) -> None:
    path = "results/" + "/".join("long-name" * 5 for _ in range(12)) + ".safetensors"
    tree.snakemake._write_record(path, MetadataRecord(rule="train", params=["'a'"]))
    tree.snakemake._mark_incomplete(path, None)
    assert tree.watch._records.params(path) == {"'a'"}
    assert tree.watch._records.began([path]) == pytest.approx(time.time(), abs=60)


def test_hours_are_those_of_like_jobs_over_the_jobs_at_a_time(tree: Tree) -> None:
    # One row with six seeds, and nothing else, has the settings of its jobs.
    row = [job for job in tree.watch._jobs if job.stage == "train" and job.name.split("/")[2] == "none"]
    trained = [job for job in tree.watch._jobs if job.stage == "train"]
    others = [job for job in trained if methods(job.settings) == methods(row[0].settings)]
    tree.done(row[0], 10 * HOUR)
    # Two run: one for 4 hours, another for longer than it should.
    for job, hours in zip(row[1:3], (4, 12), strict=True):
        tree.begun(job, NOW - hours * HOUR)
        tree.says(job, "")
    rest = tree.watch.look(NOW)[1]
    assert (len(row), len(others)) == (6, 12)
    # Three have not begun, and one that runs has 6 hours to go; jobs of the same methods take as long.
    assert rest.work == pytest.approx({"train": 10 * (len(others) - 3) + 6})
    assert (rest.at_once, rest.device) == (2, "A40, 1 thread")
    assert rest.hours == pytest.approx(rest.work["train"] / 2)
    assert rest.unmeasured == sum("card" in job.outputs for job in tree.watch._jobs) - len(others)


def test_a_job_like_none_that_ran_is_counted_by_its_own_progress_bar(tree: Tree) -> None:
    job = tree.of("craft")
    tree.done(tree.of("pretrain"))
    tree.begun(job, NOW - 60)
    tree.says(job, "crafting:  50%|#####     | 5/10 [1:00:00<2:00:30, 720s/step]")
    assert tree.watch.look(NOW)[1].work["craft"] == pytest.approx(2 + 30 / 3600)


def test_the_page_names_running_and_failed_jobs_in_a_line_each(tree: Tree, progress: ModuleType) -> None:
    tree.done(tree.of("dataset"))
    job, other = tree.of("train"), tree.of("train", 1)
    tree.begun(job, NOW - 3700)
    tree.says(job, " 38%|###7      | 3/8 [13:26<22:12, 266s/epoch, loss=0.5]", NOW - 900)
    log = tree.says(other, "Traceback (most recent call last):\n  File x\nValueError: [no] such thing\n")
    text = shown(progress, tree, diverged=2)
    assert f"digits: 1 of {len(tree.jobs)} jobs done, 1 running, 1 failed, {len(tree.jobs) - 3} waiting;" in text
    assert f"train {job.name} 1:01 h 38 % 3/8 [13:26<22:12, 266s/epoch, loss=0.5] (log silent for 15:00 min)" in text
    assert f"train {other.name}: ValueError: [no] such thing ({log})" in text
    assert "2 jobs are done without a result, because their training diverged" in text


def test_cards_tell_of_diverged_trainings(tree: Tree) -> None:
    tree.done(tree.of("train"), failed={"why": "the loss is nan"})
    rest = tree.watch.look(NOW)[1]
    assert [job.diverged for job in tree.watch._ran] == [True]
    # They end early, and say nothing of the others' hours.
    assert rest.work == {}


def test_times_are_short(progress: ModuleType) -> None:
    hours = {0.0: "0 min", 0.011: "1 min", 0.99: "60 min", 1.04: "1.0 h", 9.96: "10.0 h", 1234.5: "1,234 h"}
    assert {value: progress.short(value) for value in hours} == hours
    seconds = {0.4: "0:00 min", 61: "1:01 min", 3660: "1:01 h"}
    assert {value: progress.spoken(value) for value in seconds} == seconds


@pytest.mark.parametrize(
    ("line", "text", "seconds"),
    [
        (" 58%|#####8    | 145/250 [02:52<02:02,  1.16s/step]", "58 % 145/250 [02:52<02:02,  1.16s/step]", 122.0),
        ("friendly noise:   2%|2 | 1/50 [1:00<49:00, 60s/it]", "friendly noise 2 % 1/50 [1:00<49:00, 60s/it]", 2940.0),
        ("  0%|          | 0/8 [00:00<?, ?epoch/s]", "0 % 0/8 [00:00<?, ?epoch/s]", None),
        ("warning: a | b", "warning: a | b", None),
        ("", "", None),
    ],
)  # fmt: skip
def test_progress_bars_are_read(line: str, text: str, seconds: float | None) -> None:
    assert bar(line) == text
    assert remaining(line) == seconds


def test_nothing_is_written_and_no_torch_is_loaded(tmp_path: Path) -> None:
    """The program itself, in a folder that holds nothing but the config and the code."""
    for name in ("src", "workflow", "envs", "reference"):
        (tmp_path / name).symlink_to(ROOT / name)
    config = (ROOT / "config.yaml").read_text(encoding="utf-8")
    (tmp_path / "study.yaml").write_text(config, encoding="utf-8")
    before = sorted(tmp_path.iterdir())
    code = (
        "import sys; sys.path[:0] = ['workflow/scripts']; import progress; "
        "progress.main(['--configfile', 'study.yaml']); assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "0 running, 0 failed" in done.stdout
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--configfile", "missing.yaml"], "missing.yaml"),
        (["--configfile", "bad.yaml"], "unknown key 'sees'"),
        (["--configfile", "bad.yaml", "--every", "0"], "--every 0: choose 0.1 to 3600 seconds"),
        (["--configfile", "bad.yaml", "--watch"], "needs a terminal"),
    ],
)
def test_bad_input_is_one_line(
    progress: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    study = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    Path("bad.yaml").write_text(yaml.safe_dump({**study, "sees": [1]}), encoding="utf-8")
    with pytest.raises(PoisonlabError) as caught:
        progress.main(arguments)
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_watching_ends_when_all_is_done(
    tree: Tree, progress: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    looks = iter([False, False, True])
    monkeypatch.setattr(progress, "Watch", lambda study, scan: tree.watch)
    monkeypatch.setattr(tree.watch, "page", lambda: ("page", next(looks)))
    monkeypatch.setattr(progress.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(progress, "Console", lambda: Console(force_terminal=True, file=open(os.devnull, "w")))  # noqa: SIM115
    Path("study.yaml").write_text((ROOT / "config.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    progress.main(["--configfile", "study.yaml", "--watch"])
    assert next(looks, None) is None


def test_a_damaged_card_is_named(tree: Tree) -> None:
    job = tree.of("train")
    tree.done(job)
    Path(job.outputs["card"]).write_text("{}", encoding="utf-8")
    with pytest.raises((PoisonlabError, SettingsError), match=r"card\.json"):
        tree.watch.look(NOW)


def test_a_card_that_goes_while_it_is_looked_at_is_passed_over(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake removes the results of a job that it begins again."""
    job = tree.of("train")
    tree.done(job)

    def gone(path: Path) -> object:
        path.unlink()
        return read_sealed(path)

    monkeypatch.setattr("poisonlab.evaluation.seconds.read_sealed", gone)
    tree.watch.look(NOW)
    assert tree.watch._ran == []


def test_a_scan_is_looked_at_as_a_study_is(
    progress: ModuleType, tree: Tree, capsys: pytest.CaptureFixture[str]
) -> None:
    config = {"scan": "mine", "dataset": {"source": "digits-on-photos"}, "attacks": []}
    scan = Tree(progress, config)
    assert len(scan.jobs) == 9
    scan.done(scan.of("dataset"))
    scan.done(scan.of("pretrain"))
    found, left = scan.watch.look(NOW)
    assert [each.job.stage for each in found if each.state is State.DONE] == ["dataset", "pretrain"]
    # The second network takes what the first took.
    assert left.work == {"pretrain": 1.0}
    Path("scan.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    progress.main(["--configfile", "scan.yaml"])
    assert "scan mine: 2 of 9 jobs done" in " ".join(capsys.readouterr().out.split())
