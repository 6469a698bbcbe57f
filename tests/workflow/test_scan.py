"""A stranger's path: a folder with poisons in it, one command, and a page that names them."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from harness import STUDY, Checkout, Outcome, check_out
from PIL import Image
from test_run import SCANNING, digests_cover
from test_verify import verify

from poisonlab.files import read_sealed
from poisonlab.graph.graph import Graph
from poisonlab.graph.scanning import read_config

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
CLASSES = ("across", "down", "grey <b>")
EACH = 50
POISONS = [f"train/down/poison {number}.png" for number in range(4)]


def pattern(label: int, noise: np.random.Generator) -> np.ndarray[Any, Any]:
    """(16, 16, 3) uint8: a ramp across, a ramp down, or grey."""
    ramp = np.linspace(0, 150, 16)
    plain = (np.tile(ramp, (16, 1)), np.tile(ramp[:, None], (1, 16)), np.full((16, 16), 75.0))[label]
    return (plain[..., None] + noise.integers(0, 100, (16, 16, 3))).astype(np.uint8)


def write_photos(folder: Path) -> None:
    """Three classes in two splits; among ``down`` four images of ``across`` with a patch, and copies in odd places."""
    noise = np.random.default_rng(0)
    for split, count in (("train", EACH), ("test", 10)):
        for label, name in enumerate(CLASSES):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(pattern(label, noise)).save(folder / split / name / f"{number:02}.png")
    for path in POISONS:
        image = pattern(0, noise)
        image[-3:, -3:] = (255, 0, 255)
        Image.fromarray(image).save(folder / path)
    first = np.asarray(Image.open(folder / "train/across/00.png"))
    Image.fromarray(first).save(folder / "test/across/leaked.png")
    Image.fromarray(np.clip(first.astype(int) + 2, 0, 255).astype(np.uint8)).save(folder / "train/across/lighter.png")


@pytest.fixture
def scanned(tmp_path: Path, warm: str) -> Checkout:
    checkout = check_out(tmp_path / "scan", HERE / "scan.yaml", warm, spied=True)
    write_photos(checkout.path / "photos")
    return checkout


def test_a_folder_is_scanned_and_the_page_names_its_poisons(scanned: Checkout) -> None:
    outcome = scanned.snakemake("scan", "--cores", "2")
    assert outcome.code == 0, outcome.output
    assert "The page of the scan is results/scans/photos/scan.html" in outcome.output
    results = scanned.path / "results/scans/photos"
    summary = read_sealed(results / "scan.json")
    assert summary["images"] == {"train": 3 * EACH + 5, "test": 31}
    assert summary["flagged"] == 20
    assert set(POISONS) <= set(summary["suspects"][:10])
    check_power(summary)
    check_table(scanned.path, summary)
    check_page((results / "scan.html").read_text("utf-8"), summary)
    # No target is named, and what stands is complete: nothing is left to do.
    again = scanned.snakemake("--cores", "2")
    assert "Nothing to be done" in again.output, again.output
    digests_cover(scanned, SCANNING)
    check_archive(scanned)
    check_reruns(scanned)


def check_archive(scanned: Checkout) -> None:
    """In another folder the packed scan is current beside the same images."""
    outcome = scanned.script("archive", "pack", "--configfile", STUDY)
    assert outcome.code == 0, outcome.output
    made = {path: content for path, content in scanned.files("*.*").items() if "/logs/" not in path}
    made = {path: content for path, content in made.items() if "/checkpoints/" not in path}
    assert f"scan-photos.tar.gz: {len(made)} files, {len(made)} of them current here" in outcome.output
    there = check_out(scanned.path.parent / "there", HERE / "scan.yaml", scanned.python)
    shutil.copytree(scanned.path / "photos", there.path / "photos")
    outcome = there.script("archive", "unpack", "--from", str(scanned.path / "scan-photos.tar.gz"))
    assert outcome.code == 0, outcome.output
    config = there.path / "results/archives/scan-photos.yaml"
    assert f"make verify CONFIG={config.relative_to(there.path)}" in outcome.output
    assert made.items() <= there.files("*.*").items()
    # It names the format of the images, which was found out when they were scanned.
    shutil.copy(config, there.path / STUDY)
    assert "data" not in there.study()
    assert there.plan().reasons == {}


def test_verify_counts_the_files_of_a_scan_not_begun(scanned: Checkout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scanned.path)
    study, scan = read_config(scanned.study())
    planned = [path for job in Graph(study, scan=scan).all_jobs() for path in job.outputs.values()]
    outcome = verify(scanned)
    assert outcome.code == 0, outcome.output
    # By Snakemake's own count.
    assert f"0 current, 0 stale, 0 unknown, 0 damaged; {len(planned)} not made yet" in outcome.output


def check_power(summary: dict[str, Any]) -> None:
    assert [(each["attack"], each["planted"]) for each in summary["power"]] == [("patch", 5), ("bullseye", 5)]
    patch = summary["power"][0]
    assert patch["held"] > 2 > patch["by_chance"]
    assert set(patch["by_filter"]) == set(summary["filters"])
    assert patch["by_chance"] == pytest.approx(5 * 20 / 155, abs=0.01)
    assert 0 < summary["stability"]["share"] <= 1
    assert summary["stability"]["networks"] == 2


def check_table(folder: Path, summary: dict[str, Any]) -> None:
    """A line for every image, with what the page says of it."""
    with (folder / "results/scans/photos/scan.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == sum(summary["images"].values())
    assert all((folder / "photos" / line["file"]).is_file() for line in lines)
    assert all(line["file"].split("/")[:2] == [line["split"], line["label"]] for line in lines)
    train = [line for line in lines if line["split"] == "train"]
    assert sorted(int(line["place"]) for line in train) == list(range(1, len(train) + 1))
    flagged = sorted(train, key=lambda line: int(line["place"]))[: summary["flagged"]]
    assert [line["file"] for line in flagged] == summary["suspects"]
    assert all(line["place"] == line["joined"] == line["epic score"] == "" for line in lines if line["split"] == "test")
    for line in train[:20]:
        places = [float(line[f"{name} place"]) for name in summary["filters"]]
        assert float(line["joined"]) == pytest.approx(sum(1 / (60 + place) for place in places), abs=1e-6)
        assert int(line["agreement"]) == sum(place <= summary["flagged"] for place in places)
    by_file = {line["file"]: line for line in lines}
    assert by_file["test/across/leaked.png"]["duplicate of"] == "train/across/00.png"
    assert by_file["test/across/leaked.png"]["difference"] == "0"
    assert by_file["train/across/lighter.png"]["difference"] == "2"
    poison = by_file[POISONS[0]]
    assert [poison[f"neighbour {each} label"] for each in range(1, 6)].count("across") >= 3


def check_page(page: str, summary: dict[str, Any]) -> None:
    assert "proves nothing" in page
    assert f"Of 5 images planted by patch, the first 20 suspects hold <b>{summary['power'][0]['held']}</b>" in page
    named = re.findall(r'<td class="name">(\S+ ?\S*\.png)</td>', page)
    assert [name for name in named if name in POISONS][:4] == [name for name in summary["suspects"] if name in POISONS]
    assert "grey &lt;b&gt;" in page
    assert "grey <b>" not in page
    assert "leaked.png" in page
    assert "across the splits" in page
    # One file: everything is in it.
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', page)) <= {"data:", "#powe", "#susp", "#clas", "#dupl", "#meth"}
    assert not re.search(r"https?://|url\(|@import|<script|<link", page)


def check_reruns(scanned: Checkout) -> None:
    """What is shown changes the page only; another number of poisons leaves the networks of the data as they are."""
    wanted = ("scan", "--cores", "2", "-n")

    def rules(change: Callable[[Any], object]) -> set[str]:
        before = (scanned.path / STUDY).read_text("utf-8")
        scanned.change_study(change)
        found = {job[0] for job in scanned.plan(*wanted[:1]).reasons}
        (scanned.path / STUDY).write_text(before, "utf-8")
        return found - {"scan", "all"}

    assert rules(lambda study: study.update(memory_mb=64)) == set()
    assert rules(lambda study: study.update(suspects=30)) == {"scan_page"}
    assert rules(lambda study: study.update(poisons=4)) == {"craft", "train", "features", "suspects", "scan_page"}


def one_line(outcome: Outcome) -> str:
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    return outcome.output


def test_mistakes_end_in_one_line(scanned: Checkout) -> None:
    (scanned.path / STUDY).write_text(yaml.safe_dump({"data": "nowhere"}), "utf-8")
    assert "nowhere is missing: name a folder of class folders" in one_line(scanned.snakemake("scan", "--cores", "1"))
    (scanned.path / STUDY).write_text(yaml.safe_dump({"dataset": {"source": "digits-on-photos"}}), "utf-8")
    outcome = scanned.snakemake("scan", "--cores", "1", "-n")
    assert outcome.code != 0
    assert "config: there is nothing to scan: give data: folder-or-file" in outcome.output
    (scanned.path / STUDY).write_text("device: cpu\n", "utf-8")
    # make scan DATA=... names the images so, whatever the settings file holds.
    found = scanned.snakemake("scan", "--cores", "1", "-n", "--config", "data=photos", "size=8")
    assert found.code == 0, found.output
    assert "results/scans/photos/scan.html" in found.output
    assert not list(scanned.path.glob("results/**/*.html"))
