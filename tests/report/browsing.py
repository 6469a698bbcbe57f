"""Pages in Chromium, and what they asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page


class Opened:
    """Opens pages, each in a profile of its own, and keeps what they asked for and what they complained about."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.asked: list[str] = []
        self.complaints: list[str] = []

    def page(self, html: Path, **context: Any) -> Page:
        page = self.browser.new_context(viewport={"width": 1200, "height": 900}, **context).new_page()
        page.set_default_timeout(10_000)
        page.route("http*://**/*", lambda route: route.abort())
        page.on("request", lambda request: self.asked.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.goto(html.as_uri())
        return page
