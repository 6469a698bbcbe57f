"""Real runs: repeated, interrupted, and compared with what the digests claim."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from harness import SPIED, STUDY, Checkout, check_out, environment

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.artifacts.tensors import read_tensors, write_tensors
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.defenses.dp_sgd import epsilon
from poisonlab.models.networks import build_network

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
ARTIFACTS = ("*.safetensors", "*.metrics.json", "*.npz", "real.md", "real.tex")


def test_second_run_has_nothing_to_do(finished: Checkout) -> None:
    outcome = finished.snakemake("--cores", "2")
    assert outcome.code == 0
    assert "Nothing to be done" in outcome.output


def test_finished_study_holds_every_stage_and_no_checkpoint(finished: Checkout) -> None:
    kinds = {Path(path).parts[1] for path in finished.files("*.*")}
    assert {"data", "surrogates", "poisons", "noise", "victims", "tables", "figures", "reports"} <= kinds
    assert not finished.files("checkpoints/**/*.safetensors")


def test_same_study_in_another_folder_gives_the_same_bytes(finished: Checkout, tmp_path: Path, warm: str) -> None:
    twin = check_out(tmp_path / "twin", HERE / "real.yaml")
    computed = [f"results/figures/real/strong/{name}.npz" for name in ("landscape-poison", "output-std")]
    # In another order of jobs, too, and wherever a program could look by mistake.
    elsewhere = ("PYTHONHASHSEED=7", "TZ=Asia/Tokyo", "LC_ALL=C", "LANG=C", f"HOME={tmp_path}")
    # Nor does it matter whether torch is loaded before the job begins, as it is for other studies here.
    command = (warm, "-m", "snakemake", "results", *computed, "--cores", "1", "--verbose", "--prioritize", *computed)
    outcome = twin.run("env", *elsewhere, "sh", "-c", 'umask 077; exec "$@"', "sh", *command, "--configfile", STUDY)
    assert outcome.code == 0, outcome.output
    # Snakemake looks for jobs when one has ended, and not all the time while others wait.
    assert outcome.output.count("Ready jobs: ") <= outcome.output.count("Finished jobid: ") + 1
    first, second = finished.files(*ARTIFACTS), twin.files(*ARTIFACTS)
    missing = {path for path in first if path not in second}
    assert all("landscape-victims" in path for path in missing)
    assert {path for path in second if first[path] != second[path]} == set()
    assert _without_seconds(finished) == _without_seconds(twin)


def _without_seconds(study: Checkout) -> list[dict[str, str]]:
    (content,) = study.files("real.csv").values()
    rows = list(csv.DictReader(io.StringIO(content.decode())))
    # Seconds are rows or a column of the tidy table.
    timed = [
        {name: value for name, value in row.items() if "second" not in name}
        for row in rows
        if not any("second" in value for value in row.values())
    ]
    assert timed
    return timed


def _made(log: str) -> Counter[str]:
    """How often each rule ran."""
    return Counter(re.findall(r"^(?:local)?rule (\w+):$", log, flags=re.MULTILINE))


# --- A transfer victim, imported poisons and an adaptive attack, added to a finished study ---


def _network(study: Checkout, path: str) -> dict[str, torch.Tensor]:
    tensors, _ = read_tensors(study.path / path, "network")
    return tensors


def test_what_is_added_to_a_study_remakes_nothing(extended: Checkout) -> None:
    made = _made((extended.path / "extended.log").read_text(encoding="utf-8"))
    assert made == {"craft": 2, "noise": 1, "train": 2}


@pytest.mark.parametrize("row", ["none", "friends-bernoulli"])
def test_a_transfer_victim_keeps_the_features_it_begins_with(row: str, extended: Checkout) -> None:
    victim = _network(extended, f"results/victims/real/moved/transfer/{row}/seed0.safetensors")
    pretrained = _network(extended, "results/surrogates/real/base/seed0-0.safetensors")
    assert victim.keys() == pretrained.keys()
    changed = {name for name in victim if not torch.equal(victim[name], pretrained[name])}
    assert changed == {"head.weight", "head.bias"}


def test_poisons_come_through_an_import_as_they_were(extended: Checkout) -> None:
    own, moved = (
        PoisonSet.load(extended.path / f"results/poisons/real/{attack}/seed0.safetensors")
        for attack in ("strong", "moved")
    )
    for name in ("indices", "images", "labels", "base_images"):
        assert torch.equal(getattr(own, name), getattr(moved, name))
    for name in ("targets", "target_labels", "adversarial_labels"):
        assert torch.equal(getattr(own.goal, name), getattr(moved.goal, name))


def test_an_attack_with_a_trigger_ships_targets_with_and_without_it(extended: Checkout) -> None:
    poisons = PoisonSet.load(extended.path / "results/poisons/real/adaptive/seed0.safetensors")
    assert poisons.goal.untriggered is not None
    assert len(poisons.indices) == 5
    poisons.check_bound(16)
    assert set(poisons.labels.tolist()) == {int(poisons.goal.adversarial_labels[0])}
    differ = (poisons.goal.targets != poisons.goal.untriggered).flatten(1).any(1)
    assert differ.all()


# --- Filters, detectors and other defenses, added to a finished study ---

STRONG = "results/{kind}/real/strong/scratch/{row}/seed0"


def _path(study: Checkout, kind: str, row: str, ending: str = "safetensors") -> Path:
    """A file of the first seed."""
    return study.path / f"{STRONG.format(kind=kind, row=row)}.{ending}"


def _metrics(study: Checkout, kind: str, row: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(_path(study, kind, row, "metrics.json").read_text(encoding="utf-8"))
    return content


def _kept(study: Checkout, row: str) -> torch.Tensor:
    """(N,) bool: what the filters of a row leave."""
    return read_tensors(_path(study, "filters", row), "keep-list")[0]["keep"]


def _table(study: Checkout, name: str = "real") -> dict[str, dict[str, str]]:
    """The lines of the tidy table by row."""
    with (study.path / f"results/tables/{name}.csv").open(encoding="utf-8", newline="") as file:
        return {line["defense"]: line for line in csv.DictReader(file)}


def test_rows_that_are_added_to_a_study_remake_nothing(defended: Checkout, finished: Checkout) -> None:
    made = _made((defended.path / "defended.log").read_text(encoding="utf-8"))
    assert made == Counter(detect=2, filter=2, noise=1, train=4, trials=1, tables=1, paper_table=1, results=1)
    before, now = finished.files(*ARTIFACTS), defended.files(*ARTIFACTS)
    remade = {path for path in before if before[path] != now[path]}
    assert {Path(path).parent.name for path in remade} == {"tables"}
    # What detectors look at stays as it was, and they have no victims of their own.
    for row in ("strip", "neural-cleanse"):
        assert not _path(defended, "victims", row).exists()


def test_second_run_of_the_added_rows_has_nothing_to_do(defended: Checkout) -> None:
    outcome = defended.snakemake("results", "--cores", "2")
    assert outcome.code == 0
    assert "Nothing to be done" in outcome.output


def test_another_filter_in_a_chain_reruns_what_follows_from_it(defended: Checkout, tmp_path: Path) -> None:
    study = defended.copy(tmp_path / "study")
    study.change_study(lambda settings: settings["defenses"][3]["apply"][1].update(fraction=0.2))
    plan = study.plan("results")
    job = "strong/scratch/filtered-friends-b/0"
    assert plan.jobs() == {(stage, job) for stage in ("filter", "noise", "train")} | {("trials", ""), ("tables", "")}
    assert plan.changed(("filter", job)) == {"filters.1.fraction"}


@pytest.mark.parametrize("row", ["filtered", "filtered-friends-b"])
def test_a_victim_is_trained_on_what_its_filters_keep(row: str, defended: Checkout) -> None:
    keep = _kept(defended, row)
    labels = read_dataset(defended.path / "results/data/real.safetensors").train_labels
    # Of ten images per class one goes by its distance; of the 90 that are left, 9 by chance.
    assert keep.shape == labels.shape == (100,)
    if row == "filtered":
        assert torch.bincount(labels[keep]).tolist() == [9] * 10
    else:
        assert int(keep.sum()) == 81
        assert not (keep & ~_kept(defended, "filtered")).any()

    poisons = PoisonSet.load(defended.path / "results/poisons/real/strong/seed0.safetensors").indices
    poisons_kept = sum(bool(keep[row]) for row in poisons.tolist())
    metrics = _metrics(defended, "victims", row)
    assert metrics["examples"] == {
        "poisons_kept": poisons_kept,
        "poisons_dropped": 5 - poisons_kept,
        "clean_kept": int(keep.sum()) - poisons_kept,
        "clean_dropped": 95 - int(keep.sum()) + poisons_kept,
    }
    assert [epoch["examples"] for epoch in metrics["history"]] == [int(keep.sum())] * 3

    line = _table(defended)[row]
    assert float(line["poisons_found"]) == pytest.approx((5 - poisons_kept) / 5)
    assert float(line["clean_dropped"]) == pytest.approx((95 - int(keep.sum()) + poisons_kept) / 95)


def test_friendly_noise_is_made_for_what_the_filters_keep(defended: Checkout) -> None:
    noise = load_noise(_path(defended, "noise", "filtered-friends-b"))
    keep = _kept(defended, "filtered-friends-b")
    assert noise.flatten(1).any(dim=1).tolist() == keep.tolist()


def test_a_victim_with_a_gradient_per_example_has_group_norm(defended: Checkout) -> None:
    dataset = read_dataset(defended.path / "results/data/real.safetensors")
    own, none = (
        _network(defended, f"{STRONG.format(kind='victims', row=row)}.safetensors") for row in ("dp-sgd", "none")
    )
    for norm, weights in (("group", own), ("batch", none)):
        built = build_network(SmallResNet(width=4, stem_stride=4, norm=norm), dataset, seed=0)
        assert weights.keys() == built.state_dict().keys()
    assert own.keys() != none.keys()


def test_privacy_is_accounted_for(defended: Checkout) -> None:
    measures = _metrics(defended, "victims", "dp-sgd")["measures"]
    report = {name: measures[name] for name in ("privacy_epsilon", "privacy_delta")}
    assert math.isfinite(report["privacy_epsilon"])
    # 3 epochs of 2 steps, each with every second of 100 examples.
    spent = epsilon(noise_multiplier=1, rate=0.5, steps=6, delta=0.01)
    assert report == {"privacy_epsilon": spent, "privacy_delta": 0.01}
    lines = _table(defended)
    assert float(lines.pop("dp-sgd")["privacy_epsilon"]) == report["privacy_epsilon"]
    assert {line["privacy_epsilon"] for line in lines.values()} == {""}


def test_abl_drops_what_it_isolates(defended: Checkout) -> None:
    examples = _metrics(defended, "victims", "abl")["examples"]
    assert examples["poisons_dropped"] + examples["clean_dropped"] == 5
    assert examples["poisons_dropped"] + examples["poisons_kept"] == 5
    assert sum(examples.values()) == 100
    # One epoch each on all, on those left and on those isolated.
    history = _metrics(defended, "victims", "abl")["history"]
    assert [epoch["examples"] for epoch in history] == [100, 95, 5]


def test_strip_watches_the_victim_as_it_is(defended: Checkout) -> None:
    metrics = _metrics(defended, "detections", "strip")
    none = _metrics(defended, "victims", "none")
    final = report = metrics["measures"]
    # An image that is turned away counts as an error.
    assert none["measures"]["accuracy"] - report["false_alarms"] <= final["accuracy"] <= none["measures"]["accuracy"]
    assert 0 < report["false_alarms"] < 1
    assert final["accuracy"] <= 1 - report["false_alarms"]
    # One target: if it is let in, the victim makes of it what it did.
    assert report["targets_rejected"] in (0, 1)
    for name in ("success", "target_accuracy", "adversarial_confidence"):
        assert final[name] == pytest.approx((1 - report["targets_rejected"]) * none["measures"][name])

    found, _ = read_tensors(_path(defended, "detections", "strip"), "detection")
    victim = _network(defended, f"{STRONG.format(kind='victims', row='none')}.safetensors")
    assert all(torch.equal(found[f"network.{name}"], tensor) for name, tensor in victim.items())
    # Half of 40 clean images set the threshold.
    assert found["clean_entropies"].shape == (20,)
    assert float(_table(defended)["strip"]["false_alarms"]) == report["false_alarms"]


def test_neural_cleanse_leaves_a_network_and_what_it_found(defended: Checkout) -> None:
    metrics = _metrics(defended, "detections", "neural-cleanse")
    assert metrics["measures"].keys() == _metrics(defended, "victims", "none")["measures"].keys()
    found, _ = read_tensors(_path(defended, "detections", "neural-cleanse"), "detection")
    assert found["masks"].shape == (10, 1, 32, 32)
    assert found["patterns"].shape == (10, 3, 32, 32)
    assert metrics["facts"].keys() == {"flagged_classes"}
    victim = _network(defended, f"{STRONG.format(kind='victims', row='none')}.safetensors")
    network = {name.removeprefix("network."): tensor for name, tensor in found.items() if name.startswith("network.")}
    assert network.keys() == victim.keys()
    # It is repaired if and only if a class is flagged.
    same = all(torch.equal(network[name], victim[name]) for name in victim)
    assert same == (metrics["facts"]["flagged_classes"] == [])


def test_a_row_is_charged_with_the_training_of_the_network_it_looks_at(defended: Checkout) -> None:
    def spent(kind: str, row: str, key: str = "seconds") -> float:
        return float(json.loads(_path(defended, kind, row, "card.json").read_text(encoding="utf-8"))[key])

    none = spent("victims", "none")
    friends = spent("victims", "filtered-friends-b") + spent("noise", "filtered-friends-b", "cost_seconds")
    expected = {
        "none": none,
        "friends-bernoulli": spent("victims", "friends-bernoulli")
        + spent("noise", "friends-bernoulli", "cost_seconds"),
        "filtered": none + spent("filters", "filtered") + spent("victims", "filtered"),
        "filtered-friends-b": none + spent("filters", "filtered-friends-b") + friends,
        "strip": none + spent("detections", "strip"),
        "neural-cleanse": none + spent("detections", "neural-cleanse"),
        "dp-sgd": spent("victims", "dp-sgd"),
        "abl": spent("victims", "abl"),
    }
    lines = _table(defended)
    assert list(lines) == list(expected)
    assert {row: float(line["seconds"]) for row, line in lines.items()} == pytest.approx(expected)
    assert {line["n"] for line in lines.values()} == {"1"}


# --- Trials from elsewhere, and tables of what there is so far ---


def test_trials_alone_make_the_same_tables(finished: Checkout, tmp_path: Path) -> None:
    """To the bit, seconds included: in another checkout, where no victim is trained."""
    study = check_out(tmp_path / "other", HERE / "real.yaml", finished.python)
    name = "results/reference/first/real-trials.csv"
    (study.path / name).parent.mkdir(parents=True)
    shutil.copy(finished.path / "results/tables/real-trials.csv", study.path / name)
    study.change_study(lambda settings: settings.update(merge=[name]))
    outcome = study.snakemake("results", "--cores", "1")
    assert outcome.code == 0, outcome.output
    assert _made(outcome.output) == {"trials": 1, "tables": 1, "paper_table": 1, "results": 1}
    tables = ("real.*", "real-time.md", "real-table4.*")
    first, second = finished.files(*tables), study.files(*tables)
    assert {Path(path).name for path in second} >= {"real.csv", "real.md", "real.tex", "real-table4.csv"}
    assert second == {path: content for path, content in first.items() if "/tables/" in path}
    # What comes from elsewhere is not passed on as if it were from here.
    (own,) = study.files("tables/real-trials.csv").values()
    assert own.decode().startswith("attack,victim,defense,seed,settings,")
    assert own.count(b"\n") == 1


def test_tables_so_far_leave_victims_alone(copied_real: Checkout) -> None:
    gone = copied_real.path / "results/victims/real/strong/scratch/none"
    for path in gone.glob("seed1.*"):
        path.unlink()
    victims = copied_real.files("victims/**/*.*")
    made = {"tables": 1, "paper_table": 1, "page": 1, "so_far": 1}
    assert _made(_so_far(copied_real)) == {"trials": 1, **made}
    whole, now = _table(copied_real), _table(copied_real, "real-so-far")
    assert {row: line["n"] for row, line in now.items()} == {"none": "1", "friends-bernoulli": "2"}
    # But for the comparison with the undefended row on the same seeds, the row is what it was.
    paired = {key for key in whole["friends-bernoulli"] if key.startswith("p_") or "_p_" in key or "_less_" in key}
    assert {"p_none", "adversarial_confidence_p_none", "accuracy_less_none", "accuracy_less_none_low"} <= paired
    for key in whole["friends-bernoulli"].keys() - paired:
        assert now["friends-bernoulli"][key] == whole["friends-bernoulli"][key], key
    assert _notes_so_far(copied_real) == ["Not run yet: 1 of 4 victims."]

    # Victims of other settings than the config's are refused by what their cards say.
    copied_real.change_study(lambda settings: settings["attacks"][0].update(eps=8))
    assert _made(_so_far(copied_real)) == made
    assert {line["n"] for line in _table(copied_real, "real-so-far").values()} == {"0"}
    trials = "results/tables/real-so-far-trials.csv"
    assert _notes_so_far(copied_real) == [
        "Not run yet: 4 of 4 victims.",
        *(
            f"Refused, because made with other settings than this study's: strong/{row} of {trials} (seeds {seeds})."
            for row, seeds in (("none", "0"), ("friends-bernoulli", "0, 1"))
        ),
    ]
    assert copied_real.files("victims/**/*.*") == victims


def _so_far(study: Checkout) -> str:
    outcome = study.snakemake("so_far", "--cores", "1")
    assert outcome.code == 0, outcome.output
    return outcome.output


def _notes_so_far(study: Checkout) -> list[str]:
    text = (study.path / "results/tables/real-so-far.md").read_text(encoding="utf-8")
    return [line[2:] for line in text.splitlines() if line.startswith(("- Not run yet", "- Refused"))]


# --- Killed trainings ---

EPOCHS = 60
VICTIM = "results/victims/real/strong/scratch/none/seed0"
CHECKPOINT = "results/checkpoints/real/train/strong/scratch/none/0.safetensors"


def _training(study: Checkout) -> list[str]:
    """The command line of one victim, with more epochs."""
    card = json.loads((study.path / f"{VICTIM}.card.json").read_text(encoding="utf-8"))
    spec = [string for string in card["spec"] if not string.startswith(("recipe.epochs=", "recipe.evaluate_every="))]
    return [
        *("--spec", *spec, f"recipe.epochs={EPOCHS}", f"recipe.evaluate_every={EPOCHS}"),
        *("--code", "torch==0.0.1"),
        *("--device", "cpu", "--threads", "1"),
        *("--checkpoint", CHECKPOINT, "--checkpoint-seconds", "0"),
        *("--dataset", "results/data/real.safetensors"),
        *("--poisons", "results/poisons/real/strong/seed0.safetensors"),
    ]


def _outputs(name: str) -> list[str]:
    return [
        *("--weights", f"out/{name}.safetensors"),
        *("--metrics", f"out/{name}.metrics.json"),
        *("--card", f"out/{name}.card.json"),
    ]


def _kill_in_mid_training(study: Checkout, arguments: list[str]) -> None:
    """Start the training and kill it once it has saved a state."""
    process = subprocess.Popen(
        [sys.executable, "workflow/scripts/train.py", *arguments],
        cwd=study.path,
        env=environment() | {"PYTHONPATH": "src"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (study.path / CHECKPOINT).exists():
        assert process.poll() is None, "the training ended before it saved a state"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


@pytest.fixture
def copied_real(finished: Checkout, tmp_path: Path) -> Checkout:
    return finished.copy(tmp_path / "study")


@pytest.fixture(scope="module")
def killed(finished: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """The finished study with one more training, killed in the middle."""
    study = finished.copy(tmp_path_factory.mktemp("killed") / "study")
    _kill_in_mid_training(study, [*_training(study), *_outputs("resumed")])
    assert not (study.path / "out").exists()
    return study


def test_killed_training_resumes_to_the_same_bytes(killed: Checkout, tmp_path: Path) -> None:
    study = killed.copy(tmp_path / "study")
    resumed = study.script("train", *_training(study), *_outputs("resumed"))
    assert resumed.code == 0, resumed.output
    assert not (study.path / CHECKPOINT).exists()

    whole = study.script("train", *_training(study), *_outputs("whole"))
    assert whole.code == 0, whole.output
    for kind in ("safetensors", "metrics.json"):
        first, second = (study.path / f"out/{name}.{kind}" for name in ("whole", "resumed"))
        assert first.read_bytes() == second.read_bytes()


def test_resumed_training_goes_on_from_the_saved_state(killed: Checkout, tmp_path: Path) -> None:
    """Falsified history in the saved state turns up in the end: proof that the state was used, not remade."""
    study = killed.copy(tmp_path / "study")
    _falsify(study)
    outcome = study.script("train", *_training(study), *_outputs("resumed"))
    assert outcome.code == 0, outcome.output
    assert _first_loss(study) == -1.0


def test_saved_state_of_other_inputs_is_ignored(killed: Checkout, tmp_path: Path) -> None:
    study = killed.copy(tmp_path / "study")
    _falsify(study)
    other = ("--poisons", "results/poisons/real/strong/seed1.safetensors")
    outcome = study.script("train", *_training(study), *other, *_outputs("resumed"))
    assert outcome.code == 0, outcome.output
    assert _first_loss(study) > 0


def _falsify(study: Checkout) -> None:
    """Write a loss of -1 into the first epoch of the saved state, keeping all else."""
    path = study.path / CHECKPOINT
    tensors, facts = read_tensors(path, "checkpoint")
    facts["history"][0]["train_loss"] = -1.0
    write_tensors(path, "checkpoint", tensors, facts)


def _first_loss(study: Checkout) -> float:
    metrics = json.loads((study.path / "out/resumed.metrics.json").read_text(encoding="utf-8"))
    return float(metrics["history"][0]["train_loss"])


# --- Digests ---


@pytest.mark.parametrize("name", ["finished", "extended", "defended", "rooms"])
def test_digests_cover_every_module_that_a_job_imports(name: str, request: pytest.FixtureRequest) -> None:
    study: Checkout = request.getfixturevalue(name)
    programs = {path.name for path in (study.path / "workflow/scripts").glob("*.py")}
    by_hand = {"verify.py", "archive.py", "crate.py", "estimate.py", "export.py", "matching_losses.py", "progress.py"}
    by_hand |= {"protect.py", "committed_tables.py"}
    elsewhere = {"filter.py", "detect.py", "ablation.py", "dilute.py", "transfer.py", "transfer_table.py"}
    elsewhere |= {"feature_view.py", "adopt.py", *SCANNING}
    # Each of the studies has some of the stages.
    expected = {
        "finished": programs - by_hand - elsewhere,
        "extended": {"craft.py", "noise.py", "train.py"},
        "defended": {"filter.py", "detect.py", "train.py"},
        "rooms": {
            "craft.py",
            "train.py",
            "filter.py",
            "dilute.py",
            "transfer.py",
            "transfer_table.py",
            "feature_view.py",
        },
    }[name]
    digests_cover(study, expected)


SCANNING = {"plant.py", "features.py", "suspects.py", "neighbours.py", "scan_page.py"}


def digests_cover(study: Checkout, expected: set[str]) -> None:
    """Whether every module that a job imported is in its digests; the expected programs are among the jobs'."""
    jobs = list(spied(study))
    assert {program for program, _, _ in jobs} >= expected
    for program, output, seen in jobs:
        digested = {string.partition("@")[0] for string in study.params(output) if ".py@" in string}
        assert f"workflow/scripts/{program}" in digested
        # A program that stops early would have imported little.
        assert "src/poisonlab/runtime/program.py" in seen
        # Neither the names that it offers to users nor what runs a program computes anything.
        frame = {file for file in seen if file.startswith("src/poisonlab/runtime/")}
        frame |= {"src/poisonlab/__init__.py", "src/poisonlab/provenance.py", "src/poisonlab/config/measures.py"}
        assert seen - digested <= frame, output


def spied(study: Checkout) -> Iterator[tuple[str, str, set[str]]]:
    """Of every job that ran: its program, one of its outputs, and the files of the study that it imported."""
    for line in (study.path / SPIED).read_text(encoding="utf-8").splitlines():
        job = json.loads(line)
        program = Path(job["arguments"][0]).name
        paths = [path for path in job["arguments"] if path.startswith("results/") and study.has_record(path)]
        output = next(
            path for path in paths if any(f"workflow/scripts/{program}@" in string for string in study.params(path))
        )
        yield program, output, set(job["files"])
