"""Pages agree with the code and with each other: links lead somewhere, and the house is drawn as it stands."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from doc_pages import ROOT, blocks
from pydantic import TypeAdapter

from poisonlab.config.study import AttackSettings, Study, read_study
from poisonlab.graph.graph import Graph

PAGES = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "config/*.md", "reference/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "DESIGN.md"
)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in _LINK.findall(_FENCED.sub("", page.read_text("utf-8"))):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def floors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floors", ROOT / "tests" / "test_floors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_house_is_drawn_as_it_stands() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    found = re.findall(r'^    f(\d+)\["(.+)"\]$', page, re.MULTILINE)
    drawn = [label.split(" · ") for _, label in sorted(found, key=lambda each: int(each[0]))]
    assert [tuple(name.removesuffix(" ○") for name in floor) for floor in drawn] == list(floors().FLOORS)
    marked = {name.removesuffix(" ○") for floor in drawn for name in floor if name.endswith(" ○")}
    assert marked == set(floors().FREE_OF_TORCH)


def test_each_config_and_each_key_is_listed() -> None:
    page = (ROOT / "config" / "README.md").read_text("utf-8")
    shipped = {path.relative_to(ROOT / "config").as_posix() for path in (ROOT / "config").rglob("*.yaml")}
    assert set(re.findall(r"\]\(([\w./-]+\.yaml)\)", page)) == shipped | {"../config.yaml"}
    rows = re.findall(r"^\| (`.+?) \|", page.partition("## Keys")[2], re.MULTILINE)
    assert {key for row in rows for key in re.findall(r"`(\w+)`", row)} == set(Study.model_fields)


def drawn_edges() -> set[tuple[str, str]]:
    """The arrows of README's picture, ``a & b --> c --> d`` taken apart."""
    (picture,) = re.findall(
        r"^```mermaid\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    edges = set()
    for line in picture.splitlines()[1:]:
        ends = [re.sub(r"\W*\[\(.*?\)\]", "", end) for end in re.split(r'--> | -- ".*?" --> |-\. ".*?" \.-> ', line)]
        groups = [[name.strip() for name in end.split("&")] for end in ends]
        edges |= {(one, other) for before, after in pairwise(groups) for one in before for other in after}
    return edges


def test_the_graph_is_drawn_as_it_is() -> None:
    """Every arrow between jobs, but for the dataset's, which lead to all that compute."""
    made: dict[str, str] = {}
    edges = {("dataset", "pretrain"), ("pretrain", "filter")}
    for job in Graph(read_study(yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text("utf-8")))).all_jobs():
        made |= dict.fromkeys(job.outputs.values(), job.stage)
        edges |= {(made[path], job.stage) for paths in job.inputs.values() for path in paths if path in made}
    edges -= {edge for edge in edges if edge[0] == "dataset" and edge[1] != "pretrain"}
    assert drawn_edges() == edges


def test_the_attacks_that_pages_show_are_attacks() -> None:
    """Keys that no attack has any more would be refused; other blocks of these pages are tested by their examples."""
    found = [yaml.safe_load(body) for body in blocks("import-poisons.md", "yaml")]
    shown = [attack for block in found for attack in (block["attacks"] if isinstance(block, dict) else block)]
    assert [TypeAdapter(AttackSettings).validate_python(attack).name for attack in shown] == ["downloaded", "bullseye"]


def test_the_queue_s_commands_name_results_that_exist() -> None:
    """Targets come first, as Snakemake takes all that follows --configfile and --config for theirs."""
    lines = (ROOT / "docs/gpu_runs.md").read_text("utf-8").replace("\\\n", " ").splitlines()
    checked = 0
    for command in (line.split(" #")[0] for line in lines if line.strip().startswith(".venv/bin/snakemake")):
        targets, _, options = command.partition("bin/snakemake ")[2].partition(" --")
        path = re.search(r"configfile (\S+)", options)
        assert path is not None, command
        graph = Graph(read_study(yaml.safe_load((ROOT / path[1]).read_text("utf-8"))))
        made = {output for job in graph.all_jobs() for output in job.outputs.values()}
        done = subprocess.run(["bash", "-c", f"echo {targets}"], capture_output=True, text=True, check=True)
        named = [target for target in done.stdout.split() if target not in ("results", "so_far")]
        assert set(named) <= made, command
        checked += len(named)
    assert checked > 10
