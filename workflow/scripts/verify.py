"""Judge every result: current, stale (and why), damaged or of unknown origin; the exit code is the worst.

0: all are current. 1: some are stale. 2: some are unknown: Snakemake has no record of how they were made or from which
files, or no rule of the study or scan makes them. 3: some are damaged. 4: the config cannot be read. Results that are
not made yet are counted, but are no fault; nor are files set aside as damaged. With --deep, every artifact is read and
its checksum compared, and every input is compared with the checksum that Snakemake noted.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from snakemake.persistence.file import FilePersistence

from poisonlab.artifacts.tensors import check
from poisonlab.config.merging import add_config_arguments, checkout, merged_config
from poisonlab.errors import DamagedError, DataError, PoisonlabError
from poisonlab.evaluation.trials import read_trials
from poisonlab.files import file_digest
from poisonlab.graph.places import Places
from poisonlab.graph.scanning import read_config
from poisonlab.runtime.setting_aside import SUFFIX, set_aside

CURRENT, STALE, UNKNOWN, DAMAGED, UNREADABLE = range(5)
WORDS = {CURRENT: "current", STALE: "stale", UNKNOWN: "unknown", DAMAGED: "damaged"}
FILES = "files read by "
"""Prefix of contents of files in ``poisonlab.graph.graph``."""
_SHOWN = 8
_OPTIONS = (
    *("--nolock", "--profile", "none", "--workflow-profile", "none", "--max-checksum-file-size", "10000000000"),
    *("--rerun-triggers", "mtime", "params", "input", "software-env", "code"),
)
"""The options of profiles/default: another profile could hide reasons and changes. Reading needs no lock."""


@dataclass(frozen=True)
class Verdict:
    """The state of one file, and why."""

    path: str
    state: int
    why: str = ""


def main(argv: Sequence[str]) -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_config_arguments(arguments)
    arguments.add_argument("--deep", action="store_true", help="also read every file and compare checksums")
    arguments.add_argument(
        "--set-aside", action="store_true", help="also rename damaged files, so that the workflow makes them again"
    )
    arguments.add_argument("--all", action="store_true", help="list current files, too")
    args = arguments.parse_args(argv)
    given = args.configfile, args.config

    try:
        study, _ = read_config(merged_config(*given))
    except PoisonlabError as error:
        print(f"error: {error}", file=sys.stderr)
        return UNREADABLE
    planned = snakemake("--dry-run", *given)
    if planned is None or (summary := snakemake("--summary", *given)) is None:
        return UNREADABLE
    deep = args.deep or args.set_aside
    verdicts = judge(summary, dict(reasons(planned)), Places(study), deep)
    if deep:
        verdicts = [_checked(verdict, args.set_aside) for verdict in verdicts]
    for verdict in sorted(verdicts, key=lambda each: (each.state, each.path)):
        if verdict.state != CURRENT or args.all:
            print(f"{WORDS[verdict.state]:8} {verdict.path}{f': {verdict.why}' if verdict.why else ''}")
    counts = {word: sum(verdict.state == state for verdict in verdicts) for state, word in WORDS.items()}
    missing = sum(line["status"] == "missing" for line in lines_of(summary))
    print(", ".join(f"{count} {word}" for word, count in counts.items()) + f"; {missing} not made yet")
    return max((verdict.state for verdict in verdicts), default=CURRENT)


def snakemake(action: str, configfiles: Sequence[str], entries: Sequence[str]) -> str | None:
    """The output of Snakemake with ``--dry-run`` or ``--summary``; None if it fails, with its reason on stderr."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *_OPTIONS, action]
    for option, values in (("--configfile", configfiles), ("--config", entries)):
        command += [option, *values] if values else []
    if checkout() != ".":
        command += ["--snakefile", f"{checkout()}/Snakefile"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        print(f"{done.stdout}{done.stderr}".strip(), file=sys.stderr)
        return None
    return done.stdout + (done.stderr if action == "--dry-run" else "")


def lines_of(summary: str) -> list[dict[str, str]]:
    """The table that ``snakemake --summary`` prints."""
    rows = [line.split("\t") for line in summary.splitlines() if "\t" in line]
    return [dict(zip(rows[0], row, strict=False)) for row in rows[1:]] if rows else []


def reasons(planned: str) -> Iterator[tuple[str, str]]:
    """Each output of the jobs that a dry run would run, and why."""
    for block in re.split(r"^\[.+\]\n", planned, flags=re.MULTILINE)[1:]:
        outputs = re.search(r"^    output: (.*)$", block, flags=re.MULTILINE)
        reason = re.search(r"^    reason: (.*)$", block, flags=re.MULTILINE)
        if outputs is not None and reason is not None:
            for path in outputs[1].split(", "):
                yield path, explained(reason[1])


def explained(reason: str) -> str:
    """Snakemake's reason, with the names of changed params in place of whole lists."""
    found = re.search(r"across all output: before: (.*?\]) now: (.*\])", reason)
    if found is None:
        return reason.strip()
    before, now = (_params(side) for side in found.groups())
    changed = sorted({re.split("[=@]", value, maxsplit=1)[0] for value in before ^ now})
    code = [name for name in changed if "/" in name]
    files = [name for name in changed if name.startswith(FILES)]
    other = [name for name in changed if name not in (*code, *files)]
    parts = [_some("settings", other), _some("code", code), _some("contents", files)]
    return "; ".join(part for part in parts if part) or "params changed"


def _params(side: str) -> set[str]:
    try:
        values = ast.literal_eval(f"[{side}]")
    except (SyntaxError, ValueError):
        return {side}
    return {string for value in values for string in ([value] if isinstance(value, str) else map(str, value))}


def _some(what: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{what} changed: {', '.join(names[:_SHOWN])}{more}"


def judge(summary: str, why: Mapping[str, str], places: Places, deep: bool) -> list[Verdict]:
    """One verdict per existing file: outputs of the study, and other files in its folders.

    Args:
        summary: the output of ``snakemake --summary``.
        why: the reason of each file that would be made again.
        places: where the study's results lie.
        deep: whether to read the inputs of the files, and compare them with the checksums that Snakemake noted.
    """
    records = FilePersistence(nolock=True)
    known = {line["output_file"]: line for line in lines_of(summary)}
    made = {path: records._read_record(path) for path in known if Path(path).exists()}
    unknown: dict[str, str] = {}
    for path, record in made.items():
        if record is None:
            unknown[path] = "there is no record of how it was made"
        elif not record.params:
            unknown[path] = "its record says nothing of settings and code"
    # A file made from one of unknown origin is of unknown origin, too.
    while more := {
        path: f"it was made from {source}, of unknown origin"
        for path, record in made.items()
        if path not in unknown and path not in why
        for source in sorted(set(record.input or ()) & unknown.keys())[:1]
    }:
        unknown |= more
    verdicts = []
    digest = cache(file_digest)
    for path, record in made.items():
        if path in unknown:
            verdicts.append(Verdict(path, UNKNOWN, unknown[path]))
        elif path in why:
            verdicts.append(Verdict(path, STALE, why[path]))
        else:
            # Snakemake compares only inputs with newer time stamps, and a backup keeps its old ones.
            noted = (record.input_checksums or {}) if deep else {}
            there = [source for source in noted if noted[source] is not None and Path(source).is_file()]
            other = [source for source in there if noted[source] != f"sha256:{digest(Path(source))}"]
            hidden = (
                f"made from another {other[0]}, which its old time stamp hides: restore or touch it" if other else ""
            )
            verdicts.append(Verdict(path, STALE if other else CURRENT, hidden))
    # Folders that studies share hold files of other studies, too: only folders of this study alone are judged.
    own = [Path(folder) for folder in places.remade() if folder.endswith("/")]
    strange = {file.as_posix() for folder in own for file in folder.rglob("*") if file.is_file()}
    verdicts += [
        Verdict(path, UNKNOWN, "no rule of this study makes it")
        for path in sorted(strange - set(known))
        if not Path(path).name.startswith(".") and not path.endswith(SUFFIX)
    ]
    return verdicts


def _checked(verdict: Verdict, aside: bool) -> Verdict:
    """The verdict after the file's checksums were compared; if they differ and ``aside``, the file is renamed."""
    path = Path(verdict.path)
    try:
        if path.name.endswith("-trials.csv"):
            read_trials(path)
        else:
            check(path)
    except DamagedError as error:
        now = f"; now named {set_aside(path).name}" if aside else ""
        return Verdict(verdict.path, DAMAGED, f"{error.why}{now}")
    except DataError as error:
        return Verdict(verdict.path, DAMAGED, str(error).removeprefix(f"{path} "))
    return verdict


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
