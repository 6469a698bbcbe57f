"""workflow/scripts/archive.py: results with their records in another checkout, and what is refused there."""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import requests
from harness import REPOSITORY, STUDY, Checkout, Outcome, check_out
from rocrate.vocabs import RO_CRATE
from rocrate_validator import services
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.utils.http import HttpRequester
from test_invalidation import TABLES, crafts, edited, noise, train
from test_verify import verdicts, verify

pytestmark = pytest.mark.workflow

HERE = Path(__file__).parent
ARCHIVE = "made.tar.gz"


def archive(study: Checkout, *arguments: str) -> Outcome:
    return study.script("archive", *arguments)


def pack(study: Checkout, target: Path) -> Path:
    outcome = archive(study, "pack", "--configfile", STUDY, "--to", str(target))
    assert outcome.code == 0, outcome.output
    return target


@pytest.fixture(scope="module")
def packed(planned: Checkout, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of a finished study."""
    return pack(planned, tmp_path_factory.mktemp("packed") / ARCHIVE)


@pytest.fixture
def elsewhere(planned: Checkout, tmp_path: Path) -> Checkout:
    """Another checkout of the same code, without results; its files are newer than those of the study."""
    return check_out(tmp_path / "elsewhere", HERE / "tiny.yaml", planned.python)


@pytest.fixture
def unpacked(elsewhere: Checkout, packed: Path) -> Checkout:
    """``elsewhere`` with the results."""
    outcome = archive(elsewhere, "unpack", "--from", str(packed))
    assert outcome.code == 0, outcome.output
    return elsewhere


# --- There and back ---


def test_unpacked_results_are_current(unpacked: Checkout, planned: Checkout) -> None:
    assert unpacked.plan().reasons == {}
    own = unpacked.files("*.*")
    config = own.pop("results/archives/tiny.yaml")
    manifest = json.loads(own.pop("results/archives/tiny.json"))
    made = {path: content for path, content in planned.files("*.*").items() if "/logs/" not in path}
    assert own == made
    assert set(manifest["files"]) == set(made)
    # What makes the archive an RO-Crate is not put into a checkout.
    assert {"ro-crate-metadata.json", "workflow/Snakefile"} <= set(manifest["crate"])
    assert not (unpacked.path / "ro-crate-metadata.json").exists()
    # The config says the same without the overlays and options it came from.
    (unpacked.path / STUDY).write_bytes(config)
    outcome = verify(unpacked)
    assert outcome.code == 0, outcome.output
    assert f"{len(made)} current" in outcome.output


def test_the_same_results_give_the_same_archive(planned: Checkout, packed: Path, tmp_path: Path) -> None:
    again = pack(planned, tmp_path / "again.tar.gz")
    assert again.read_bytes() == packed.read_bytes()


def test_what_differs_here_is_stale(unpacked: Checkout) -> None:
    edited("src/poisonlab/defenses/friendly_noise.py")(unpacked)
    assert unpacked.plan().jobs() == noise() | train("friendly", "friends-bernoulli") | TABLES


def test_inputs_from_elsewhere_are_compared_however_old_they_are(planned_scenarios: Checkout, tmp_path: Path) -> None:
    packed = pack(planned_scenarios, tmp_path / ARCHIVE)
    here = check_out(tmp_path / "here", HERE / "scenarios.yaml", planned_scenarios.python)
    image = here.path / "imported/seed0/3.png"
    image.rename(tmp_path / "3.png")
    outcome = archive(here, "unpack", "--from", str(packed))
    assert outcome.code == 0, outcome.output
    assert "not here: imported/seed0/3.png" in outcome.output
    (tmp_path / "3.png").rename(image)
    other = here.path / "imported/seed0/14.png"
    os.utime(other, (1e9, 1e9))
    assert here.plan().reasons == {}
    other.write_text("another image", encoding="utf-8")
    os.utime(other, (1e9, 1e9))
    assert here.plan().direct() >= crafts("moved")


def test_a_result_without_a_record_stays_unknown(copied: Checkout, elsewhere: Checkout, tmp_path: Path) -> None:
    path = "results/victims/tiny/strong/scratch/none/seed0.safetensors"
    (record,) = [
        file
        for file in (copied.path / ".snakemake/metadata").rglob("*")
        if file.is_file() and json.loads(file.read_text(encoding="utf-8")) == copied.record(path)
    ][:1]
    record.unlink()
    outcome = archive(copied, "pack", "--configfile", STUDY, "--to", str(tmp_path / ARCHIVE))
    assert "136 files, 135 of them current here" in outcome.output
    assert archive(elsewhere, "unpack", "--from", str(tmp_path / ARCHIVE)).code == 0
    outcome = verify(elsewhere)
    assert outcome.code == 2
    found = verdicts(outcome)
    assert found[path] == ("unknown", "there is no record of how it was made")
    # So is what was made from it.
    assert {state for state, _ in found.values()} == {"unknown"}
    assert "results/figures/tiny/strong/landscape-victims.npz" in found
    assert "results/poisons/tiny/strong/seed0.safetensors" not in found


def test_nothing_that_differs_is_overwritten(elsewhere: Checkout, packed: Path) -> None:
    own = elsewhere.path / "results/poisons/tiny/weak/seed1.safetensors"
    own.parent.mkdir(parents=True)
    own.write_text("my own", encoding="utf-8")
    before = tree(elsewhere.path)
    outcome = archive(elsewhere, "unpack", "--from", str(packed))
    assert outcome.code == 2
    assert outcome.output.count("\n") == 1
    assert "results/poisons/tiny/weak/seed1.safetensors here differs" in outcome.output
    assert tree(elsewhere.path) == before


def test_unpacking_twice_changes_nothing(unpacked: Checkout, packed: Path) -> None:
    before = tree(unpacked.path / "results")
    outcome = archive(unpacked, "unpack", "--from", str(packed))
    assert outcome.code == 0
    assert "0 files unpacked, 136 were here" in outcome.output
    assert tree(unpacked.path / "results") == before


def test_a_study_without_results_is_not_packed(elsewhere: Checkout) -> None:
    outcome = archive(elsewhere, "pack", "--configfile", STUDY)
    assert outcome.code == 2
    assert outcome.output == "error: study 'tiny' has no results here: run it first, or name its --configfile\n"
    assert not (elsewhere.path / "tiny.tar.gz").exists()


def tree(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Times and content of all files but bytecode."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


# --- As an RO-Crate ---


@pytest.fixture(scope="module")
def crate(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive as any program unpacks it."""
    folder = tmp_path_factory.mktemp("crate")
    with tarfile.open(packed) as tar:
        tar.extractall(folder, filter="data")
    return folder


def test_a_crate_describes_every_file(crate: Path, planned: Checkout) -> None:
    told = json.loads((crate / "ro-crate-metadata.json").read_text(encoding="utf-8"))["@graph"]
    entities = {entity["@id"]: entity for entity in told}
    files = {name: entity for name, entity in entities.items() if "File" in entity["@type"]}
    there = {str(path.relative_to(crate)): path for path in crate.rglob("*") if path.is_file()}
    assert set(there) - set(files) == {"manifest.json", "ro-crate-metadata.json"}
    assert {name: entity["sha256"] for name, entity in files.items()} == {
        name: digest(there[name].read_bytes()) for name in files
    }
    run = entities["#run"]
    assert run["instrument"] == entities["./"]["mainEntity"] == {"@id": "workflow/Snakefile"}
    made = {path for path in planned.files("*.*") if "/logs/" not in path}
    assert {result["@id"] for result in run["result"]} == made
    assert {"@id": "results/archives/tiny.yaml"} in run["object"]
    papers = [entity["name"] for entity in told if entity["@type"] == "ScholarlyArticle"]
    assert entities["./"]["license"] == {"@id": "https://spdx.org/licenses/MIT"}
    assert len(papers) == 4
    assert any(paper.startswith("Friendly Noise") for paper in papers)


OF_1_1 = {
    "ComputationalWorkflow": "https://bioschemas.org/ComputationalWorkflow",
    "FormalParameter": "https://bioschemas.org/FormalParameter",
    "input": "https://bioschemas.org/ComputationalWorkflow#input",
    "output": "https://bioschemas.org/ComputationalWorkflow#output",
}
"""The terms that RO-Crate 1.3, whose context the library brings, has under other addresses."""


def test_a_crate_keeps_the_profile_of_workflow_runs(
    crate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the validator of the RO-Crate community, with the library's context in the place of the one it would fetch."""
    monkeypatch.setattr(HttpRequester, "get", lambda self, address, **more: Answer(address), raising=False)
    settings = ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier="workflow-run-crate",
        requirement_severity=Severity.REQUIRED,
        offline=True,
        cache_path=tmp_path / "cache",
    )
    outcome = services.validate(settings)
    assert outcome.passed(), [(issue.check.identifier, issue.message) for issue in outcome.get_issues()]
    # It does find faults.
    (crate / "workflow/Snakefile").rename(tmp_path / "Snakefile")
    assert not services.validate(settings).passed()
    (tmp_path / "Snakefile").rename(crate / "workflow/Snakefile")


class Answer(requests.Response):
    """What the address of a context answers."""

    def __init__(self, address: str) -> None:
        super().__init__()
        assert address == "https://w3id.org/ro/crate/1.1/context"
        self.status_code, self.url = 200, address
        self.headers["Content-Type"] = "application/ld+json"
        self._content = json.dumps({"@context": RO_CRATE["@context"] | OF_1_1}).encode()


# --- Archives that were damaged or made to do harm ---

GOOD = "results/victims/tiny/strong/scratch/none/seed0.safetensors"
CONTENT = b"weights"


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program, in an empty checkout."""
    monkeypatch.syspath_prepend(REPOSITORY / "workflow/scripts")
    checkout = tmp_path / "checkout"
    (checkout / "envs").mkdir(parents=True)
    shutil.copy(REPOSITORY / "envs/requirements.lock", checkout / "envs")
    monkeypatch.chdir(checkout)
    return importlib.import_module("archive")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def forged(
    path: Path, files: dict[str, bytes], *more: tarfile.TarInfo, change: Callable[[Any], object] = lambda manifest: None
) -> Path:
    """An archive as packing would write it but for ``files`` (by name), ``change`` (of the manifest) and ``more``."""
    manifest = {
        "format": 2,
        "study": "tiny",
        "results": "results",
        "commit": "abc",
        "lock": "",
        "made_on": [],
        "files": {name: digest(content) for name, content in files.items()},
        "records": {},
        "config": {},
    }
    change(manifest)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in {"manifest.json": json.dumps(manifest).encode(), **files}.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        for info in more:
            tar.addfile(info)
    return path


def refused(program: ModuleType, path: Path) -> str:
    """Why an archive is refused; nothing must be left of it."""
    with pytest.raises(program.PoisonlabError) as caught:
        program.main(["unpack", "--from", str(path)])
    assert {path.name for path in Path.cwd().iterdir()} == {"envs"}
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_plain_archive_is_unpacked(program: ModuleType, tmp_path: Path) -> None:
    program.main(["unpack", "--from", str(forged(tmp_path / ARCHIVE, {GOOD: CONTENT}))])
    assert Path(GOOD).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name",
    [
        "../outside.json",
        "results/victims/../../../outside.json",
        "/tmp/outside.json",
        "results/victims/tiny/program.py",
        "results/data/../../src/poisonlab/table.csv",
        "src/poisonlab/data/table.csv",
        ".git/hooks/data/hook.txt",
        "results/victims/.hidden.json",
        "results//victims/a.json",
        "results/elsewhere/a.json",
        "results/a.json",
    ],
)
def test_files_outside_a_study_are_refused(name: str, program: ModuleType, tmp_path: Path) -> None:
    path = forged(tmp_path / ARCHIVE, {name: CONTENT})
    assert "no place for a result" in refused(program, path)
    assert not (tmp_path / "outside.json").exists()


@pytest.mark.parametrize("name", ["src/poisonlab/errors.py", "../LICENSE", "workflow/scripts/archive.py"])
def test_nothing_else_passes_as_part_of_the_crate(name: str, program: ModuleType, tmp_path: Path) -> None:
    def announce(manifest: Any) -> None:
        manifest["crate"] = {name: manifest["files"].pop(name)}

    path = forged(tmp_path / ARCHIVE, {GOOD: CONTENT, name: b"code"})
    with pytest.raises(program.PoisonlabError):
        program.main(["unpack", "--from", str(path)])
    assert f"names '{name}'" in refused(program, forged(path, {GOOD: CONTENT, name: b"code"}, change=announce))


@pytest.mark.parametrize("results", ["..", "/tmp", ".", ".git", "a/../.."])
def test_an_archive_without_files_has_a_place_all_the_same(results: str, program: ModuleType, tmp_path: Path) -> None:
    path = forged(tmp_path / ARCHIVE, {}, change=lambda manifest: manifest.update(results=results))
    assert "no place for a result" in refused(program, path)


@pytest.mark.parametrize("results", ["..", "/tmp", ".", ".git", "a/../.."])
def test_folders_outside_the_checkout_are_refused(results: str, program: ModuleType, tmp_path: Path) -> None:
    files = {f"{results}/victims/a.json": CONTENT}
    path = forged(tmp_path / ARCHIVE, files, change=lambda manifest: manifest.update(results=results))
    assert "no place for a result" in refused(program, path)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(kind: bytes, program: ModuleType, tmp_path: Path) -> None:
    link = tarfile.TarInfo("results/victims/link.json")
    link.type, link.linkname = kind, "/etc/passwd"

    def announce(manifest: Any) -> None:
        manifest["files"][link.name] = digest(b"")

    assert "link.json" in refused(program, forged(tmp_path / ARCHIVE, {GOOD: CONTENT}, link, change=announce))


def test_what_the_manifest_does_not_name_is_refused(program: ModuleType, tmp_path: Path) -> None:
    extra = tarfile.TarInfo("results/victims/more.json")
    assert "more.json" in refused(program, forged(tmp_path / ARCHIVE, {GOOD: CONTENT}, extra))


@pytest.mark.parametrize("study", ["../../x", "/tmp/x", "", ".x"])
def test_names_that_are_paths_are_refused(study: str, program: ModuleType, tmp_path: Path) -> None:
    path = forged(tmp_path / ARCHIVE, {GOOD: CONTENT}, change=lambda manifest: manifest.update(study=study))
    assert "do not use it" in refused(program, path)


@pytest.mark.parametrize(
    "change",
    [
        {"records": {"results/victims/other.json": {}}},
        {"records": {GOOD: {"input": 5}}},
        {"records": []},
        {"files": {GOOD: 5}},
        {"made_on": ["a\x1b[31mb"]},
        {"made_on": 5},
        {"commit": None},
        {"results": 5},
        {"crate": 5},
        {"crate": {"LICENSE": 5}},
        {"crate": [5]},
    ],
    ids=str,
)
def test_manifests_of_odd_content_are_refused(change: dict[str, Any], program: ModuleType, tmp_path: Path) -> None:
    path = forged(tmp_path / ARCHIVE, {GOOD: CONTENT}, change=lambda manifest: manifest.update(change))
    refused(program, path)


def test_damage_is_noticed(program: ModuleType, tmp_path: Path) -> None:
    other = forged(
        tmp_path / ARCHIVE, {GOOD: CONTENT}, change=lambda manifest: manifest["files"].update({GOOD: "0" * 64})
    )
    assert "checksum differs" in refused(program, other)


@pytest.mark.parametrize("change", ["cut", "flipped", "missing", "nothing", "text", "no manifest", "another format"])
def test_what_is_no_whole_archive_is_refused(change: str, program: ModuleType, tmp_path: Path) -> None:
    content = os.urandom(100_000)
    path = forged(
        tmp_path / ARCHIVE,
        {GOOD: content},
        change=lambda manifest: manifest.update(format=9) if change == "another format" else None,
    )
    whole = path.read_bytes()
    if change == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif change == "flipped":
        place = len(whole) // 2
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    elif change == "missing":
        forged(path, {}, change=lambda manifest: manifest["files"].update({GOOD: digest(content)}))
    elif change == "nothing":
        path.write_bytes(b"")
    elif change == "text":
        path.write_bytes(b"no archive")
    elif change == "no manifest":
        with tarfile.open(path, "w:gz") as tar:
            tar.addfile(tarfile.TarInfo("results"))
    refused(program, path)
