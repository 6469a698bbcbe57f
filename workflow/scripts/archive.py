"""Pack the results of a study with Snakemake's records of them, and unpack them in another checkout.

    archive.py pack --to digits.tar.gz --configfile config.yaml
    archive.py unpack --from digits.tar.gz

There they are what they were: current if code and settings are the same, stale where these differ. Unpacking
overwrites nothing that differs, and puts nothing in its place before every checksum is compared. The files get times
before all others (1980), in the order in which they were made: so Snakemake compares every input that comes from
elsewhere, such as the files of a dataset, with the checksum in its records, however old the file is.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import IO, Any

import yaml

from poisonlab.config.merging import add_config_arguments, merged_config
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.files import atomic_path, file_digest, read_sealed, read_text, write_json
from poisonlab.runtime.cards import commit
from poisonlab.runtime.program import run
from poisonlab.runtime.records import LOCKS, UNFINISHED, record_of
from verify import lines_of, snakemake

MANIFEST, CONFIG, RECORD = "manifest.json", "config.yaml", "records"
FORMAT = 1
SHOWN = 3
LOCK = Path("envs/requirements.lock")
KINDS = ("data", "surrogates", "poisons", "noise", "filters", "victims", "detections", "tables", "figures", "reports")
ENDINGS = (".safetensors", ".json", ".csv", ".md", ".tex", ".pdf", ".png", ".txt", ".npz", ".html")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FIRST = 315532800
"""The first second of 1980, before any file that a checkout or a download leaves."""


@dataclass(frozen=True)
class Packed:
    """One entry of an archive: its checksum, its size in bytes, and for results the place in the order of making."""

    sha256: str
    size: int
    order: int = 0


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = arguments.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="pack a study's results")
    packing.add_argument("--to", type=Path, help="the archive to write; else <study>.tar.gz")
    add_config_arguments(packing)
    unpacking = commands.add_parser("unpack", help="unpack them in this checkout")
    unpacking.add_argument("--from", type=Path, required=True, dest="archive", help="the archive")
    args = arguments.parse_args(argv)
    if LOCKS.is_dir() and any(LOCKS.iterdir()):
        raise PoisonlabError("Snakemake is running in this folder: wait, or after a kill run snakemake --unlock")
    if args.command == "pack":
        pack(args.to, args.configfile, args.config)
    else:
        unpack(args.archive)


# --- Packing ---


def pack(archive: Path | None, configfiles: Sequence[str], entries: Sequence[str]) -> None:
    """Write the archive of a study.

    Raises:
        PoisonlabError: the study cannot be read, has no results, or lies outside the checkout.
    """
    # Only here, because importing it takes longer than unpacking.
    from poisonlab.config.study import read_study

    config = merged_config(configfiles, entries)
    study = read_study(config)
    archive = archive or Path(f"{study.study}.tar.gz")
    options = [*(["--configfile", *configfiles] if configfiles else []), *(["--config", *entries] if entries else [])]
    summary = snakemake("--summary", *options)
    if summary is None:
        raise PoisonlabError("Snakemake cannot read the study: see above")
    lines = {line["output_file"]: line for line in lines_of(summary)}
    paths = sorted(path for path in lines if Path(path).is_file())
    if not paths:
        raise PoisonlabError(f"study {study.study!r} has no results here: run it first, or name its --configfile")
    for path in paths:
        _check_place(path, study.results)
        if record_of(path, UNFINISHED).exists():
            raise PoisonlabError(f"{path} was left unfinished: run the workflow, then pack")
    records = {f"{RECORD}/{path}": record_of(path) for path in paths if record_of(path).is_file()}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True).encode()
    manifest = {"study": study.study, "results": study.results, **contents(paths, records, text)}
    write(archive, manifest, {CONFIG: text, **records, **{path: Path(path) for path in paths}})
    current = sum(lines[path]["plan"] == "no update" and f"{RECORD}/{path}" in records for path in paths)
    print(
        f"{archive}: {len(paths)} files, {current} of them current here, {archive.stat().st_size / 2**20:.1f} MiB, "
        f"sha256 {file_digest(archive)}"
    )


def contents(paths: Sequence[str], records: Mapping[str, Path], config: bytes) -> dict[str, Any]:
    """What a manifest says of an archive's entries and of what made them."""
    times = {path: os.stat(path).st_mtime_ns for path in paths}
    order = {time: place for place, time in enumerate(sorted(set(times.values())))}
    return {
        "format": FORMAT,
        "commit": commit(),
        "lock": file_digest(LOCK),
        "made_on": made_on(paths),
        "files": {path: vars(_packed(Path(path), order[times[path]])) for path in paths},
        "records": {name: vars(_packed(record)) for name, record in records.items()},
        "config": vars(Packed(hashlib.sha256(config).hexdigest(), len(config))),
    }


def _packed(path: Path, order: int = 0) -> Packed:
    return Packed(file_digest(path), path.stat().st_size, order)


def write(archive: Path, manifest: Mapping[str, Any], entries: Mapping[str, bytes | Path]) -> None:
    """Write an archive: the manifest first, then the entries, of bytes or from files."""
    with (
        atomic_path(archive) as temporary,
        temporary.open("wb") as raw,
        # No name and time: the same results give the same bytes.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        _add(tar, MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode())
        for name, content in entries.items():
            _add(tar, name, content)


def made_on(paths: Sequence[str]) -> list[dict[str, Any]]:
    """Device, threads and software of the run cards, each kind with the number of its cards."""
    counts: dict[str, int] = {}
    for path in paths:
        if path.endswith(".card.json"):
            card = read_sealed(Path(path))
            facts = {name: card.get(name) for name in ("device", "cpu", "threads", "software", "commit")}
            key = json.dumps(facts, sort_keys=True)
            counts[key] = counts.get(key, 0) + 1
    return [{**json.loads(key), "cards": count} for key, count in sorted(counts.items())]


def _add(tar: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    """Add an entry that says nothing of who packed it and when."""
    entry = tarfile.TarInfo(name)
    if isinstance(content, bytes):
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
        return
    with content.open("rb") as file:
        entry.size = os.fstat(file.fileno()).st_size
        tar.addfile(entry, file)


# --- Unpacking ---


def unpack(archive: Path) -> None:
    """Put an archive's results and records in their places, and its config and manifest in ``<results>/archives``.

    Raises:
        PoisonlabError: the archive is damaged or no archive, or a file that is here differs from its own.
    """
    # In this folder, so that what was checked has only to be renamed.
    with TemporaryDirectory(dir=".", prefix=".unpacking-") as name:
        folder = Path(name)
        manifest = extract(archive, folder)
        files = {path: Packed(**packed) for path, packed in manifest["files"].items()}
        differing = [path for path, packed in files.items() if os.path.lexists(path) and not _same(path, packed)]
        if differing:
            raise PoisonlabError(
                f"{_some(differing)} here differs from what {archive} holds: move it away, or unpack elsewhere"
            )
        own = f"{manifest['results']}/archives/{manifest['study']}"
        texts = {folder / MANIFEST: Path(f"{own}.json"), folder / CONFIG: Path(f"{own}.yaml")}
        new = [path for path in files if not (os.path.lexists(path) and record_of(path).exists())]
        records = {folder / RECORD / path: record_of(path) for path in new if f"{RECORD}/{path}" in manifest["records"]}
        results = {folder / path: Path(path) for path in new}
        # Without this folder Snakemake takes the records for those of an older version.
        UNFINISHED.mkdir(parents=True, exist_ok=True)
        for target in (*records.values(), *results.values(), *texts.values()):
            target.parent.mkdir(parents=True, exist_ok=True)
        # Records first, and none of what was here before: a result without its own would be trusted.
        for path in new:
            record_of(path).unlink(missing_ok=True)
            record_of(path, UNFINISHED).unlink(missing_ok=True)
        for source, target in {**records, **results, **texts}.items():
            _place(source, target)
    report(manifest, len(new))


def extract(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive into an empty folder.

    Returns:
        Its manifest; every file that it names is there, with its checksum compared and its time set.

    Raises:
        DataError: the archive is no archive of results, damaged, or cut short, or an entry has no place in a study.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            entries = iter(tar)
            first = next(entries, None)
            if first is None or first.name != MANIFEST or not first.isreg():
                raise DataError(f"{archive} is no archive of results: make one with make archive")
            manifest = _manifest(archive, _content(tar, first).read())
            expected = _expected(manifest)
            if sum(packed.size for packed in expected.values()) > shutil.disk_usage(".").free:
                raise PoisonlabError(f"{archive} holds more than there is space for here: free some")
            for entry in entries:
                packed = expected.pop(entry.name, None)
                if packed is None or not entry.isreg() or entry.size != packed.size:
                    raise DataError(f"{archive} holds {entry.name!r}, which its manifest does not: do not use it")
                _extract(_content(tar, entry), folder / entry.name, packed)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} is damaged or cut short ({error}): fetch it again") from error
    if expected:
        raise DataError(f"{archive} is cut short: {next(iter(expected))} is missing: fetch it again")
    write_json(folder / MANIFEST, manifest)
    os.utime(folder / MANIFEST, (FIRST, FIRST))
    return manifest


def _manifest(archive: Path, content: bytes) -> dict[str, Any]:
    """The manifest, with every place that it names checked."""
    try:
        manifest: dict[str, Any] = json.loads(content)
        if manifest["format"] != FORMAT:
            raise DataError(f"{archive} is of format {manifest['format']}, not {FORMAT}: unpack it with its own commit")
        for path in manifest["files"]:
            _check_place(path, manifest["results"])
        foreign = [name for name in manifest["records"] if name.removeprefix(f"{RECORD}/") not in manifest["files"]]
        if foreign or not _NAME.fullmatch(manifest["study"]):
            raise DataError(
                f"{archive} has a manifest that names {(foreign or [manifest['study']])[0]!r}: do not use it"
            )
        _expected(manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{archive} is damaged (its manifest cannot be read): fetch it again") from error
    return manifest


def _expected(manifest: Mapping[str, Any]) -> dict[str, Packed]:
    """All entries that follow the manifest."""
    entries = {**manifest["files"], **manifest["records"], CONFIG: manifest["config"]}
    return {name: Packed(**packed) for name, packed in entries.items()}


def _check_place(path: str, results: str) -> None:
    """Refuse what is no result below the study's folder.

    Raises:
        DataError: the path leads elsewhere, or names no kind of result.
    """
    place, top = PurePosixPath(path), PurePosixPath(results)
    plain = place.as_posix() == path and top.as_posix() == results and "\0" not in path
    inside = not place.is_absolute() and ".." not in place.parts and place.is_relative_to(top)
    parts = place.relative_to(top).parts if plain and inside else ()
    hidden = any(part.startswith(".") for part in place.parts)
    if hidden or len(parts) < 2 or parts[0] not in KINDS or place.suffix not in ENDINGS:
        raise DataError(
            f"{path!r} is no place for a result below {results!r}: archives hold only results of a checkout"
        )


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> IO[bytes]:
    content = tar.extractfile(entry)
    assert content is not None, "only regular files are read"
    return content


def _extract(content: IO[bytes], target: Path, packed: Packed) -> None:
    """Write one file, compare its checksum, set its time."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        shutil.copyfileobj(content, file)
    if file_digest(target) != packed.sha256:
        raise DataError(f"{target.name} is damaged in the archive (checksum differs): fetch it again")
    os.utime(target, (FIRST + packed.order, FIRST + packed.order))


def _same(path: str, packed: Packed) -> bool:
    """Whether a file that is here is the packed one."""
    return os.path.isfile(path) and os.path.getsize(path) == packed.size and file_digest(Path(path)) == packed.sha256


def _place(source: Path, target: Path) -> None:
    """Move a file; results may lie on another disk, so that only the last step is at once."""
    beside = target.with_name(f".{target.name[:200]}.unpacked")
    shutil.move(source, beside)
    beside.replace(target)


def report(manifest: Mapping[str, Any], new: int) -> None:
    """Say what is here now, what made it, and what is missing to judge it."""
    files, study = manifest["files"], manifest["study"]
    print(f"{new} files unpacked, {len(files) - new} were here; made with commit {manifest['commit']}")
    for made in manifest["made_on"]:
        software = ", ".join(f"{name} {version}" for name, version in (made.get("software") or {}).items())
        print(f"  {made['cards']} by {made['device']}, {made.get('cpu')}, {made['threads']} threads, {software}")
    if manifest["lock"] != file_digest(LOCK):
        print(f"{LOCK} is another one here: what depends on a version that differs is stale")
    if lacking := sorted(path for path in outside(files) if not Path(path).exists()):
        print(f"not here: {_some(lacking)}.")
        print("Snakemake takes what is made of these as given, until they are here.")
    print(f"Next: make verify CONFIG={manifest['results']}/archives/{study}.yaml (the config these were made with)")


def outside(files: Mapping[str, Any]) -> set[str]:
    """Inputs of results that are no results of the archive themselves."""
    records = [json.loads(read_text(record)) for record in map(record_of, files) if record.is_file()]
    return {path for record in records for path in record.get("input") or ()} - set(files)


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more}"


if __name__ == "__main__":
    run(main)
