"""Friendly noise in rows that squeeze their images: made for the images that the victim adds it to."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from loading import program
from PIL import Image
from torch import Tensor

from poisonlab.artifacts.dataset import read_dataset, save_dataset
from poisonlab.artifacts.noise import load_noise
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.study import read_study
from poisonlab.data.training_set import training_set
from poisonlab.defenses.build import build_defenses
from poisonlab.errors import SettingsError
from poisonlab.files import read_sealed
from poisonlab.graph.cells import Cell
from poisonlab.graph.graph import Graph
from poisonlab.models.classifier import Normalize
from poisonlab.models.networks import build_network
from poisonlab.provenance import ROOT, spec
from poisonlab.randomness import stream_seed
from poisonlab.training.defense import Batch
from poisonlab.training.loop import train

JPEG: dict[str, Any] = {"method": "jpeg", "quality": 30}
GRAY: dict[str, Any] = {"method": "grayscale"}
FRIENDLY: dict[str, Any] = {"method": "friendly-noise", "steps": 2, "lr": 50, "lam": 3, "zeta": 16, "def_epoch": 1}
RANDOM: dict[str, Any] = {"method": "random-noise", "distribution": "bernoulli", "mu": 8}
RECIPE = Recipe(
    epochs=2, batch_size=25, lr=0.05, augmentation=Augmentation(kind="none"), evaluate_every=2, milestones=()
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and a poison for each of its images."""
    folder = tmp_path_factory.mktemp("made")
    source = {"source": "digits-on-photos", "train_size": 60, "test_size": 20, "size": 16}
    program("dataset").main(["--spec", *spec(dataset=source), "--dataset", str(folder / "data")])
    attack = {"name": "r", "method": "regions", "regions": 4, "budget": 0.5}
    outputs = [part for kind in ("poisons", "card", "checkpoint") for part in (f"--{kind}", str(folder / kind))]
    given = ["--dataset", str(folder / "data"), "--device", "cpu", *outputs]
    program("craft").main(["--spec", *spec(attack=attack, seed=1), *given])
    return folder


def victim(*defenses: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": SmallResNet(width=4, stem_stride=4).model_dump(),
        "recipe": RECIPE.model_dump(mode="json", exclude={"base"}),
        "start": {"scenario": "from-scratch"},
        "defenses": list(defenses),
        "seed": 1,
    }


def make(
    folder: Path, inputs: Path, *defenses: dict[str, Any], poisons: bool = True, more: tuple[str, ...] = ()
) -> bytes:
    """The noise of a row with these defenses, of the dataset and poisons in ``inputs``."""
    folder.mkdir(exist_ok=True)
    outputs = [part for kind in ("noise", "card", "checkpoint") for part in (f"--{kind}", str(folder / kind))]
    given = ["--dataset", str(inputs / "data"), *(["--poisons", str(inputs / "poisons")] if poisons else [])]
    program("noise").main(["--spec", *spec(**victim(*defenses)), "--device", "cpu", *more, *given, *outputs])
    assert sorted(path.name for path in folder.iterdir()) == ["card", "noise"]
    return (folder / "noise").read_bytes()


def by_pillow(images: Tensor, *squeezes: dict[str, Any]) -> Tensor:
    """Each image (C, H, W) uint8 on its own."""
    done = []
    for image in images:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        for squeeze in squeezes:
            if squeeze == GRAY:
                picture = picture.convert("L").convert("RGB")
            else:
                file = BytesIO()
                picture.save(file, "JPEG", quality=squeeze["quality"])
                picture = Image.open(file).convert("RGB")
        done.append(torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    return torch.stack(done)


@pytest.mark.parametrize("squeezes", [(JPEG,), (GRAY, JPEG)], ids=["jpeg", "gray-jpeg"])
def test_noise_is_that_of_a_dataset_that_was_squeezed_beforehand(
    squeezes: tuple[dict[str, Any], ...], made: Path, tmp_path: Path
) -> None:
    """But for random streams, which go by places: nothing random stands behind the squeezes here."""
    before = tmp_path / "before"
    before.mkdir()
    dataset, poisons = read_dataset(made / "data"), PoisonSet.load(made / "poisons")
    save_dataset(before / "data", replace(dataset, train_images=by_pillow(dataset.train_images, *squeezes)))
    replace(poisons, images=by_pillow(poisons.images, *squeezes)).save(before / "poisons")
    own = make(tmp_path / "own", made, RANDOM, *squeezes, FRIENDLY)
    assert own == make(tmp_path / "beforehand", before, RANDOM, FRIENDLY)
    assert own != make(tmp_path / "unsqueezed", made, RANDOM, FRIENDLY)


def test_the_network_that_makes_the_noise_is_the_victim_at_that_epoch(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where random noise is listed behind a squeeze: until the noise begins, both trainings are the same."""
    inner, seen = program("noise"), []
    made_by = inner.friendly_noise

    def watched(model: torch.nn.Module, images: Tensor, *more: object, **options: object) -> object:
        seen.append({name: value.clone() for name, value in model[1].state_dict().items()})
        assert torch.equal(images, by_pillow(training_set(dataset, poisons).images, JPEG))
        return made_by(model, images, *more, **options)

    dataset, poisons = read_dataset(made / "data"), PoisonSet.load(made / "poisons")
    monkeypatch.setattr(inner, "friendly_noise", watched)
    row = (JPEG, FRIENDLY, RANDOM)
    make(tmp_path / "noise", made, *row)
    network = build_network(SmallResNet(width=4, stem_stride=4), dataset, seed=stream_seed(1, "victim"))
    train(
        network,
        Normalize(dataset.mean, dataset.std),
        training_set(dataset, poisons),
        RECIPE,
        seed=stream_seed(1, "victim"),
        defenses=build_defenses(row, noise=torch.ones(60, 3, 16, 16)),
        until=1,
    )
    assert all(torch.equal(value, seen[0][name]) for name, value in network.state_dict().items())


def test_a_control_has_no_poisons_to_squeeze(made: Path, tmp_path: Path) -> None:
    make(tmp_path / "own", made, JPEG, FRIENDLY, poisons=False)


def test_a_killed_call_goes_on_from_its_checkpoint(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = (JPEG, FRIENDLY, RANDOM)
    whole = make(tmp_path / "whole", made, *row)
    with monkeypatch.context() as killed:
        killed.setattr(program("noise"), "friendly_noise", _die)
        with pytest.raises(KeyboardInterrupt):
            make(tmp_path / "killed", made, *row, more=("--checkpoint-seconds", "0"))
    # Nothing but what the program itself leaves for the next call.
    assert {path.name for path in (tmp_path / "killed").iterdir()} <= {"checkpoint"}
    assert make(tmp_path / "killed", made, *row) == whole


def _die(*args: object, **more: object) -> None:
    raise KeyboardInterrupt


def test_the_victim_trains_on_squeezed_images_with_their_noise(made: Path, tmp_path: Path) -> None:
    """The defenses of a victim, as its training loop calls them."""
    dataset, poisons = read_dataset(made / "data"), PoisonSet.load(made / "poisons")
    noise = torch.randn(60, 3, 16, 16, generator=torch.Generator().manual_seed(0)) / 16
    data = training_set(dataset, poisons)
    defenses = build_defenses([JPEG, {"method": "friendly-noise", "def_epoch": 1}], noise=noise)
    squeezed = data
    for defense in defenses:
        squeezed = defense.prepare(squeezed)
    expected = by_pillow(data.images, JPEG)
    assert torch.equal(squeezed.images, expected)
    images = squeezed.images[:5].float() / 255
    for epoch, seen in ((0, images), (1, (expected[:5].float() / 255 + noise[:5]).clamp(0, 1))):
        batch: Any = Batch(images, data.labels[:5], data.rows[:5], epoch, torch.Generator(), None, None)  # type: ignore[arg-type]
        for defense in defenses:
            batch = replace(batch, images=defense.change_batch(batch))
        assert torch.equal(batch.images, seen)


def study(*apply: dict[str, Any]) -> Any:
    values = yaml.safe_load((ROOT / "tests/workflow/tiny.yaml").read_text("utf-8"))
    return read_study({**values, "defenses": [*values["defenses"], {"name": "both", "apply": list(apply)}]})


def test_squeezing_comes_before_the_noise_that_is_made_for_it() -> None:
    study(JPEG, GRAY, FRIENDLY, RANDOM)
    for late in ((FRIENDLY, JPEG), (GRAY, FRIENDLY, RANDOM, JPEG)):
        with pytest.raises(
            SettingsError, match=r"'both': jpeg changes the training set .*list it before friendly-noise"
        ):
            study(*late)


def test_snakemake_compares_what_the_images_go_through() -> None:
    def job(*apply: dict[str, Any]) -> Any:
        graph = Graph(study(*apply), str(ROOT))
        cell = next(cell for cell in graph.tables.local if cell.defense == "both")
        return graph.job("noise", {name: str(value) for name, value in Cell(*cell)._asdict().items()})

    both, other = job(JPEG, FRIENDLY), job({**JPEG, "quality": 31}, FRIENDLY)
    assert set(both.settings) - set(other.settings) == {"defenses.0.quality=30"}
    assert "poisonlab.defenses.jpeg" in both.roots


def test_the_programs_run_one_after_another(made: Path, tmp_path: Path) -> None:
    make(tmp_path / "noise", made, JPEG, FRIENDLY, RANDOM)
    who = {"attack": "r", "victim": "v", "defense": "both", "poisoned": True, "low_loss": 0.5}
    row = victim(JPEG, {"method": "friendly-noise", "def_epoch": 1}, RANDOM)
    inputs = ["--dataset", made / "data", "--poisons", made / "poisons", "--noise", tmp_path / "noise/noise"]
    kinds = ("weights", "metrics", "card", "checkpoint")
    outputs = [part for kind in kinds for part in (f"--{kind}", tmp_path / kind)]
    program("train").main(["--spec", *spec(**who, **row), "--device", "cpu", *map(str, (*inputs, *outputs))])
    assert len(read_sealed(tmp_path / "metrics")["history"]) == 2
    levels = load_noise(tmp_path / "noise/noise").abs().max() * 255
    assert 0 < float(levels) <= 16.01
