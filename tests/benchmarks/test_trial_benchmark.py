"""The benchmark of a trial's costs, on the default study and few images."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
import torch
import trial

from poisonlab import precision
from poisonlab.config.merging import merged_config
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.study import Study, read_study

CPU = torch.device("cpu")
SHARED = ", poisons shared by 6 rows"


@pytest.fixture(autouse=True)
def in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here depends on the precision, and many processors only emulate bfloat16."""
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: False)


@pytest.fixture
def study() -> Study:
    return read_study(merged_config(["config/cifar10-fast.yaml"], []))


def test_it_prints_every_part_and_the_sums(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbers = tmp_path / "numbers.json"
    options = ["--configfile", "config.yaml", "--size", "120", "--images", "40", "--repeats", "1"]
    trial.main([*options, "--rows", "friends-bernoulli", "--json", str(numbers)])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    seconds = json.loads(numbers.read_text(encoding="utf-8"))["seconds"]
    assert list(seconds) == ["crafting", "training, none", "noise, friends-bernoulli", "training, friends-bernoulli"]
    assert all(len(values) == 1 for values in seconds.values())
    names = [line[0].removeprefix("| ") for line in lines[2:]]
    trials = [f"a trial of {row}{shared}" for row in ("none", "friends-bernoulli") for shared in ("", SHARED)]
    assert names == [*seconds, *trials]


def test_too_few_images_for_the_classes_are_one_line() -> None:
    with pytest.raises(SystemExit, match="--images is 4, but each of the ten classes needs one: give 10 or more"):
        trial.main(["--configfile", "config.yaml", "--images", "4"])


def test_a_trial_is_the_sum_of_its_parts_and_ratios_are_to_undefended_training(study: Study) -> None:
    rows = trial.chosen(study, ["friends-bernoulli"])
    seconds = {
        "crafting": [9.0, 12.0, 30.0],
        "training, none": [20.0, 19.0, 21.0],
        "noise, friends-bernoulli": [5.0, 5.0, 5.0],
        "training, friends-bernoulli": [25.0, 25.0, 25.0],
    }
    cells = {line.split(" | ")[0]: line.split(" | ")[1:] for line in trial.table(seconds, rows, 6).splitlines()[2:]}
    shown = {name.removeprefix("| "): (values[0], values[2].removesuffix(" |")) for name, values in cells.items()}
    assert shown["crafting"] == ("12", "0.60")
    assert shown["a trial of none"] == ("32", "1.60")
    assert shown[f"a trial of none{SHARED}"] == ("22", "1.10")
    assert shown["a trial of friends-bernoulli"] == ("42", "2.10")
    assert shown[f"a trial of friends-bernoulli{SHARED}"] == ("32", "1.60")


def test_parts_are_reckoned_for_the_whole_training_set(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that ticks once between two looks: each part then takes as long as it has parts that are timed."""
    plain, noisy = trial.chosen(study, ["friends-bernoulli"])
    ticks = itertools.count()
    monkeypatch.setattr(trial, "clock", lambda _device: float(next(ticks)))
    victim, epochs = study.victims[0].model_copy(update={"model": SmallResNet(width=4)}), study.victims[0].recipe.epochs
    assert trial.training(victim, plain, 600, 20, CPU)() == pytest.approx(epochs * 600 / 20)
    assert trial.training(victim, noisy, 600, 20, CPU)() == pytest.approx(epochs * 600 / 20)
    # One look at making the noise, and one of 16 epochs.
    assert trial.making(victim, noisy, 600, 20, CPU)() == pytest.approx(600 / 20 + 600 / 20)


def test_crafting_is_counted_by_the_step(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that counts steps: what comes before the first one does not count."""
    (attack,) = study.attacks
    now = [0.0]

    class Crafting:
        @staticmethod
        def craft(dataset: object, attacker: object, settings: object, *, seed: int) -> None:
            now[0] += 50 + settings.steps  # type: ignore[attr-defined]

    monkeypatch.setattr(trial, "clock", lambda _device: now[0])
    load = trial.modules.load
    monkeypatch.setattr(trial.modules, "load", lambda kind, name: Crafting if kind == "attacks" else load(kind, name))
    several = attack.model_copy(update={"restarts": 2})
    assert trial.crafting(study, several, 1000, CPU)() == pytest.approx(2 * attack.steps)  # type: ignore[attr-defined]


def test_rows_with_more_than_noises_are_refused(study: Study) -> None:
    defenses = read_study(merged_config(["config/defenses.yaml"], []))
    assert [row.name for row in trial.chosen(study, None)][:2] == ["none", "friends-bernoulli"]
    filtered = next(row.name for row in defenses.defenses if row.apply and row.apply[0].method == "deep-knn")
    with pytest.raises(SystemExit, match="more than noises"):
        trial.chosen(defenses, [filtered])
    with pytest.raises(SystemExit, match="no row 'nothing'"):
        trial.chosen(study, ["nothing"])


@pytest.mark.parametrize(
    ("options", "cure"),
    [
        (["--attack", "nothing"], "--attack must name one of method gradient-matching: gradient-matching"),
        (["--configfile", "config/learned-faster-mini.yaml"], "the study has none"),
        (["--configfile", "config/cifar10-fast-sleeper.yaml"], "the study has none"),  # it retrains between its steps
        (["--rows", "nothing"], "no row 'nothing'"),
    ],
)
def test_wrong_names_end_in_one_line(options: list[str], cure: str) -> None:
    with pytest.raises(SystemExit, match=cure) as end:
        trial.main(options)
    assert "\n" not in str(end.value)
