"""Scans with a network of the user's: weights of a known architecture are adopted, any other network is wrapped."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from loading import program
from safetensors.torch import save_file
from torch import nn

from poisonlab.artifacts.dataset import save_dataset
from poisonlab.config.models.lenet import LeNet
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.networks import build_network, read_network
from poisonlab.provenance import spec
from poisonlab.scanning.features import Features

MODULE = """import torch

def make():
    torch.manual_seed(7)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(768, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3))
"""


@pytest.fixture
def data(tmp_path: Path) -> ImageDataset:
    images = torch.randint(0, 256, (30, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(30) % 3
    made = ImageDataset(images[:21], labels[:21], images[21:], labels[21:], ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3)
    save_dataset(tmp_path / "data.safetensors", made)
    return made


def run(name: str, folder: Path, settings: list[str], **paths: str) -> None:
    told = [part for option, path in paths.items() for part in (f"--{option}", str(folder / path))]
    always = ["--device", "cpu", "--dataset", str(folder / "data.safetensors"), "--card", str(folder / "card.json")]
    program(name).main(["--spec", *settings, *always, *told])


def test_a_network_of_ones_own_gives_the_features(
    data: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scannedbyowner.py").write_text(MODULE, "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 3))
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    run("features", tmp_path, spec(network="scannedbyowner:make"), network="own.safetensors", features="f.safetensors")
    found = Features.load(tmp_path / "f.safetensors")
    with torch.no_grad():
        inside = network[:3](data.train_images.float() / 255)
        logits = network(data.train_images.float() / 255)
    assert torch.allclose(found.features, inside, atol=1e-5)
    assert torch.allclose(found.logits, logits, atol=1e-5)
    assert found.test_features.shape == (9, 5)
    assert found.fitted == pytest.approx(float((logits.argmax(1) == data.train_labels).double().mean()))
    assert found.accuracy is not None


def test_a_network_of_other_classes_is_one_line(
    data: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "scannedbytwo.py").write_text(MODULE.replace("(5, 3)", "(5, 2)"), "utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    network = nn.Sequential(nn.Flatten(), nn.Linear(768, 5), nn.ReLU(), nn.Linear(5, 2))
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    with pytest.raises(SettingsError, match="scannedbytwo:make gives 2 logits, but the data have 3 classes"):
        run(
            "features", tmp_path, spec(network="scannedbytwo:make"), network="own.safetensors", features="f.safetensors"
        )
    assert not (tmp_path / "f.safetensors").exists()


def test_weights_of_a_known_architecture_are_adopted(data: ImageDataset, tmp_path: Path) -> None:
    network = build_network(LeNet(), data, seed=5)
    save_file(network.state_dict(), tmp_path / "own.safetensors")
    outputs = {"weights": "taken.safetensors", "metrics": "metrics.json"}
    settings = spec(model=LeNet().told())
    run("adopt", tmp_path, settings, own="own.safetensors", **outputs)
    taken = read_network(tmp_path / "taken.safetensors", LeNet(), data)
    assert all(torch.equal(taken.state_dict()[name], each) for name, each in network.state_dict().items())
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DataError, match=r"other.safetensors holds the weights of another architecture"):
        run("adopt", tmp_path, settings, own="other.safetensors", **outputs)


def test_a_split_that_is_both_has_no_test_images(data: ImageDataset, tmp_path: Path) -> None:
    one = ImageDataset(
        data.train_images, data.train_labels, data.train_images, data.train_labels, ("a", "b", "c"), data.mean, data.std
    )
    save_dataset(tmp_path / "data.safetensors", one)
    save_file(build_network(LeNet(), one, seed=5).state_dict(), tmp_path / "own.safetensors")
    settings = spec(model=LeNet().told())
    run("adopt", tmp_path, settings, own="own.safetensors", weights="taken.safetensors", metrics="metrics.json")
    run("features", tmp_path, settings, network="taken.safetensors", features="f.safetensors")
    found = Features.load(tmp_path / "f.safetensors")
    assert len(found.test_features) == 0
    assert found.accuracy is None


def test_names_that_are_no_text_are_written_with_escapes() -> None:
    assert program("scan_page")._text("caf\udce9, café") == "caf\\udce9, café"
