"""The commands that pages show: bash reads them, and what they call, name and set exists."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, blocks, called
from snakemake.cli import get_argument_parser, parse_config

from poisonlab.config.merging import is_scan, merged_config
from poisonlab.config.scan import Scan
from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph

WITH_COMMANDS = [page for page in PAGES if blocks(page, "sh", "bash")]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
RULES = {
    rule
    for path in [ROOT / "workflow" / "Snakefile", *(ROOT / "workflow" / "rules").glob("*.smk")]
    # A rule, or the name of one that a loop makes.
    for found in re.finditer(r"^rule (\w+):|^    \"(\w+)\"[:,]", path.read_text("utf-8"), re.MULTILINE)
    for rule in filter(None, found.groups())
}
PROGRAMS = (
    "make",
    "snakemake",
    "snakedeploy",
    "python",
    "python3",
    "pip",
    "git",
    "grep",
    "sed",
    ".venv/bin/snakemake",
    ".venv/bin/python",
    ".venv/bin/uv",
)
"""What a block may call; other commands are not found."""
RECORD = '#!/bin/bash\nprintf "%s\\0" "${0#./}" "$@" >> "$CALLS"; printf "\\n" >> "$CALLS"\n'
STANDS_FOR_A_READERS_OWN = {"my-change.yaml", "mine.yaml", "theirs.yaml", "scan.yaml", "profiles/mine"}


def calls(page: Path, place: Path) -> list[list[str]]:
    """The calls of all blocks, as bash hands them to programs, which here only note them."""
    for name in PROGRAMS:
        stub = place / "bin" / name if "/" not in name else place / name
        stub.parent.mkdir(parents=True, exist_ok=True)
        stub.write_text(RECORD)
        stub.chmod(0o755)
    record = place / "calls"
    record.touch()
    for body in blocks(page, "sh", "bash"):
        variables = {"PATH": str(place / "bin"), "CALLS": str(record), "HOME": str(place)}
        done = subprocess.run(
            ["/bin/bash", "-eu", "-c", body], cwd=place, env=variables, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{body}\n{done.stderr}"
    noted = [line.removesuffix("\0").split("\0") for line in record.read_text("utf-8").splitlines()]
    return [[os.path.basename(program), *arguments] for program, *arguments in noted]


def check_config(path: str) -> None:
    assert path in STANDS_FOR_A_READERS_OWN or path.startswith("results/archives/") or (ROOT / path).is_file(), path


def check_make(arguments: list[str]) -> None:
    for argument in arguments:
        name, given, value = argument.partition("=")
        if given:
            assert f"$({name})" in MAKEFILE, f"the Makefile has no {name}"
            if name == "CONFIG":
                check_config(value)
        else:
            assert re.search(rf"^{re.escape(name)}:", MAKEFILE, re.MULTILINE), f"make has no target {name}"


@cache
def made_by(files: tuple[str, ...], entries: tuple[str, ...]) -> set[str]:
    """Every file that a study can make."""
    graph = Graph(read_study(merged_config(files, entries)))
    return {output for job in graph.all_jobs() for output in job.outputs.values()}


def check_snakemake(arguments: list[str]) -> None:
    given = get_argument_parser().parse_args(arguments)
    files = tuple(map(str, given.configfile or ()))
    for file in files:
        check_config(file)
    if given.workflow_profile is not None:
        assert str(given.workflow_profile) in STANDS_FOR_A_READERS_OWN or (ROOT / given.workflow_profile).is_dir()
    if is_scan(parse_config(given.config or ())):
        assert set(parse_config(given.config)) <= {"data", "size", *Scan.model_fields}
        assert set(given.targets) <= RULES
        return
    present = tuple(file for file in files if Path(file).is_file())
    made = made_by(present, tuple(given.config or ()))
    assert [target for target in given.targets if target not in RULES | made] == []


def check_python(arguments: list[str]) -> None:
    if arguments[0] == "-m":
        assert find_spec(arguments[1]) is not None, arguments[1]
        return
    program = ROOT / arguments[0]
    assert program.is_file(), program
    # Options may be added by a module of the same folder.
    shared = [ROOT / "src" / "poisonlab" / name for name in ("config/merging.py", "runtime/program.py")]
    known = "".join(path.read_text("utf-8") for path in (*program.parent.glob("*.py"), *shared))
    for option in (argument for argument in arguments if argument.startswith("--")):
        assert f'"{option}"' in known, f"{program.name} has no {option}"
    for path in (argument for argument in arguments if argument.endswith(".yaml")):
        check_config(path)


CHECKS = {"make": check_make, "snakemake": check_snakemake, "python": check_python, "python3": check_python}


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=called)
def test_the_commands_name_what_there_is(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = calls(page, tmp_path)
    assert noted
    monkeypatch.chdir(ROOT)
    for program, *arguments in noted:
        if program in CHECKS:
            CHECKS[program](arguments)


EXPORTED = [
    (page, value)
    for page in WITH_COMMANDS
    for body in blocks(page, "sh", "bash")
    for value in re.findall(r"^export PYTHONPATH=(\S+)", body, re.MULTILINE)
]


@pytest.mark.parametrize(("page", "value"), EXPORTED, ids=[called(page) for page, _ in EXPORTED])
def test_modules_are_found_from_every_folder(page: Path, value: str, tmp_path: Path) -> None:
    """Jobs begin in the folder of the results, and the check's Snakemake in one of its own."""
    done = subprocess.run(
        ["bash", "-c", f"printf %s {value}"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert all(Path(part).is_absolute() for part in done.stdout.split(":")), page


@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("make", ["demos"]),
        ("make", ["protect", "DATE=photos"]),
        ("make", ["verify", "CONFIG=config/papers.yaml"]),
        ("snakemake", ["--cores", "all", "--configfile", "config/papers.yaml"]),
        ("snakemake", ["papers", "--cores", "all"]),
        ("snakemake", ["results/poisons/digits/gradient-matching/seed99.safetensors", "--cores", "all"]),
        ("snakemake", ["--core-count", "all"]),
        ("snakemake", ["scan", "--cores", "all", "--config", "data=photos", "sizes=32"]),
        ("python", ["workflow/scripts/export.py", "--poison", "a.safetensors"]),
        ("python", ["workflow/scripts/exports.py"]),
    ],
)
def test_a_command_of_what_there_is_not_is_found(
    program: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with pytest.raises((AssertionError, SystemExit, OSError)):
        CHECKS[program](arguments)


def inline_code() -> set[tuple[str, str]]:
    """Code within the texts of all pages but the list of changes, which names things of before."""
    pages = [page for page in PAGES if page.name != "CHANGELOG.md"]
    return {(called(page), code) for page in pages for code in re.findall(r"`([^`\n]+)`", page.read_text("utf-8"))}


def test_targets_of_make_within_a_text_exist() -> None:
    named = {(page, match[1]) for page, code in inline_code() if (match := re.match(r"make ([\w.-]+)", code))}
    assert len(named) > 20
    assert sorted((page, name) for page, name in named if not re.search(rf"^{name}:", MAKEFILE, re.MULTILINE)) == []


def test_paths_within_a_text_exist() -> None:
    looks_like_a_path = re.compile(r"(src|workflow|tests|benchmarks|config|profiles|examples|envs|reference)/[\w./-]+")
    named = {(page, code) for page, code in inline_code() if looks_like_a_path.fullmatch(code)}
    assert len(named) > 40
    # Of a worked example, and of the first run on a GPU.
    to_come = {"config/attacks/watermark.py", "benchmarks/records", "benchmarks/records/"}
    places = (ROOT, ROOT / "src" / "poisonlab")
    missing = [(page, path) for page, path in named if not any((place / path).exists() for place in places)]
    assert [(page, path) for page, path in sorted(missing) if path not in to_come] == []
