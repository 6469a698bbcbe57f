"""make protect: from a path to a file of noise; formats are found out, bits repeat, mistakes are one line."""

from __future__ import annotations

import re
import sys
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from harness import Checkout
from loading import program
from safetensors.torch import save_file
from torch import Tensor
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from poisonlab import FriendlyDataset, friendly_noise, load_noise
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.models.lenet import LeNet
from poisonlab.config.protection import Protection
from poisonlab.config.recipes import NamedRecipe
from poisonlab.data.source_at import source_at
from poisonlab.data.sources import load_dataset
from poisonlab.defenses import friendly_noise as making
from poisonlab.errors import DataError, DataWarning, PoisonlabError, SettingsError
from poisonlab.evaluation.fitting import has_learned
from poisonlab.models.networks import build_network
from poisonlab.models.own_network import load_own
from poisonlab.pipelines.protection import protect
from poisonlab.pipelines.reading import read_images
from poisonlab.provenance import ROOT
from poisonlab.scanning.features import has_test_split
from poisonlab.training import loop
from poisonlab.training.checkpoint import Checkpoint

QUICK: dict[str, Any] = {
    "model": {"name": "lenet"},
    "recipe": {"epochs": 2, "batch_size": 8, "schedule": "linear", "lr": 0.05},
    "friendly": {"def_epoch": 1, "steps": 3, "zeta": 12},
    "seed": 3,
}


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randint(0, 256, (24, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@pytest.fixture(scope="module")
def folder(images: Tensor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders without splits, in two orders: 2 before 10, and as text 10 before 2."""
    place = tmp_path_factory.mktemp("photos") / "photos"
    for row, image in enumerate(images):
        path = place / ("2", "10")[row % 2] / f"{row:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        v2.functional.to_pil_image(image).save(path)
    return place


def test_a_folder_becomes_noise_that_torchvision_s_dataset_finds_by_name(
    folder: Path, images: Tensor, tmp_path: Path
) -> None:
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(QUICK), "utf-8")
    outs = [tmp_path / "first.safetensors", tmp_path / "second.safetensors"]
    for out in outs:
        paths = ("--data", str(folder), "--configfile", str(tmp_path / "quick.yaml"), "--out", str(out))
        done = Checkout(ROOT).script("protect", "--device", "cpu", "--threads", "1", *paths)
        assert done.code == 0, done.output
        assert "24 images of 3 x 32 x 32, 2 classes (image-folder)" in done.output
        assert "levels on average" in done.output
        # Three steps fit no random images.
        assert "so that its noise says little: raise friendly.def_epoch, and recipe.epochs with it" in done.output
        assert "100%" in done.output  # of the progress
    assert outs[0].read_bytes() == outs[1].read_bytes()
    found = load_noise(outs[0])
    # A network that learned nothing is said so: its noise is no friend of anything.
    assert ("of the images their label" in done.output) == (found.facts["fitted"] < 0.6)
    assert found.names[:2] == ("2/00.png", "2/02.png")
    assert found.names[-1] == "10/23.png"
    assert found.facts["class_names"] == ["2", "10"]
    assert found.facts["mean_levels"] == pytest.approx(float(found.values.float().abs().mean()) * 255, abs=0.02)
    assert 0 < float(found.values.abs().max()) * 255 <= 12.01
    plain = ImageFolder(str(folder), v2.ToImage())
    made = FriendlyDataset(plain, outs[0])
    assert plain.classes == ["10", "2"]
    for place, (path, label) in enumerate(plain.samples):
        row = found.names.index("/".join(Path(path).parts[-2:]))
        wanted = (images[int(Path(path).stem)] / 255 + found.values[row].float()).clamp(0, 1)
        assert torch.equal(made[place][0], wanted)
        assert made[place][1] == label
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.safetensors", "quick.yaml", "second.safetensors"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "a",
            "def make(): return 1 / 0",
            r"ownfaulta:make\(\) raises ZeroDivisionError \(division by zero\): correct it",
        ),
        ("b", "1 / 0", "importing ownfaultb raises ZeroDivisionError"),
        ("c", "made = None", "ownfaultc:make cannot be imported .*: correct it, or PYTHONPATH"),
        ("d", "def make(): return 3", "returns a int: it must return a torch.nn.Module"),
        (
            "e",
            "import torch\ndef make(): return torch.nn.Linear(5, 2)",
            r"ownfaulte:make fails on an image of 3 x 4 x 4: RuntimeError \(.*mat1 and mat2",
        ),
        (
            "f",
            "import torch\n"
            "class Net(torch.nn.Linear):\n    def forward(self, x): return {'logits': x}\n"
            "def make(): return Net(5, 2)",
            "ownfaultf:make gives no logits of shape",
        ),
        (
            "g",
            "import torch\n"
            "class Net(torch.nn.Linear):\n    def forward(self, x): return super().forward(x.flatten(1)[:, :5])\n"
            "def make(): return Net(5, 2)",
            "ownfaultg:make gives 2 logits, but the data have 3 classes: take a network for these classes",
        ),
    ],
)
def test_a_fault_in_a_given_network_is_one_line(
    name: str, text: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / f"ownfault{name}.py").write_text(text, "utf-8")
    save_file(torch.nn.Linear(5, 2).state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(SettingsError, match=words) as caught:
        load_own(f"ownfault{name}:make", tmp_path / "w.safetensors", (3, 4, 4), 3, torch.device("cpu"))
    assert "\n" not in str(caught.value)


def test_a_given_network_makes_its_own_noise(folder: Path, tmp_path: Path) -> None:
    own = "import torch\ndef make():\n    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))\n"
    (tmp_path / "ownnetwork.py").write_text(own, "utf-8")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3072, 2))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    settings = Protection(
        network="ownnetwork:make", weights=str(tmp_path / "w.safetensors"), friendly=FriendlyNoise(steps=3), seed=5
    )
    dataset, _ = read_images(source_at(folder))
    sys.path.insert(0, str(tmp_path))
    try:
        made, facts = protect(dataset, settings)
    finally:
        sys.path.remove(str(tmp_path))
    assert torch.equal(made, friendly_noise(network, dataset.train_images, FriendlyNoise(steps=3), seed=5))
    clean = network(dataset.train_images / 255).argmax(1)
    noisy = network((dataset.train_images / 255 + made).clamp(0, 1)).argmax(1)
    assert facts["unchanged"] == pytest.approx(float((clean == noisy).float().mean()), abs=1e-4)
    assert facts["fitted"] == pytest.approx(float((clean == dataset.train_labels).float().mean()), abs=1e-4)
    save_file({"0.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(DataError, match="another architecture"):
        protect(dataset, Protection(weights=settings.weights))
    (tmp_path / "w.safetensors").write_bytes(b"PK")
    with pytest.raises(DataError, match="no intact safetensors file"):
        protect(dataset, Protection(weights=settings.weights))


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.mark.parametrize(
    ("files", "named", "source"),
    [
        (["a.npz"], "a.npz", "npz"),
        (["a.parquet"], "a.parquet", "parquet"),
        (["a.tar"], "a.tar", "webdataset"),
        (["t.zip"], "t.zip", "tiny-imagenet"),
        (["d/train-0.parquet", "d/test-0.parquet"], "d", "parquet"),
        (["d/train-0.tar"], "d", "webdataset"),
        (["d/train_32x32.mat", "d/test_32x32.mat"], "d", "svhn"),
        (["d/train-images-idx3-ubyte.gz"], "d", "idx"),
        (["d/cifar-10-batches-py/data_batch_1"], "d", "cifar10"),
        (["d/cifar-10-batches-py/data_batch_1"], "d/cifar-10-batches-py", "cifar10"),
        (["d/cifar-100-python/train"], "d", "cifar100"),
        (["d/wnids.txt", "d/train/n1/images/a.JPEG"], "d", "tiny-imagenet"),
        (["d/train/cat/a.png", "d/val/cat/a.png"], "d", "image-folder"),
        (["d/cat/a.png"], "d", "image-folder"),
    ],
)
def test_formats_are_found_out(files: list[str], named: str, source: str, tmp_path: Path) -> None:
    for file in files:
        touch(tmp_path / file)
    found = source_at(tmp_path / named)
    assert found.source == source
    if source.startswith("cifar"):
        assert found.told()["root"] == str(tmp_path / "d")


def test_a_split_folder_counts_where_there_is_one(folder: Path, images: Tensor, tmp_path: Path) -> None:
    (tmp_path / "train").symlink_to(folder)
    dataset, names = read_images(source_at(tmp_path))
    assert torch.equal(dataset.train_images, torch.cat([images[::2], images[1::2]]))
    assert dataset.train_labels.tolist() == [0] * 12 + [1] * 12
    assert names[12] == "10/01.png"


def test_noise_is_made_for_the_pixels_that_torchvision_gives(folder: Path) -> None:
    settings = source_at(folder).model_copy(update={"size": 20})
    dataset, names = read_images(settings)
    theirs = ImageFolder(str(folder), v2.Compose([v2.Resize((20, 20)), v2.ToImage()]))
    for (path, _), (image, _) in zip(theirs.samples, theirs, strict=True):
        assert torch.equal(image, dataset.train_images[names.index("/".join(Path(path).parts[-2:]))])


def test_an_archive_s_noise_is_by_row(images: Tensor, tmp_path: Path) -> None:
    labels = np.arange(24) % 3
    arrays = {"x_train": images.numpy(), "y_train": labels, "x_test": images.numpy()[:3], "y_test": labels[:3]}
    np.savez(tmp_path / "a.npz", **arrays)
    dataset, names = read_images(source_at(tmp_path / "a.npz"))
    assert names == ()
    assert torch.equal(dataset.train_images, images)


def test_an_interrupted_call_goes_on_and_ends_in_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call dies right after its first save, until none is left to make."""
    # Three passes; the network has batch norm, whose statistics must be saved, too.
    monkeypatch.setattr(making, "images_at_once", lambda images, most=0: 10)
    done: list[str] = []
    for place, name in ((loop._Training, "epoch"), (making, "_optimise")):
        original = getattr(place, name)
        monkeypatch.setattr(place, name, lambda *args, _o=original, _n=name: (done.append(_n), _o(*args))[1])
    friendly = {**QUICK["friendly"], "def_epoch": 2}
    settings = {**QUICK, "model": {"name": "small-resnet", "width": 4}, "friendly": friendly}
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings), "utf-8")

    def call(out: str, *arguments: str) -> None:
        whole = ["--data", str(folder), "--configfile", str(tmp_path / "s.yaml"), "--out", str(tmp_path / out)]
        program("protect").main(["--device", "cpu", "--threads", "1", *whole, *arguments])

    call("whole.safetensors")
    assert done == ["epoch"] * 2 + ["_optimise"] * 3
    done.clear()
    save, deaths = Checkpoint.save, 0

    def dying(self: Checkpoint, *args: Any) -> None:
        save(self, *args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "save", dying)
        while not (tmp_path / "killed.safetensors").exists():
            try:
                call("killed.safetensors", "--checkpoint-seconds", "0")
            except KeyboardInterrupt:
                deaths += 1
            assert deaths < 9
    # After the first epoch, after the training, and after each pass; nothing is done twice.
    assert deaths == 5
    assert done == ["epoch"] * 2 + ["_optimise"] * 3
    assert (tmp_path / "killed.safetensors").read_bytes() == (tmp_path / "whole.safetensors").read_bytes()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"s.yaml", "whole.safetensors", "killed.safetensors"}


@pytest.mark.parametrize("changed", ["images", "mean"])
def test_a_save_of_other_inputs_is_ignored(
    changed: str, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(out: str, changed: str, *arguments: str) -> bytes:
        labels = np.arange(24) % 3
        shown = (255 - images if changed == "images" else images).numpy()
        arrays = {"x_train": shown, "y_train": labels, "x_test": images.numpy()[:3], "y_test": labels[:3]}
        np.savez(tmp_path / "a.npz", **arrays)
        dataset = {"source": "npz", "path": str(tmp_path / "a.npz"), "mean": [0.2 if changed == "mean" else 0.5] * 3}
        (tmp_path / "s.yaml").write_text(yaml.safe_dump({**QUICK, "dataset": dataset}), "utf-8")
        whole = ["--configfile", str(tmp_path / "s.yaml"), "--out", str(tmp_path / out)]
        program("protect").main(["--device", "cpu", "--threads", "1", *whole, *arguments])
        return (tmp_path / out).read_bytes()

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(making, "_optimise", die)
    with pytest.raises(KeyboardInterrupt):
        call("other.safetensors", "nothing", "--checkpoint-seconds", "0")
    monkeypatch.undo()
    assert (tmp_path / "other.unfinished.trained.safetensors").exists()
    assert call("other.safetensors", changed) == call("fresh.safetensors", changed)
    assert not list(tmp_path.glob("*unfinished*"))


def test_a_file_that_is_read_for_its_training_images_alone_warns_of_no_test(images: Tensor, tmp_path: Path) -> None:
    rows = [{"image": {"bytes": image_bytes(image)}, "label": row % 2} for row, image in enumerate(images[:4])]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset, _ = read_images(source_at(tmp_path / "a.parquet"))
    assert torch.equal(dataset.train_images, images[:4])


@pytest.mark.parametrize(
    ("names", "alone"),
    [
        (("x", "y"), True),
        (("x_train", "y_train"), True),
        (("test_images", "test_fine_labels"), True),
        (("Data", "Labels"), True),
        (("x_train", "y_test"), False),
        (("x", "y", "labels"), False),
        (("x", "y", "x_test", "y_test"), False),
        (("arr_0", "arr_1"), False),
    ],
)
def test_an_archive_of_one_split_is_both(names: tuple[str, ...], alone: bool, images: Tensor, tmp_path: Path) -> None:
    labels = torch.arange(24) % 3
    pictures = ("x", "data", "test_images", "x_train", "x_test", "arr_0")
    arrays = {name: images.numpy() if name.lower() in pictures else labels.numpy() for name in names}
    np.savez(tmp_path / "a.npz", **arrays)
    settings = source_at(tmp_path / "a.npz")
    if not alone:
        with pytest.raises(DataError, match="it needs x_train, y_train, x_test, y_test"):
            load_dataset(settings)
        return
    assert settings.told()["arrays"] == [*names, *names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset, _ = read_images(settings)
    assert torch.equal(dataset.train_images, images)
    assert torch.equal(dataset.train_labels, labels)
    with pytest.warns(DataWarning, match=f"{names[0]} is an array of both splits"):
        assert not has_test_split(load_dataset(settings))


def test_a_damaged_archive_is_left_to_its_reader(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"a\.npz is damaged or not an .npz archive"):
        read_images(source_at(tmp_path / "a.npz"))


def image_bytes(image: Tensor) -> bytes:
    file = BytesIO()
    v2.functional.to_pil_image(image).save(file, "PNG")
    return file.getvalue()


MISTAKES: tuple[tuple[list[str], str, str], ...] = (
    (["--data", "none"], "", "none is missing"),
    ([], "", "name the images once"),
    (["--configfile", "s.yaml"], "dataset:", "name the images once"),
    (["--data", "photos", "--configfile", "s.yaml"], "dataset: {source: npz, path: a.npz}", "name the images once"),
    (
        ["--configfile", "s.yaml"],
        "dataset: {source: parquet, train: a}",
        "s.yaml: 'dataset.test' is missing",
    ),
    (
        ["--data", "photos", "--configfile", "s.yaml"],
        "modle: red",
        "s.yaml: unknown key 'modle' (did you mean 'model'?)",
    ),
    (["--data", "photos", "--configfile", "s.yaml"], "random: {mu: 0.06}", "random.mu: 0.06 is less than one level"),
    (["--configfile", "s.yaml"], "{data: photos, size: big}", "s.yaml: dataset.size: Input should be a valid integer"),
    (["--data", "photos", "--threads", "0"], "", "THREADS=0: take 1 or more"),
    (["--data", "photos", "--threads", "two"], "", "THREADS=two: give a whole number"),
    (["--data", "photos", "--size", "abc"], "", "SIZE=abc: give a whole number"),
    (["--data", "photos", "--configfile", "s.yaml"], "friendly: {def_epoch: 9}", "def_epoch is 9: choose 1 to"),
    (["--data", "photos", "--configfile", "s.yaml"], "network: a:b", "network needs weights"),
    (
        ["--data", "photos", "--configfile", "s.yaml"],
        "{network: a:b, weights: w.safetensors, model: {name: resnet18}}",
        "network takes the place of model, which would not be used: leave it out",
    ),
    (
        ["--configfile", "s.yaml"],
        "dataset: {source: set-apart, of: {source: cifar10, train_limit: 9}}",
        "dataset.train_limit leaves images without noise",
    ),
    (["--data", "photos", "--configfile", "s.yaml"], "[1, 2]", "must hold keys and values"),
    (["--data", "photos", "--configfile", "s.yaml"], "seed: 1\nseed: 2", "is given twice"),
    (["--data", "photos", "--configfile", "none.yaml"], "", "none.yaml is missing"),
    (["--data", "a.txt"], "", "not a dataset that its path identifies"),
    (["--data", "empty"], "", "no class folders with images"),
)


@pytest.mark.parametrize(("arguments", "text", "message"), MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(
    arguments: list[str],
    text: str,
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "photos").symlink_to(folder)
    (tmp_path / "empty").mkdir()
    touch(tmp_path / "a.txt")
    if text:
        (tmp_path / "s.yaml").write_text(text, "utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PoisonlabError) as caught:
        program("protect").main(["--device", "cpu", "--threads", "1", *arguments, "--out", "made/noise.safetensors"])
    assert message in str(caught.value)
    assert not (tmp_path / "made").exists()


def test_a_place_that_cannot_be_written_is_named_before_anything_is_computed(folder: Path, tmp_path: Path) -> None:
    touch(tmp_path / "file")
    for out, message in (
        ("file/noise.safetensors", "file cannot be written"),
        (".", "is a folder: name the file"),
        ("noise.npz", r"noise\.npz must end in \.safetensors"),
        ("noise", r"noise must end in \.safetensors"),
    ):
        with pytest.raises(PoisonlabError, match=message):
            program("protect").main(["--data", str(folder), "--out", str(tmp_path / out)])


def test_images_may_be_named_in_the_settings_as_in_those_of_a_scan(folder: Path, tmp_path: Path) -> None:
    settings = tmp_path / "s.yaml"
    settings.write_text(f"{{data: '{folder}', size: 16}}", "utf-8")
    read = program("protect")._settings
    assert read(settings, None, None) == read(None, str(folder), 16)
    assert read(settings, None, 32) == read(None, str(folder), 32)
    settings.write_text(f"{{data: '{folder}', class_order: text}}", "utf-8")
    assert read(settings, None, None).dataset.class_order == "text"


@pytest.mark.parametrize(("order", "told"), [(None, "set class_order: text"), ("text", "set class_order: natural")])
def test_weights_that_do_not_fit_may_be_of_another_order_of_the_classes(
    order: str | None, told: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = sorted(("2", "10"), key=int if order is None else None)
    dataset, files = read_images(source_at(folder).model_copy(update={"class_order": order or "natural"}))
    assert dataset.class_names == tuple(names)
    assert [file.split("/")[0] for file in files] == [names[label] for label in dataset.train_labels]
    network = build_network(LeNet(), dataset, seed=0)
    network.head.bias.data = torch.tensor([0.0, 1000.0])
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    settings = {
        **QUICK,
        "weights": str(tmp_path / "w.safetensors"),
        **({} if order is None else {"class_order": order}),
    }
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    arguments = [
        "--data",
        str(folder),
        "--configfile",
        str(tmp_path / "s.yaml"),
        "--out",
        str(tmp_path / "n.safetensors"),
    ]
    program("protect").main(["--device", "cpu", "--threads", "1", *arguments])
    assert f"give weights that fit them, or {told} if they were trained" in capsys.readouterr().err
    assert load_noise(tmp_path / "n.safetensors").facts["class_names"] == names


@pytest.mark.parametrize(
    ("fitted", "counts", "learned"),
    [
        # By hand: 200 and 100 images, of which the network fits the larger class, or 5 points more, or more than that.
        (200 / 300, (200, 100), False),
        (215 / 300, (200, 100), False),
        (216 / 300, (200, 100), True),
        (0.59, (10, 10, 10), False),
        (0.6, (10, 10, 10), True),
        # Two images of another class among a hundred: one of them is not enough, both are.
        (0.99, (98, 2), False),
        (1.0, (98, 2), True),
    ],
)
def test_a_network_must_fit_more_than_the_largest_class(fitted: float, counts: tuple[int, ...], learned: bool) -> None:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert has_learned(fitted, labels) == learned


def test_a_network_that_always_names_the_larger_class_is_told_of(
    images: Tensor, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = (torch.arange(24) < 8).long()
    arrays = {"x_train": images.numpy(), "y_train": labels.numpy(), "x_test": images.numpy(), "y_test": labels.numpy()}
    np.savez(tmp_path / "a.npz", **arrays)
    network = build_network(LeNet(), read_images(source_at(tmp_path / "a.npz"))[0], seed=0)
    network.head.bias.data = torch.tensor([1000.0, 0])
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "s.yaml").write_text(yaml.safe_dump({**QUICK, "weights": str(tmp_path / "w.safetensors")}), "utf-8")
    paths = {"data": "a.npz", "configfile": "s.yaml", "out": "n.safetensors"}
    told = [part for option, path in paths.items() for part in (f"--{option}", str(tmp_path / path))]
    program("protect").main(["--device", "cpu", "--threads", "1", *told])
    warned = "gives only 67% of the images their label, and the largest class has 67%"
    assert warned in capsys.readouterr().err


def test_files_that_get_no_noise_are_counted(images: Tensor, tmp_path: Path) -> None:
    for name in ("cat", "dog", "cat/more"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(image_bytes(images[0]))
    for other in ("dog/2.heic", "README.md", ".hidden.png"):
        touch(tmp_path / other)
    with pytest.warns(DataWarning, match=r"no noise is made for 1 \.png in cat/more, 1 \.heic in dog$"):
        read_images(source_at(tmp_path))


def test_a_recipe_changes_the_keys_that_it_gives() -> None:
    assert Protection.model_validate({"recipe": {"epochs": 20}}).recipe == NamedRecipe(base="fast", epochs=20)
    other = Protection.model_validate({"recipe": {"base": "witches-brew", "lr": 0.05}}).recipe
    assert other == NamedRecipe(base="witches-brew", lr=0.05)


def test_the_settings_on_the_page_are_settings() -> None:
    page = (ROOT / "docs" / "defend-my-pipeline.md").read_text("utf-8")
    blocks = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    first, second = (Protection.model_validate(yaml.safe_load(block)) for block in blocks)
    assert (
        first.model_copy(update={"dataset": None, "model": Protection().model, "recipe": Protection().recipe})
        == Protection()
    )
    assert second.network == "my_module:make_network"
    keys = set(re.findall(r"^(\w+):", "".join(blocks), re.MULTILINE))
    assert keys == set(Protection.model_fields)
