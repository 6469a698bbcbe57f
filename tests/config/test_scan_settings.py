"""What a scan's config may say; a mistake is one line that names the key and the cure."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from poisonlab.config.recipes import NamedRecipe
from poisonlab.errors import PoisonlabError
from poisonlab.graph.graph import Graph
from poisonlab.graph.scanning import scan_from
from poisonlab.scanning.amounts import usual_poisons, usual_suspects

DIGITS = {"source": "digits-on-photos"}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "My Photos" / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "My Photos" / name / "1.png")
    return tmp_path / "My Photos"


def test_a_path_is_enough(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    photos = photos.rename("photos").absolute()
    scan = scan_from({"data": str(photos), "size": 32})
    assert scan.scan == "photos"
    assert scan.dataset.told()["root"] == str(photos)
    assert scan.dataset.told()["splits"] is False
    assert scan.dataset.told()["size"] == 32
    study = scan.study()
    assert study.results == "results/scans/photos"
    assert study.seeds == (0, 1)


def test_a_path_takes_the_order_of_its_classes(photos: Path) -> None:
    told = {
        order: scan_from({"data": str(photos), "class_order": order}).dataset.told() for order in ("natural", "text")
    }
    assert told["text"] == {**told["natural"], "class_order": "text"}


def test_folders_of_one_name_elsewhere_are_other_scans(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (photos.parent / "other").mkdir()
    monkeypatch.chdir(photos.parent / "other")
    shutil.copytree(photos, "photos")
    elsewhere = photos.rename(photos.parent / "photos")
    assert scan_from({"data": "photos"}).scan == "photos"
    assert re.fullmatch(".+-photos", scan_from({"data": "../photos"}).scan)
    assert re.fullmatch(".+-photos", scan_from({"data": str(elsewhere)}).scan)
    monkeypatch.chdir("photos")
    assert re.fullmatch(".+-photos", scan_from({"data": "."}).scan)


def test_folders_whose_names_lose_a_letter_are_other_scans(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    alike = ("my photos", "my_photos", "my-photos", "my/photos", "photos-1", "photos (1)", "photos/1", ".photos/1")
    for folder in alike:
        shutil.copytree(photos, folder)
    names = {folder: scan_from({"data": folder}).scan for folder in ("My Photos", *alike)}
    assert len(set(names.values())) == len(names)
    assert {folder: name for folder, name in names.items() if name in ("my-photos", "photos-1")} == {
        "my/photos": "my-photos",
        "photos/1": "photos-1",
    }


def test_folders_whose_names_a_scan_cannot_have_are_told_apart(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    folders = (
        "кошки",
        "собаки",
        "猫/train",
        "犬/train",
        f"{'long' * 20}/a/{'long' * 20}",
        f"{'long' * 20}/b/{'long' * 20}",
    )
    for folder in folders:
        shutil.copytree(photos, folder)
    names = [scan_from({"data": folder}).scan for folder in folders]
    assert len(set(names)) == len(folders)
    assert names == [scan_from({"data": f"./{folder}/"}).scan for folder in folders]


def test_given_keys_of_a_recipe_leave_the_others_as_in_fast() -> None:
    scan = scan_from({"scan": "a", "dataset": DIGITS, "recipe": {"epochs": 20}})
    assert scan.recipe == NamedRecipe.model_validate({"base": "fast", "evaluate_every": 8, "epochs": 20})


def test_own_weights_train_nothing() -> None:
    scan = scan_from({"scan": "a", "dataset": DIGITS, "weights": "mine.safetensors"})
    graph = Graph(scan.study(), ".", scan)
    stages, waiting = set(), graph.scanned()[:1]
    made = {path: job for job in _every(graph) for path in job.outputs.values()}
    while waiting:
        job = made[waiting.pop()]
        stages.add((job.stage, job.program))
        waiting += [path for paths in job.inputs.values() for path in paths if path in made]
    assert ("pretrain", "adopt.py") in stages
    assert "train" not in {stage for stage, _ in stages}


def test_weights_that_are_not_there_are_one_line() -> None:
    scan = scan_from({"scan": "a", "dataset": DIGITS, "weights": "nope.safetensors"})
    with pytest.raises(PoisonlabError, match=r"weights: there is no file nope\.safetensors: check the path"):
        Graph(scan.study(), str(Path(__file__).parents[2]), scan).check()


def test_another_version_of_ones_own_network_is_another_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its weights may be the same while its function builds another network around them."""
    module, weights = tmp_path / "scannedinversions.py", tmp_path / "w.safetensors"
    monkeypatch.syspath_prepend(tmp_path)
    own = {"weights": str(weights), "network": "scannedinversions:make"}
    scan = scan_from({"scan": "a", "dataset": DIGITS, **own})

    def code() -> list[str]:
        graph = Graph(scan.study(), ".", scan)
        return graph.code(graph.job("features", {"scanned": "own-0"}))

    found = []
    for text, trained in (("make = None", "1"), ("make = print", "1"), ("make = print", "2")):
        module.write_text(text, "utf-8")
        weights.write_text(trained, "utf-8")
        found.append(code())
    assert len({tuple(each) for each in found}) == 3
    assert code() == found[-1]


def _every(graph: Graph) -> list[Any]:
    scanning = graph.scanning
    assert scanning is not None
    names = [*scanning.own, *scanning.planted]
    return [
        graph.job("dataset"),
        scanning.pretrain("network", 0, 0),
        *(scanning.craft(attack.name, 0) for attack in scanning.scan.attacks),
        *(scanning.train(attack.name, "network", "none", 0) for attack in scanning.scan.attacks),
        *(made(name) for name in names for made in (scanning.features, scanning.suspects)),
        scanning.neighbours(),
        scanning.page(),
    ]


def test_how_jobs_run_is_no_setting_of_theirs() -> None:
    """Memory and cores change no result, so changing them reruns nothing."""
    few, many = (
        _every(Graph(scan.study(), ".", scan))
        for scan in (
            scan_from({"scan": "a", "dataset": DIGITS, "memory_mb": memory, "threads": threads})
            for memory, threads in ((64, 1), (4096, 8))
        )
    )
    assert [job.settings for job in few] == [job.settings for job in many]
    assert [job.depends for job in few] == [job.depends for job in many]


def test_a_folder_that_may_not_be_read_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(PoisonlabError, match="My Photos cannot be read: Permission denied"):
        scan_from({"data": str(photos)})


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("br{ace}s", "data: a path must not hold braces, which Snakemake takes for its own: rename the file or folder"),
        ("a\nb", "data: a path must not hold line breaks"),
        ("a/" * 300, "data: String should have at most 500 characters"),
        ("a" * 300, "cannot be read: File name too long"),
    ],
)
def test_a_path_that_settings_refuse_is_one_line(
    folder: str, message: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    if len(folder) < 10:
        shutil.copytree(photos, folder)
    with pytest.raises(PoisonlabError, match=message) as caught:
        scan_from({"data": folder})
    assert "\n" not in str(caught.value)


def test_a_folder_that_begins_with_a_dash_is_no_option(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(photos.parent)
    shutil.copytree(photos, "-photos")
    assert scan_from({"data": "-photos"}) == scan_from({"data": "./-photos"})
    assert scan_from({"data": "-photos"}).dataset.told()["root"] == str(photos.parent / "-photos")


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("My Photos/cat", "its images lie side by side. If it is one class of several, name the folder above it"),
        (".", "has no class folders with images, but My Photos has: name that folder"),
        ("empty", "name a .npz, .parquet or .tar file or a folder"),
    ],
)
def test_a_folder_of_another_layout_is_told_what_it_is(
    folder: str, message: str, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photos.parent)
    Path("empty").mkdir()
    with pytest.raises(PoisonlabError) as caught:
        scan_from({"data": folder})
    assert message in str(caught.value)


MISTAKES: tuple[tuple[dict[str, Any], str], ...] = (
    ({}, "name the images once, by data: folder-or-file or by dataset"),
    ({"data": "here", "dataset": DIGITS}, "name the images once"),
    ({"data": "nowhere"}, "nowhere is missing"),
    ({"data": ""}, "name the images once"),
    ({"dataset": DIGITS}, "'scan' is missing"),
    ({"scan": "a", "dataset": {**DIGITS, "train_size": 0}}, "train_size"),
    ({"scan": "a", "dataset": DIGITS, "size": 32}, "size resizes folders of images only"),
    ({"scan": "a", "dataset": DIGITS, "class_order": "text"}, "class_order is for folders of images only"),
    ({"scan": "a", "dataset": DIGITS, "netwroks": 3}, "unknown key 'netwroks' (did you mean 'networks'?)"),
    ({"scan": "a", "dataset": DIGITS, "filters": ["knn"]}, "filters.0"),
    ({"scan": "a", "dataset": DIGITS, "filters": ["epic", "epic"]}, "filters: lists a name twice"),
    ({"scan": "a", "dataset": DIGITS, "results": "../else"}, "results: must be a path below this folder"),
    ({"scan": "a", "dataset": DIGITS, "results": "b/../.."}, "results must not climb out"),
    ({"scan": "a", "dataset": DIGITS, "results": "b/"}, "must be a plain path"),
    ({"scan": "a", "dataset": DIGITS, "results": ""}, "results: must be a path below this folder"),
    ({"scan": "a", "dataset": DIGITS, "weights": "w.safetensors", "networks": 3}, "take one away"),
    ({"scan": "a", "dataset": DIGITS, "network": "mine:make"}, "network needs weights"),
    (
        {"scan": "a", "dataset": {"source": "cifar10", "root": "data", "train_limit": 100}},
        "dataset.train_limit leaves images out of the scan",
    ),
    (
        {"scan": "a", "dataset": {"source": "set-apart", "of": {"source": "cifar10", "train_limit": 100}}},
        "dataset.train_limit leaves images out of the scan",
    ),
    (
        {"scan": "a", "dataset": DIGITS, "attacks": [{"name": "p", "method": "poison-frogs", "surrogate": "base"}]},
        "surrogate 'base' must be called 'network'",
    ),
    (
        {"scan": "a", "dataset": DIGITS, "attacks": [{"name": "p", "method": "imported", "path": "x"}]},
        "has no budget",
    ),
    # What would be passed over in silence.
    (
        {"scan": "a", "dataset": DIGITS, "attacks": [{"name": "p", "method": "badnets", "budget": 0.1}]},
        "attack 'p': budget has no effect in a scan",
    ),
    ({"scan": "a", "dataset": DIGITS, "near": 0.03}, "near: 0.03 is less than one level"),
    # In the words of a config.
    (
        {"scan": "a", "dataset": DIGITS, "model": "resnet18"},
        "model: must hold keys and values, such as {name: resnet18}",
    ),
    ({"scan": "a", "dataset": DIGITS, "recipe": "fast"}, "recipe: must hold keys and values, such as {base: fast}"),
    ({"scan": "a", "dataset": DIGITS, "filters": "epic"}, "filters: must be a list, such as [epic]"),
    ({"scan": "a", "dataset": DIGITS, "recipe": {"epoch": 3}}, "unknown key 'recipe.epoch' (did you mean 'epochs'?)"),
    ({"scan": "a", "dataset": DIGITS, "sise": 3}, "unknown key 'sise' (did you mean 'size'?)"),
    (
        {"scan": "a", "dataset": DIGITS, "attacks": [{"name": "p", "method": "badnets"}] * 2},
        "attacks repeats p",
    ),
)


@pytest.mark.parametrize(("config", "word"), MISTAKES, ids=[word[:30] for _, word in MISTAKES])
def test_mistakes_are_one_line(config: dict[str, Any], word: str) -> None:
    with pytest.raises(PoisonlabError) as caught:
        scan_from(config).study()
    assert word in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("classes", "number"), [([3000, 3000], 25), ([30, 500], 5), ([100, 6], 3), ([1, 1], 1)])
def test_the_usual_number_of_poisons_leaves_small_classes_whole(classes: list[int], number: int) -> None:
    labels = torch.repeat_interleave(torch.arange(2), torch.tensor(classes))
    assert usual_poisons(labels) == number


@pytest.mark.parametrize(("images", "number"), [(5, 5), (300, 20), (2000, 40), (2049, 40), (50_000, 200)])
def test_the_usual_number_of_suspects_is_a_fiftieth_within_bounds(images: int, number: int) -> None:
    assert usual_suspects(images) == number
