"""workflow/scripts/estimate.py: hours by what such jobs took, what is not measured, and the resources to ask for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from loading import program

from poisonlab.config.merging import merged_config
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.evaluation.seconds import ANOTHER_STUDY, SAME
from poisonlab.evaluation.trials import Trial, write_trials
from poisonlab.files import write_sealed
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.graph.scanning import read_config

ROOT = Path(__file__).resolve().parents[2]
STUDY = "tiny"
ONE_HOUR = 3600.0


@pytest.fixture(scope="module")
def estimate() -> ModuleType:
    pytest.importorskip("poisonlab.graph.graph")
    return program("estimate")


def job(stage: str, method: str, place: str, *settings: str, digest: str = "", card: bool = True) -> SimpleNamespace:
    outputs = {"weights": f"results/{place}.safetensors", **({"card": f"results/{place}.card.json"} if card else {})}
    return SimpleNamespace(
        stage=stage,
        method=method,
        inputs={},
        outputs=outputs,
        settings=settings,
        options={"settings": [digest]} if digest else {},
    )


def victim(row: str, seed: int, *settings: str, study: str = STUDY) -> SimpleNamespace:
    names = ('attack="a"', f'defense="{row}"', f"seed={seed}")
    place = f"victims/{study}/a/{row}/seed{seed}"
    return job("train", row, place, 'model.name="lenet"', *names, *settings, digest=f"digest-{row}")


def ran(
    planned: SimpleNamespace | Job,
    seconds: float,
    host: int = 1000,
    device: str = "A40",
    threads: int = 1,
    done: bool = True,
) -> None:
    """Write the run card of a job, and if it is ``done`` its other output."""
    card = Path(planned.outputs["card"])
    card.parent.mkdir(parents=True, exist_ok=True)
    facts = {"seconds": seconds, "peak_host_mib": host, "peak_device_mib": None, "device": device, "threads": threads}
    write_sealed(card, {"spec": list(planned.settings), **facts})
    if done:
        Path(planned.outputs["weights"]).touch()


def commit_trials(*trials: Trial) -> Path:
    path = Path("results/reference/cpu") / f"{STUDY}-trials.csv"
    write_trials(path, trials)
    return path


def trial(row: str, seconds: float, **more: Any) -> Trial:
    return Trial("a", "", row, 0, seconds=seconds, provenance={"device": "EPYC", "threads": "1"}, **more)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The config of an empty checkout."""
    monkeypatch.chdir(tmp_path)
    study = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")) | {"study": STUDY}
    Path("study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return "study.yaml"


class Estimate:
    """What the program prints and writes of some planned jobs."""

    def __init__(self, module: ModuleType, jobs: Sequence[SimpleNamespace], config: str, *arguments: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                module, "Graph", lambda study, *_: SimpleNamespace(name=study.study, check=bool, all_jobs=lambda: jobs)
            )
            module.main(["--configfile", config, "--json", "estimate.json", *arguments])
        self.told: dict[str, Any] = json.loads(Path("estimate.json").read_text(encoding="utf-8"))
        self.rows = {row["method"]: row for row in self.told["rows"]}
        self.notes = " ".join(self.told["notes"])


def test_what_is_left_takes_the_median_of_what_ran(
    estimate: ModuleType, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [victim("none", seed) for seed in range(5)]
    for each, hours in zip(jobs, (1, 2, 6), strict=False):
        ran(each, hours * ONE_HOUR)
    found = Estimate(estimate, jobs, config, "--at-once", "4")
    row = found.rows["none"]
    assert (row["jobs"], row["done"], row["unmeasured"], row["measured"]) == (5, 3, 0, 3)
    assert (row["seconds"], row["hours"], found.told["hours"]) == (2 * ONE_HOUR, 4.0, 4.0)
    assert "Jobs left: 2, without measurement: 0." in found.notes
    assert "4.00 hours one after another, 1.00 with 4 at once" in found.notes
    text = capsys.readouterr().out
    assert "| train | none | 5 | 3 | 2 | 7,200 | 3 | 4.00 |" in " ".join(text.split())


def test_the_same_settings_come_before_others_of_the_same_methods(estimate: ModuleType, config: str) -> None:
    short, long, new = (victim(row, 0, f"recipe.epochs={epochs}") for row, epochs in (("s", 1), ("l", 9), ("n", 5)))
    ran(short, 10)
    ran(long, 90)
    again = victim("l-again", 0, "recipe.epochs=9")
    other = victim("other", 0, "recipe.epochs=9", 'defenses.0.method="epic"')
    found = Estimate(estimate, [short, long, new, again, other], config)
    assert [found.rows[row]["seconds"] for row in ("n", "l-again", "other")] == [50, 90, None]
    assert "By jobs of the same methods and networks with other settings: train n." in found.notes
    assert "No measurement, not counted: train other (1)." in found.notes


def test_another_study_answers_for_the_same_settings_only(estimate: ModuleType, config: str) -> None:
    ran(victim("none", 0, "recipe.epochs=1", study="earlier"), 10)
    jobs = [victim("none", 0, "recipe.epochs=1"), victim("long", 0, "recipe.epochs=9")]
    found = Estimate(estimate, jobs, config)
    assert [found.rows[row]["seconds"] for row in ("none", "long")] == [10, None]
    assert "By jobs of the same settings in another study, whose dataset may differ: train none." in found.notes


def test_committed_trials_answer_where_no_card_does(estimate: ModuleType, config: str) -> None:
    commit_trials(
        trial("none", 30, settings="digest-none"),
        trial("changed", 50, settings="another"),
        trial("diverged", 1, failed="loss"),
    )
    found = Estimate(estimate, [victim(row, 5) for row in ("none", "changed", "diverged")], config)
    assert [found.rows[row]["seconds"] for row in ("none", "changed", "diverged")] == [30, 50, None]
    assert "committed trials of the same settings (with friendly noise" in found.notes
    assert "committed trials of the same attack and row with other settings" in found.notes


def test_what_has_no_card_is_named(estimate: ModuleType, config: str) -> None:
    jobs = [victim("none", 0), *(job("figure", str(place), f"figures/{place}", card=False) for place in range(3))]
    found = Estimate(estimate, jobs, config)
    assert "Not timed, not counted: figure (3)." in found.notes
    assert "No such job has been measured here" in found.notes
    assert found.told["device"] is None
    assert "Jobs left: 1, without measurement: 1." in found.notes


def test_one_device_is_asked_and_the_others_are_named(estimate: ModuleType, config: str) -> None:
    jobs = [victim(row, seed) for row in ("none", "epic") for seed in range(3)]
    for each in jobs[:3]:
        each.settings += ('defenses.0.method="none"',)
    ran(jobs[0], 10, device="A40")
    for each, row in zip(jobs[3:5], ("none", "epic"), strict=True):
        each.settings += (f'defenses.0.method="{row}"',)
        ran(each, 100, device="EPYC", threads=2)
    jobs[5].settings += ('defenses.0.method="epic"',)
    found = Estimate(estimate, jobs, config)
    assert found.told["device"] == "EPYC, 2 threads"
    assert "Also measured on: A40, 1 thread (all but 1 jobs)." in found.notes
    assert Estimate(estimate, jobs, config, "--device", "a40").rows["none"]["seconds"] == 10
    with pytest.raises(SettingsError, match="--device must name one of: EPYC, 2 threads; A40, 1 thread"):
        Estimate(estimate, jobs, config, "--device", "H100")
    with pytest.raises(SettingsError, match="--at-once 0: choose 1 or more"):
        Estimate(estimate, jobs, config, "--at-once", "0")


def test_resources_leave_room_beyond_the_most_demanding_job(
    estimate: ModuleType, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    crafted = job("craft", "weak", f"poisons/{STUDY}/a/seed0")
    ran(crafted, 6, host=333)
    jobs = [crafted, *(victim("none", seed) for seed in range(2))]
    ran(jobs[1], 600, host=1500)
    ran(jobs[2], 3600, host=1200)
    ran(victim("none", 3, study="another"), 9e9, host=9_000_000)
    Estimate(estimate, jobs, config)
    assert yaml.safe_load(capsys.readouterr().out.rpartition("\n\n")[2]) == {
        # 333 times 1.5 is 499.5, 1500 times 1.5 is 2250.
        "set-resources": {
            "craft": {"runtime": 10, "mem_mb": "500 * attempt"},
            "train": {"runtime": 120, "mem_mb": "2300 * attempt"},
        }
    }


@pytest.mark.parametrize("content", [{}, {"seconds": "long", "device": "x", "threads": 1}, {"device": 3}])
def test_a_card_that_is_none_is_named(estimate: ModuleType, config: str, content: dict[str, object]) -> None:
    planned = victim("none", 0)
    path = Path(planned.outputs["card"])
    path.parent.mkdir(parents=True)
    write_sealed(path, content)
    with pytest.raises(DataError, match=r"seed0\.card\.json is no run card: delete it"):
        Estimate(estimate, [planned], config)


def test_trials_that_are_none_are_named(estimate: ModuleType, config: str) -> None:
    commit_trials().write_text("none", encoding="utf-8")
    with pytest.raises(DataError, match=r"tiny-trials\.csv is damaged \(it holds no trials"):
        Estimate(estimate, [victim("none", 0)], config)


@pytest.mark.parametrize("path", ["config.yaml", "config/smoke.yaml", "config/paper.yaml"])
def test_every_job_with_a_card_of_a_shipped_study_is_listed(
    estimate: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    monkeypatch.chdir(ROOT)
    estimate.main(["--configfile", path, "--json", str(tmp_path / "estimate.json")])
    told = json.loads((tmp_path / "estimate.json").read_text(encoding="utf-8"))
    assert {"pretrain", "craft", "train"} <= {row["stage"] for row in told["rows"]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__use_yte__: true\nseeds: ?[open('canary', 'w').close()]\n", "__use_yte__ makes it a program"),
        ("description: !!python/object/apply:os.system [touch canary]\n", "not valid JSON or YAML"),
        ("seeds: [1]\nseeds: [2]\n", "'seeds' is given twice"),
        ("description: " + "[" * 3000 + "\n", "nested more than"),
        ("seeds: [" + "9" * 5000 + "]\n", "4300 digits"),
        ("sees: [1]\n", "did you mean 'seeds'"),
    ],
)
def test_a_config_from_a_stranger_is_refused_before_it_is_read(
    estimate: ModuleType, config: str, text: str, words: str
) -> None:
    study = "" if words != "did you mean 'seeds'" else Path(config).read_text(encoding="utf-8")
    Path("theirs.yaml").write_text(study + text, encoding="utf-8")
    with pytest.raises(PoisonlabError) as caught:
        estimate.main(["--configfile", "theirs.yaml"])
    assert words in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not Path("canary").exists()


def scan_jobs(scan: str) -> tuple[list[str], list[Job]]:
    """Arguments that name a scan of digits with one planted attack, and its jobs."""
    entries = ["dataset={source: digits-on-photos}", "attacks=[{name: patch, method: badnets}]", f"scan={scan}"]
    study, own = read_config(merged_config([], entries))
    return ["--config", *entries], Graph(study, scan=own).all_jobs()


def test_a_scan_is_estimated_by_its_own_jobs_and_those_of_other_scans(
    estimate: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def told() -> dict[str, Any]:
        estimate.main(["--json", "estimate.json", "--at-once", "1", *arguments])
        return json.loads(Path("estimate.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]

    arguments, jobs = scan_jobs("mine")
    found = told()
    assert found["study"] == "scan mine"
    # Networks of two seeds, and one on the planted copy; features and ranking of each.
    stages = {row["stage"]: (row["jobs"], row["unmeasured"]) for row in found["rows"]}
    once = dict.fromkeys(("craft", "train", "neighbours"), (1, 1))
    assert stages == {"pretrain": (2, 2), "features": (3, 3), "suspects": (3, 3), **once}
    for each in scan_jobs("other")[1]:
        if each.stage in ("features", "neighbours"):
            ran(each, ONE_HOUR, done=False)
    found = told()
    assert fits(found) == {"features": [ANOTHER_STUDY], "neighbours": [ANOTHER_STUDY]}
    assert found["hours"] == 4
    ran(next(each for each in jobs if each.stage == "neighbours"), 2 * ONE_HOUR, done=False)
    found = told()
    assert fits(found) == {"features": [ANOTHER_STUDY], "neighbours": [SAME]}
    assert found["hours"] == 5


def fits(told: Mapping[str, Any]) -> dict[str, list[str]]:
    return {row["stage"]: row["fits"] for row in told["rows"] if row["fits"]}
