"""Pack the results of a study or scan with Snakemake's records of them, and unpack them in another checkout.

    archive.py pack --to digits.tar.gz --configfile config.yaml
    archive.py unpack --from digits.tar.gz

Unpacked results are current if code and settings are the same, and stale if these differ. Unpacking overwrites no file
that differs, and moves files into place only after all checksums are compared. The files get time stamps of 1980, in
the order in which they were made. So Snakemake compares every input from elsewhere, such as the files of a dataset,
with the checksum in its records, however old the input is.

An archive is also an RO-Crate: it describes its files in ro-crate-metadata.json, and also holds the workflow's
Snakefiles, its license and the config. Unpacking leaves these aside.
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
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from snakemake.persistence import MetadataRecord
from snakemake.persistence.file import FilePersistence

from crate import METADATA, Run, metadata, sources
from poisonlab.config.data.image_folder import BESIDE_A_PATH
from poisonlab.config.merging import add_config_arguments, checkout, merged_config
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.files import atomic_path, file_digest, read_sealed, write_json, write_text
from poisonlab.graph.scanning import read_config
from poisonlab.runtime.cards import commit
from poisonlab.runtime.program import run
from verify import lines_of, snakemake

MANIFEST = "manifest.json"
FORMAT = 2
SHOWN = 3
LOCKS, LOCK = Path(".snakemake", "locks"), "envs/requirements.lock"
KINDS = (
    *("data", "surrogates", "poisons", "diluted", "transfer", "noise", "filters", "victims", "detections"),
    *("tables", "figures", "reports", "scans"),
)
ENDINGS = (".safetensors", ".json", ".csv", ".md", ".tex", ".pdf", ".png", ".txt", ".npz", ".html")
CRATE = re.compile(rf"{re.escape(METADATA)}|workflow/(Snakefile|rules/\w+\.smk)|LICENSE|CITATION\.cff")
"""Files of an archive besides results and config, for readers without the lab."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
FIRST = 315532800
"""The first second of 1980, before the time stamp of any file of a checkout or a download."""


def main(argv: Sequence[str]) -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = arguments.add_subparsers(dest="command", required=True)
    packing = commands.add_parser("pack", help="pack the results of a study or scan")
    packing.add_argument("--to", type=Path, help="the archive to write; else <study>.tar.gz or scan-<scan>.tar.gz")
    add_config_arguments(packing)
    unpacking = commands.add_parser("unpack", help="unpack an archive in this checkout")
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
    """Write the archive of a study or scan.

    Raises:
        PoisonlabError: the config cannot be read, there are no results, or a result is unfinished or lies outside the
            checkout.
    """
    config = merged_config(configfiles, entries)
    study, scan = read_config(config)
    if scan is not None:
        # The archived config names the format of the images, because it is recognised only where they are.
        config = {**config, "scan": scan.scan, "dataset": scan.dataset.told()}
        config = {key: value for key, value in config.items() if key not in ("data", *BESIDE_A_PATH)}
    named, results = (study.study, study.results) if scan is None else (f"scan-{scan.scan}", scan.results)
    archive = archive or Path(f"{named}.tar.gz")
    summary = snakemake("--summary", configfiles, entries)
    if summary is None:
        raise PoisonlabError("Snakemake cannot read the config: see above")
    lines = {line["output_file"]: line for line in lines_of(summary)}
    paths = sorted(path for path in lines if Path(path).is_file())
    if not paths:
        what = f"study {study.study!r}" if scan is None else f"scan {scan.scan!r}"
        raise PoisonlabError(f"{what} has no results here: run it first, or name its --configfile")
    known = FilePersistence(nolock=True)
    if unfinished := known._filter_incomplete_keys(paths):
        raise PoisonlabError(f"{_some(sorted(unfinished))} was left unfinished: run the workflow, then pack")
    for path in paths:
        check_place(path, results)
    records = {path: record for path in paths if (record := known._read_record(path)) is not None}
    manifest = {
        "format": FORMAT,
        "study": named,
        "results": results,
        "commit": commit() or "unknown",
        "lock": file_digest(Path(checkout(), LOCK)),
        "made_on": made_on(paths),
        "config": config,
        "files": {path: file_digest(Path(path)) for path in paths},
        "records": {path: record.model_dump() for path, record in records.items()},
    }
    described = crate_of(manifest, records)
    manifest["crate"] = {path: hashlib.sha256(content).hexdigest() for path, content in described.items()}
    write(archive, manifest, described, sorted(paths, key=lambda path: os.stat(path).st_mtime_ns))
    current = sum(lines[path]["plan"] == "no update" for path in records)
    print(
        f"{archive}: {len(paths)} files, {current} of them current here, {archive.stat().st_size / 2**20:.1f} MiB, "
        f"sha256 {file_digest(archive)}"
    )


def crate_of(manifest: Mapping[str, Any], records: Mapping[str, MetadataRecord]) -> dict[str, bytes]:
    """The files that make an archive an RO-Crate, by path: its description, the workflow, and the config."""
    study, scan = read_config(manifest["config"])
    files = manifest["files"]
    told = Run(
        title=f"study {study.study}" if scan is None else f"scan {scan.scan}",
        description=study.description,
        config=_archived_config(manifest),
        files=files,
        inputs={path for record in records.values() for path in record.input or ()} - set(files),
        began=min((record.starttime for record in records.values() if record.starttime), default=0.0),
        ended=max((record.endtime for record in records.values() if record.endtime), default=0.0),
        commit=manifest["commit"],
    )
    members = sources() | {told.config: _yaml(manifest["config"]).encode()}
    return {METADATA: metadata(told, members), **members}


def _archived_config(manifest: Mapping[str, Any]) -> str:
    return f"{manifest['results']}/archives/{manifest['study']}.yaml"


def _yaml(config: Mapping[str, Any]) -> str:
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


def made_on(paths: Sequence[str]) -> list[str]:
    """Device, threads and software of the run cards, a line for each kind with the number of its cards."""
    kinds: Counter[str] = Counter()
    for path in paths:
        if path.endswith(".card.json"):
            card = read_sealed(Path(path))
            software = ", ".join(f"{name} {version}" for name, version in (card.get("software") or {}).items())
            kinds[f"{card.get('device')}, {card.get('cpu')}, {card.get('threads')} threads, {software}"] += 1
    return [f"{count} by {kind}" for kind, count in sorted(kinds.items())]


def write(archive: Path, manifest: Mapping[str, Any], crate: Mapping[str, bytes], paths: Sequence[str]) -> None:
    """Write an archive: the manifest, the RO-Crate, then the results in the order given. It does not say who
    packed it and when."""
    with (
        atomic_path(archive) as temporary,
        temporary.open("wb") as raw,
        # No name and time: the same results give the same bytes.
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        first = {MANIFEST: (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()}
        for name, content in {**first, **crate}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        for path in paths:
            entry = tarfile.TarInfo(path)
            with open(path, "rb") as file:
                entry.size = os.fstat(file.fileno()).st_size
                tar.addfile(entry, file)


# --- Unpacking ---


def unpack(archive: Path) -> None:
    """Put an archive's results and records in their places, and its config and manifest in ``<results>/archives``.

    Raises:
        PoisonlabError: the archive is damaged or no archive, or an existing file differs from the archived one.
    """
    # In this folder, so that the checked files need only be renamed.
    with TemporaryDirectory(dir=".", prefix=".unpacking-") as name:
        folder = Path(name)
        manifest = extract(archive, folder)
        files, records = manifest["files"], manifest.pop("records")
        differing = [path for path, digest in files.items() if os.path.lexists(path) and not _same(path, digest)]
        if differing:
            raise PoisonlabError(
                f"{_some(differing)} here differs from what {archive} holds: move it away, or unpack elsewhere"
            )
        known = FilePersistence(nolock=True)
        new = [path for path in files if not (os.path.lexists(path) and known._read_record(path))]
        # Records come first and replace older ones, because Snakemake would trust a result without its own record.
        for path in new:
            known._unmark_incomplete(path)
            known._delete_record(path)
            if path in records:
                known._write_record(path, records[path])
        for path in new:
            _place(folder / path, Path(path))
    config = Path(_archived_config(manifest))
    write_json(config.with_suffix(".json"), manifest)
    write_text(config, _yaml(manifest["config"]))
    for kind in (".json", ".yaml"):
        os.utime(config.with_suffix(kind), (FIRST, FIRST))
    inputs = {path for record in records.values() for path in record.input or ()}
    report(manifest, len(new), sorted(path for path in inputs - set(files) if not Path(path).exists()))


def extract(archive: Path, folder: Path) -> dict[str, Any]:
    """Unpack an archive into an empty folder.

    Returns:
        The manifest. Every file that it names is unpacked, with its checksum compared and its time set.

    Raises:
        DataError: the archive is no archive of results, damaged, or cut short, or an entry has no place in a study.
    """
    try:
        with tarfile.open(archive, "r:gz") as tar:
            entries = iter(tar)
            first = next(entries, None)
            if first is None or first.name != MANIFEST or not first.isreg():
                raise DataError(f"{archive} is no archive of results: make one with make archive")
            manifest = read_manifest(archive, _content(tar, first).read())
            expected = dict(manifest["files"]) | manifest["crate"]
            for place, entry in enumerate(entries):
                digest = expected.pop(entry.name, None)
                if digest is None or not entry.isreg():
                    raise DataError(f"{archive} holds {entry.name!r}, which its manifest does not: do not use it")
                if entry.size > shutil.disk_usage(".").free:
                    raise PoisonlabError(f"{archive} needs more disk space than there is here: free some")
                target = folder / entry.name
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(_content(tar, entry), file)
                if file_digest(target) != digest:
                    raise DataError(f"{entry.name} is damaged in {archive} (checksum differs): fetch it again")
                os.utime(target, (FIRST + place, FIRST + place))
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{archive} is damaged or cut short ({error}): fetch it again") from error
    if expected:
        raise DataError(f"{archive} is cut short: {next(iter(expected))} is missing: fetch it again")
    return manifest


def read_manifest(archive: Path, content: bytes) -> dict[str, Any]:
    """The manifest, with every path in it checked."""
    try:
        manifest: dict[str, Any] = json.loads(content)
        if manifest["format"] != FORMAT:
            raise DataError(f"{archive} is of format {manifest['format']}, not {FORMAT}: unpack it with its own commit")
        for path in manifest["files"]:
            check_place(path, manifest["results"])
        foreign = sorted(set(manifest["records"]) - set(manifest["files"]))
        config, crate = _archived_config(manifest), dict(manifest.get("crate", {}))
        foreign += [path for path in crate if path != config and not CRATE.fullmatch(path)]
        if foreign or not _NAME.fullmatch(manifest["study"]):
            named = (foreign or [manifest["study"]])[0]
            raise DataError(f"{archive} has a manifest that names {named!r}: do not use it")
        check_place(config, manifest["results"], ("archives",), (".yaml",))
        manifest["crate"] = crate
        if not all(text.isprintable() for text in (manifest["commit"], *manifest["made_on"])):
            raise ValueError("text with control characters")
        manifest["records"] = {path: MetadataRecord.model_validate(told) for path, told in manifest["records"].items()}
        yaml.safe_dump([manifest["config"], manifest["lock"]])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{archive} is damaged (its manifest cannot be read): fetch it again") from error
    return manifest


def check_place(path: str, results: str, kinds: Sequence[str] = KINDS, endings: Sequence[str] = ENDINGS) -> None:
    """Refuse a path that is no result below the study's folder.

    Raises:
        DataError: the path leads elsewhere, or names no kind of result.
    """
    place, top = PurePosixPath(path), PurePosixPath(results)
    plain = place.as_posix() == path and top.as_posix() == results and "\0" not in path
    hidden = place.is_absolute() or any(part.startswith(".") for part in place.parts)
    parts = place.relative_to(top).parts if plain and not hidden and place.is_relative_to(top) else ()
    if len(parts) < 2 or parts[0] not in kinds or place.suffix not in endings:
        raise DataError(
            f"{path!r} is no place for a result below {results!r}: archives hold only results of a checkout"
        )


def _content(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> io.BufferedIOBase:
    content = tar.extractfile(entry)
    assert isinstance(content, io.BufferedIOBase), "only regular files are read"
    return content


def _same(path: str, digest: str) -> bool:
    """Whether an existing file equals the packed one."""
    return os.path.isfile(path) and file_digest(Path(path)) == digest


def _place(source: Path, target: Path) -> None:
    """Move a file; only the last step is atomic, because results may lie on another disk."""
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = target.with_name(f".{target.name[:200]}.unpacked")
    shutil.move(source, beside)
    beside.replace(target)


def report(manifest: Mapping[str, Any], new: int, lacking: Sequence[str]) -> None:
    """Print what was unpacked, what made it, and which inputs are missing to judge it."""
    old = len(manifest["files"]) - new
    print(f"{new} files unpacked, {old} were here; packed at commit {manifest['commit']}")
    print(*(f"  {line}" for line in manifest["made_on"]), sep="\n")
    if manifest["lock"] != file_digest(Path(checkout(), LOCK)):
        print(f"{LOCK} differs here: results that depend on a changed version are stale")
    if lacking:
        print(f"not here: {_some(lacking)}.")
        print("Until these files are here, Snakemake takes results made from them as given.")
    print(f"Next: make verify CONFIG={_archived_config(manifest)} (the config these were made with)")


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return f"{', '.join(paths[:SHOWN])}{more}"


if __name__ == "__main__":
    run(main)
