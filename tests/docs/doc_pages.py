"""The pages of the repository, and the fenced code blocks in them."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "config/*.md", "reference/*.md", "results/reference/*.md")
    for path in ROOT.glob(pattern)
    if path.name != "DESIGN.md"
)
"""Every page that people read."""

_BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


def called(page: Path) -> str:
    """A page's path within the repository, also for ids of tests."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: str | Path, *languages: str) -> list[str]:
    """The blocks of docs/``page`` in one of ``languages``, in order."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    return [textwrap.dedent(body) for _, language, body in _BLOCK.findall(text) if language in languages]
