"""workflow/scripts/matching_losses.py: the loss of shipped poisons beside one backward pass; what is not made yet."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml
from loading import program

from poisonlab.artifacts.dataset import save_dataset
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.config.study import read_study
from poisonlab.data.sources import load_dataset
from poisonlab.errors import SettingsError
from poisonlab.graph.graph import Graph
from poisonlab.models.networks import build_network, save_weights

ROOT = Path(__file__).resolve().parents[2]
MODEL = {"name": "small-resnet", "width": 2}
STUDY: dict[str, Any] = {
    "study": "tiny",
    "dataset": {"source": "digits-on-photos", "train_size": 40, "test_size": 20},
    "seeds": [3, 4],
    "surrogates": [{"name": "base", "model": MODEL}],
    "victims": [{"name": "scratch", "model": MODEL}],
    "attacks": [
        {"name": "crafted", "method": "gradient-matching", "surrogate": "base", "ensemble": 2},
        {"name": "second", "method": "gradient-matching", "surrogate": "base", "ensemble": 2},
        {"name": "planned", "method": "gradient-matching", "surrogate": "base"},
    ],
    "defenses": [{"name": "none"}],
}


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder in which the poisons of one attack are made."""
    for name in ("src", "workflow", "reference"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(STUDY), "utf-8")
    return "study.yaml"


def test_the_loss_is_that_of_one_backward_pass_on_shipped_pixels(
    config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    study = read_study(STUDY)
    dataset = load_dataset(study.dataset)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (dataset.mean, dataset.std))
    expected: dict[str, list[float]] = {"crafted": [], "second": []}
    for (attack, losses), seed in itertools.product(expected.items(), study.seeds):
        job = Graph(study).computing.craft(attack, seed)
        save_dataset(Path(job.inputs["dataset"][0]), dataset)
        rows = torch.arange(5) + seed
        labels = dataset.train_labels[rows]
        goal = Goal(dataset.test_images[:1], dataset.test_labels[:1], (dataset.test_labels[:1] + 1) % 10)
        images = dataset.train_images[rows].clone()
        images[:, :, 4:8] //= 2 if attack == "crafted" else 8
        PoisonSet(rows, images, labels, dataset.train_images[rows], goal).save(Path(job.outputs["poisons"]))
        each = []
        for member, path in enumerate(job.inputs["surrogates"]):
            network = build_network(study.surrogates[0].model, dataset, seed=10 * seed + member)
            save_weights(Path(path), network, {})
            both = []
            for pictures, classes in ((images, labels), (goal.targets, goal.adversarial_labels)):
                loss = F.cross_entropy(network.eval()((pictures / 255 - mean) / std), classes)
                both.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(network.parameters()))]))
            each.append(1 - float(F.cosine_similarity(*both, dim=0)))
        losses.append(sum(each) / len(each))
    program("matching_losses").main(["--configfile", config])
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in capsys.readouterr().out.splitlines()[2:]]
    for (attack, losses), line in zip(expected.items(), lines, strict=False):
        assert line[:2] == [attack, "2"]
        assert float(line[2]) == pytest.approx(sum(losses) / 2, abs=2e-4)
        low, high = map(float, line[3].split(" to "))
        assert low <= float(line[2]) <= high
    assert lines[0][4:] == ["–", "–"]
    changes = [second - first for first, second in zip(*expected.values(), strict=True)]
    # Of two differences half of Student's interval is 12.7062 times half their distance.
    half = 12.7062 * abs(changes[0] - changes[1]) / 2
    change = sum(changes) / 2
    found = [float(lines[1][4]), *map(float, lines[1][5].split(" to "))]
    assert found == pytest.approx([change, change - half, change + half], abs=2e-3)
    assert lines[2] == ["planned", "0", *4 * "–"]


def test_a_study_without_gradient_matching_is_one_line(config: str, tmp_path: Path) -> None:
    other = {**STUDY, "attacks": [{"name": "frogs", "method": "poison-frogs", "surrogate": "base"}]}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(other), "utf-8")
    with pytest.raises(SettingsError, match="no attack of method gradient-matching"):
        program("matching_losses").main(["--configfile", config])
