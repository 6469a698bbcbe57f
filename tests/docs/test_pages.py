"""Pages agree with the code and with each other: links lead somewhere, and the house is drawn as it stands."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
from doc_pages import ROOT

from poisonlab.config.study import Study

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
