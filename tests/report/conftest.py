"""A browser for all tests of the report, and pages that must not ask for anything nor complain."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
from browsing import Opened
from made_report import MadeReport
from playwright.sync_api import Browser, Page, sync_playwright


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Headless Chromium, the system's or Playwright's own; without one the tests are skipped."""
    with sync_playwright() as playwright:
        names = ("chromium", "chromium-browser", "google-chrome", playwright.chromium.executable_path)
        path = next(filter(None, map(shutil.which, names)), None)
        if path is None:
            pytest.skip("there is no Chromium: install it, or call `.venv/bin/playwright install --with-deps chromium`")
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> MadeReport:
    """A small study with its report."""
    study = MadeReport(tmp_path_factory.mktemp("made"))
    study.make()
    return study


@pytest.fixture
def opened(browser: Browser, made: MadeReport) -> Iterator[Opened]:
    """Whatever a test does, its pages load nothing but themselves and what they hold, and no script fails."""
    pages = Opened(browser)
    yield pages
    for context in browser.contexts:
        context.close()
    outside = [url for url in pages.asked if not url.startswith("data:image/png;") and not url.endswith(".html")]
    assert outside == []
    assert not [url for url in pages.asked if url.startswith("http")]
    assert pages.complaints == []


@pytest.fixture
def page(opened: Opened, made: MadeReport) -> Page:
    """The report of the small study."""
    return opened.page(made.html)
