"""`make docs`: the site is built without a warning, and all that it links to is in it."""

from __future__ import annotations

import os
import re
import shlex
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from doc_pages import ROOT
from harness import forked

import poisonlab


class Page(HTMLParser):
    """Anchors of a built page, and all that it links to or loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value for name, value in attributes if value}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        self.loaded |= {given["src"]} if "src" in given else set()
        if "href" in given:
            (self.loaded if tag == "link" else self.links).add(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Page]:
    """The pages that the command of the Makefile builds, in another folder."""
    place = tmp_path_factory.mktemp("site")
    makefile = (ROOT / "Makefile").read_text("utf-8")
    recipe = re.search(r"^\tPYTHONPATH=src\S* \$\(BIN\)/python (-m sphinx .*)$", makefile, re.M)
    assert recipe is not None
    options = shlex.split(recipe[1].replace("build/", f"{place}/"))
    assert "-W" in options
    variables = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = forked("jobs", [sys.executable, *options], ROOT, variables, 600)
    assert (done.code, done.output) == (0, "")
    return {path.resolve(): Page(path) for path in (place / "docs").rglob("*.html")}


def test_every_page_is_there(site: dict[Path, Page]) -> None:
    built = {path.stem for path in site if path.parent.name in ("docs", "api")}
    assert built >= {path.stem for path in (ROOT / "docs").rglob("*.md")}


def test_every_link_leads_into_the_site(site: dict[Path, Page]) -> None:
    broken = []
    for path, page in site.items():
        for link in page.links | page.loaded:
            url = urlsplit(link)
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if url.scheme in ("https", "data") and link not in page.loaded:
                continue
            anchored = not url.fragment or target not in site or url.fragment in site[target].ids
            if url.scheme or not target.exists() or not anchored:
                broken.append((path.name, link))
    assert broken == []
    assert sum(len(page.links) for page in site.values()) > 1000


def test_every_name_of_the_package_is_explained(site: dict[Path, Page]) -> None:
    (names,) = (page for path, page in site.items() if path.name == "names.html")
    assert {f"poisonlab.{name}" for name in poisonlab.__all__} <= names.ids


@pytest.mark.parametrize("package", ["attacks", "defenses", "detection", "filters"])
def test_every_method_is_explained(site: dict[Path, Page], package: str) -> None:
    (page,) = (page for path, page in site.items() if path.name == f"{package}.html" and path.parent.name == "api")
    modules = {path.stem for path in (ROOT / "src" / "poisonlab" / package).glob("[a-z]*.py")}
    assert {f"module-poisonlab.{package}.{module}" for module in modules} <= page.ids
