"""Which poisons dilution takes away, and the training set and graph that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.dilution import diluted
from poisonlab.config.rows import Row
from poisonlab.config.study import read_study
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import poisoned_examples, training_set
from poisonlab.graph.cells import Cell
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]


def pictures(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def dataset() -> ImageDataset:
    labels = torch.arange(20) % 2
    return ImageDataset(pictures(20, 1), labels, pictures(4, 2), labels[:4], ("a", "b"), (0.5,) * 3, (0.2,) * 3)


def whole_set() -> PoisonSet:
    """Every row, with another image and another label."""
    data = dataset()
    return PoisonSet(torch.arange(20), 255 - data.train_images, 1 - data.train_labels, data.train_images)


@pytest.mark.parametrize(("share", "gone"), [(0.2, 4), (0.5, 10), (0.33, 7), (0.01, 0), (0.999, 19)])
def test_so_many_rows_are_clean_again_and_the_others_are_not(share: float, gone: int) -> None:
    data, left = dataset(), diluted(whole_set(), share, seed=3)
    made = training_set(data, left)
    clean = (made.images == data.train_images).flatten(1).all(1)
    assert int(clean.sum()) == gone
    assert torch.equal(made.labels == data.train_labels, clean)
    assert torch.equal(poisoned_examples(data, left), ~clean)
    assert torch.equal(made.images[~clean], 255 - data.train_images[~clean])


def test_the_seed_draws_and_a_larger_share_takes_more_of_the_same() -> None:
    some, more = (set(diluted(whole_set(), share, seed=3).indices.tolist()) for share in (0.2, 0.5))
    assert more < some
    assert some != set(diluted(whole_set(), 0.2, seed=4).indices.tolist())


def test_an_appended_poison_is_taken_away() -> None:
    base = pictures(4, 5)
    appended = PoisonSet(torch.full((4,), -1), 255 - base, torch.zeros(4, dtype=torch.int64), base)
    assert len(training_set(dataset(), diluted(appended, 0.5, seed=1))) == 22


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"apply": [{"method": "jpeg"}, {"method": "dilution"}]}, "list it first, and once"),
        ({"apply": [{"method": "dilution"}, {"method": "dilution"}]}, "list it first, and once"),
        ({"apply": [{"method": "dilution"}], "poisoned": False}, "trained on clean data"),
        ({"apply": [{"method": "dilution"}, {"method": "jpeg"}, {"method": "deep-knn"}]}, "list them first"),
        ({"apply": [{"method": "dilution", "share": 1}]}, "less than 1"),
    ],
)
def test_rows_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Row.model_validate({"name": "row", **changes})


def test_every_job_of_a_row_sees_the_diluted_poisons_and_no_other_row_does() -> None:
    values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text(encoding="utf-8"))
    before = Graph(read_study(values))
    mixed = {
        "name": "mixed",
        "apply": [{"method": "dilution"}, {"method": "deep-knn"}, {"method": "friendly-noise", "def_epoch": 1}],
    }
    values["defenses"].append(mixed)
    graph = Graph(read_study(values))
    path = "results/diluted/tiny/weak/scratch/mixed/seed1.safetensors"
    cell = Cell("weak", "scratch", "mixed", 1)
    for stage in ("filter", "noise", "train"):
        assert graph.job(stage, cell._asdict()).inputs["poisons"] == [path]
    jobs = {(job.stage, job.name): job for job in graph.all_jobs()}
    made = jobs["dilute", "weak/scratch/mixed/1"]
    assert made.inputs == {"poisons": ["results/poisons/tiny/weak/seed1.safetensors"]}
    assert sorted(made.settings) == ['method="dilution"', "seed=1", "share=0.2"]
    for job in before.all_jobs():
        if job.computes:
            assert jobs[job.stage, job.name] == job
    assert graph.computing.outcome(cell) != before.computing.outcome(cell._replace(defense="none"))
