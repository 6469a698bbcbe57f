"""The benchmark of accuracy for seconds, on a study of a few images."""

from __future__ import annotations

import json
from pathlib import Path

import fast_cifar
import pytest
import torch

from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.models import lenet

STUDY = """
study: few
dataset: {source: digits-on-photos, train_size: 40, test_size: 20}
seeds: [0]
surrogates:
  - {name: base, model: {name: fast-cifar}}
victims:
  - name: first
    model: {name: lenet}
  - name: fast
    model: {name: fast-cifar, widths: [4, 8, 16]}
    recipe: {epochs: 4, batch_size: 10, schedule: linear, warmup_epochs: 1}
attacks: [{name: matching, method: gradient-matching, surrogate: base}]
defenses: [{name: none}]
"""


def test_it_prints_a_line_for_each_number_of_epochs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A product of large matrices takes minutes where bfloat16 is emulated.
    monkeypatch.setattr(fast_cifar, "matmul", lambda device, precision, side: 1e9)
    study, numbers = tmp_path / "study.yaml", tmp_path / "numbers.json"
    study.write_text(STUDY, encoding="utf-8")
    options = ["--configfile", str(study), "--victim", "fast", "--json", str(numbers)]
    fast_cifar.main([*options, "--epochs", "1", "2", "--seeds", "0", "1"])
    lines = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line[0] for line in lines[2:]] == ["| 1", "| 2"]
    assert [line[2] for line in lines[2:]] == ["2", "2"]
    trainings = json.loads(numbers.read_text(encoding="utf-8"))["trainings"]
    assert [(training["epochs"], training["seed"]) for training in trainings] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    for training in trainings:
        assert 0 <= training["accuracy"] <= 1
        assert training["share"] == pytest.approx(training["flops"] / 1e9)
        assert training["images_per_second"] == pytest.approx(training["epochs"] * 40 / training["seconds"])


def test_the_schedule_is_stretched() -> None:
    recipe = Recipe(epochs=8, warmup_epochs=2, milestones=(2, 4), lr=0.3)
    longer, shorter = fast_cifar.stretched(recipe, 16), fast_cifar.stretched(recipe, 2)
    assert (longer.epochs, longer.warmup_epochs, longer.milestones, longer.lr) == (16, 4, (4, 8), 0.3)
    assert (shorter.epochs, shorter.warmup_epochs, shorter.milestones) == (2, 0.5, (1,))


def test_operations_of_lenet_by_hand() -> None:
    """Two for each product of a convolution or a linear layer, forward and once for each gradient; the images need
    none."""
    images, labels = torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.tensor([0, 1])
    dataset = ImageDataset(images, labels, images, labels, ("a", "b"), (0.5,) * 3, (0.5,) * 3)
    first, others = 28 * 28 * 6 * 75, 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 2
    work = fast_cifar.operations(lenet.build(2, (3, 32, 32)), dataset, Recipe(), torch.device("cpu"))
    assert work == 2 * (2 * first + 3 * others)
