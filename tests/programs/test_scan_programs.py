"""Scans with a network of the user's: weights of a known architecture are adopted, any other network is wrapped."""

from __future__ import annotations

import csv
import re
import subprocess
from pathlib import Path

import pytest
import torch
from loading import program
from PIL import Image
from safetensors.torch import save_file
from snakemake.cli import parse_config
from torch import nn

from poisonlab.artifacts.dataset import save_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.models.lenet import LeNet
from poisonlab.data import image_folder
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError, SettingsError
from poisonlab.files import read_sealed, write_sealed
from poisonlab.models.networks import build_network, read_network
from poisonlab.provenance import ROOT, parse, spec
from poisonlab.scanning.duplicates import neighbourhood
from poisonlab.scanning.features import Features
from poisonlab.scanning.ranking import join

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
    lengths = inside.norm(dim=1, keepdim=True)
    assert torch.allclose(found.features * lengths, inside, atol=1e-5)
    assert torch.allclose(found.features.norm(dim=1)[:, None], (lengths > 0).float(), atol=1e-5)
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


@pytest.mark.parametrize("problem", ["none can be the target", "the budget is too large"])
def test_poisons_are_planted_for_any_image_where_none_is_recognised(
    problem: str, data: ImageDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weak network stops no scan; another mistake does."""
    monkeypatch.syspath_prepend(ROOT / "workflow" / "scripts")
    plant, tried = program("plant"), []

    def craft(argv: list[str]) -> None:
        told = parse(argv[1 : argv.index("--dataset")])["attack"]
        tried.append((told["target"], round(told["budget"] * len(data.train_labels))))
        if told["target"] == "recognised" or "budget" in problem:
            raise SettingsError(problem)

    monkeypatch.setattr(plant.craft, "main", craft)
    told = {"attack": {"method": "gradient-matching", "target": "recognised", "budget": 0.1}, "planted": {"poisons": 4}}
    argv = ["--spec", *spec(**told), "--dataset", str(tmp_path / "data.safetensors")]
    if "budget" in problem:
        with pytest.raises(SettingsError, match=problem):
            plant.main(argv)
    else:
        plant.main(argv)
    assert tried == [("recognised", 4), ("random", 4)]


def written_page(tmp_path: Path, weights: bool = False, fitted: float = 0.5, **keys: str) -> str:
    """The page of the two classes of eight images in ``photos``, of which two are poisons."""
    told = {"source": "image-folder", "root": str(tmp_path / "photos"), "splits": False, **keys}
    dataset = image_folder.load(ImageFolder.model_validate(told))
    save_dataset(tmp_path / "data.safetensors", dataset)
    points = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    Features(points, points[:, :2], points[:0], fitted, None).save(tmp_path / "features.safetensors")
    neighbourhood(points, dataset.train_images, k=2, near=8).save(tmp_path / "near.safetensors")
    for name in ("own-0", "own-1", "planted"):
        join(("deep-knn",), torch.zeros(1, 8, dtype=torch.float64)).save(tmp_path / f"{name}.safetensors")
    images = dataset.train_images[:2]
    PoisonSet(torch.tensor([1, 6]), images, torch.tensor([0, 1]), images).save(tmp_path / "poisons.safetensors")
    write_sealed(tmp_path / "victim.json", {"measures": {"success": 0.25}})
    settings = spec(
        scan="a", dataset=told, suspects=4, neighbours=50, near=8, weights=weights,
        attacks=[{"name": "patch", "method": "badnets"}],
    )  # fmt: skip
    paths = {
        "dataset": "data.safetensors", "features": "features.safetensors", "neighbours": "near.safetensors",
        "planted": "planted.safetensors", "poisons": "poisons.safetensors", "victims": "victim.json",
        "html": "scan.html", "csv": "scan.csv", "json": "scan.json",
    }  # fmt: skip
    program("scan_page").main(
        [
            *("--spec", *settings, "--template", str(ROOT / "workflow/report/scan.html"), "--suspects"),
            *(str(tmp_path / f"own-{seed}.safetensors") for seed in (0, 1)),
            *(part for option, path in paths.items() for part in (f"--{option}", str(tmp_path / path))),
        ]
    )
    return (tmp_path / "scan.html").read_text("utf-8")


def test_the_page_escapes_names_and_gives_equal_scores_no_power(tmp_path: Path) -> None:
    """A class folder may have any name, and bytes that are no UTF-8; a blind filter finds what chance does."""
    folders = ("<script>", "caf\udce9")
    for folder in folders:
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(4):
            shade = (10 * number, 200 * folders.index(folder), number)
            Image.new("RGB", (8, 8), shade).save(tmp_path / "photos" / folder / f"{number}.png")
    # Which no reader looks at, and the page must say so.
    for other in ("<script>/below/1.png", "<script>/below/2.PNG", "<script>/raw.heic", "readme.txt", ".val/x/3.png"):
        (tmp_path / "photos" / other).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / other).touch()
    page = written_page(tmp_path)
    summary = read_sealed(tmp_path / "scan.json")
    assert "&lt;script&gt;/0.png" in page
    assert "<script" not in page
    # Paper is white, whatever colours the system has.
    assert page.count("prefers-color-scheme: dark") == page.count("@media screen and (prefers-color-scheme: dark)") == 1
    assert summary["not_looked_at"] == ["1 .heic in <script>", "2 .png in <script>/below"]
    assert "1 .heic in &lt;script&gt;, 2 .png in &lt;script&gt;/below." in page
    assert "so few images" not in page
    assert "caf\\udce9/0.png" in page
    assert "caf\\udce9/0.png" in (tmp_path / "scan.csv").read_text("utf-8")
    assert summary["power"][0]["by_filter"]["deep-knn"] == summary["power"][0]["by_chance"] == 1
    assert summary["stability"]["by_filter"]["deep-knn"] == summary["stability"]["by_chance"] == 0.5
    assert "success on the network that was trained on them is 25 %" in page
    # Of eight images seven can vote.
    assert summary["deep_knn"] == {"neighbours": 7, "smallest_class": "<script>", "smallest": 4}
    assert "counts the labels of 7 neighbours, as there are no more (<code>neighbours: 50</code>)." in page
    assert "Set <code>neighbours</code> below 4, or scan more images" in page
    # The network fits half of eight images.
    assert "recipe.epochs</code> (with 25000 the network sees 200,000 images)" in page
    # Places 1 to 8 have the mean 4.5.
    assert ">4.5</td>" in page


@pytest.mark.parametrize(("others", "warned"), [(2, True), (4, False)])
def test_the_page_warns_of_a_network_that_knows_one_class_alone(others: int, warned: bool, tmp_path: Path) -> None:
    """A network that fits six of eight images may name one class for all if that has six of them."""
    for number in range(8):
        path = tmp_path / "photos" / ("cat" if number < 8 - others else "dog") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (30 * number, number, 9 * number)).save(path)
    page = written_page(tmp_path, fitted=0.75)
    assert ("of the training images their label, and the largest class has 75 %." in page) == warned
    assert read_sealed(tmp_path / "scan.json")["largest_class"] == (8 - others) / 8


@pytest.mark.parametrize(
    ("names", "keys", "other"),
    [
        (("2", "10"), {}, "text"),
        (("10", "2"), {"class_order": "text"}, "natural"),
        (("cat", "dog"), {}, None),
    ],
)
def test_the_page_names_the_order_that_weights_may_have_been_trained_with(
    names: tuple[str, str], keys: dict[str, str], other: str | None, tmp_path: Path
) -> None:
    for place, name in enumerate(names):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8), (200 * place, number, 10 * number)).save(tmp_path / f"photos/{name}/{number}.png")
    page = written_page(tmp_path, weights=True, **keys)
    assert re.findall("set <code>class_order: ([a-z]+)</code>", page) == ([] if other is None else [other])
    table = list(csv.DictReader((tmp_path / "scan.csv").read_text("utf-8").splitlines()))
    assert [line["file"] for line in table] == [f"{name}/{number}.png" for name in names for number in range(4)]
    assert [line["label"] for line in table] == [name for name in names for _ in range(4)]
    assert "class_order" not in written_page(tmp_path, weights=False, **keys)


@pytest.mark.parametrize(
    ("data", "handed_on"),
    [
        ("photos", "./photos"),
        ("my photos", "./my photos"),
        ("/abs/photos", "/abs/photos"),
        # Snakemake would take the number 7, an empty text and the folder "photos" for these.
        ("007", "./007"),
        ("&x", "./&x"),
        ("photos #1", None),
        ("photos: old", None),
    ],
)
def test_make_hands_a_path_on_as_it_is(data: str, handed_on: str | None, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"), "utf-8")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stub = tmp_path / ".venv/bin/snakemake"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", "utf-8")
    stub.chmod(0o755)
    command = ["make", "-s", "-o", ".venv/ready", "scan", f"DATA={data}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    if handed_on is None:
        assert done.returncode != 0
        assert f"error: Snakemake reads DATA={data} as YAML" in done.stderr
        return
    told = done.stdout.splitlines()[-1]
    assert parse_config([told]) == {"data": handed_on}


@pytest.mark.parametrize(
    ("target", "variable", "option"),
    [
        ("verify", "CONFIG", "--configfile"),
        ("progress", "CONFIG", "--configfile"),
        ("estimate", "CONFIG", "--configfile"),
        ("archive", "CONFIG", "--configfile"),
        ("unpack", "FROM", "--from"),
        ("protect", "SIZE", "--size"),
    ],
)
def test_make_hands_a_path_with_spaces_on_as_one(target: str, variable: str, option: str, tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"), "utf-8")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stub = tmp_path / ".venv/bin/python"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", "utf-8")
    stub.chmod(0o755)
    command = ["make", "-s", "-o", ".venv/ready", target, f"{variable}=/my disk/my scan"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    told = done.stdout.splitlines()
    assert told[told.index(option) + 1] == "/my disk/my scan"


def test_the_home_folder_is_found_where_the_shell_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few shells replace ~ in SETTINGS=~/scan.yaml, and none within quotes."""
    (tmp_path / "Makefile").write_text((ROOT / "Makefile").read_text("utf-8"), "utf-8")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    stub = tmp_path / ".venv/bin/snakemake"
    stub.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n", "utf-8")
    stub.chmod(0o755)
    home = tmp_path / "my home"
    home.mkdir()
    (home / "scan.yaml").write_text("data: photos\n", "utf-8")
    monkeypatch.setenv("HOME", str(home))
    command = ["make", "-s", "-o", ".venv/ready", "scan"]
    done = subprocess.run([*command, "SETTINGS=~/scan.yaml"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-2:] == ["--configfile", f"{home}/scan.yaml"]
    done = subprocess.run([*command, "SETTINGS=~/none.yaml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert f"error: {home}/none.yaml is missing: correct SETTINGS" in done.stderr
