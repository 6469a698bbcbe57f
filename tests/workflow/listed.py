"""What Snakemake's report holds, read from its HTML page."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Listed:
    """The files of a report: by category and section, and each with its labels, caption and content."""

    categories: dict[str, dict[str, list[str]]]
    results: dict[str, dict[str, Any]]


def listed(page: Path) -> Listed:
    """Read the page of ``snakemake --report``."""
    text = page.read_text(encoding="utf-8")
    found = {}
    for name in ("categories", "results"):
        begin = re.search(rf'<script id="{name}">\s*var {name} = ', text)
        assert begin is not None, f"the report holds no {name}"
        found[name] = json.JSONDecoder().raw_decode(text, begin.end())[0]
    return Listed(**found)
