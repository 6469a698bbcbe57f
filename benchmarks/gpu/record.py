"""The record of a check, as JSON and as Markdown."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contest import markdown

from gpu.section import Outcome

REHEARSAL = "A rehearsal on a CPU at tiny sizes: it shows that the check's code runs, and nothing about a GPU."


@dataclass(frozen=True)
class Record:
    """A check that has ended.

    Attributes:
        device: the GPU's name; a processor's in a rehearsal.
        minutes: the time limit of the check.
        unasked: names of sections that were not requested.
    """

    device: str
    rehearsal: bool
    commit: str | None
    minutes: float
    outcomes: Sequence[Outcome]
    unasked: Sequence[str] = ()

    @property
    def failed(self) -> list[str]:
        """Names of the sections that failed."""
        return [outcome.section for outcome in self.outcomes if outcome.state == "failed"]

    @property
    def name(self) -> str:
        """Name of the record's files, without the ending: date and GPU."""
        what = f"rehearsal-{self.device}" if self.rehearsal else self.device
        return f"{time.strftime('%Y-%m-%d')}-{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}"

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Write both files; they replace a record of the same day and GPU."""
        folder.mkdir(parents=True, exist_ok=True)
        read, kept = folder / f"{self.name}.md", folder / f"{self.name}.json"
        read.write_text(self.as_markdown(), encoding="utf-8")
        kept.write_text(json.dumps(self.as_json(), indent=1) + "\n", encoding="utf-8")
        return read, kept

    def as_json(self) -> dict[str, object]:
        """Everything that was noted, except the tables."""
        return {
            "rehearsal": self.rehearsal,
            "date": time.strftime("%Y-%m-%d"),
            "device": self.device,
            "commit": self.commit,
            "minutes": self.minutes,
            "seconds": round(sum(outcome.seconds for outcome in self.outcomes), 1),
            "failed": self.failed,
            "not_asked_for": list(self.unasked),
            "sections": {
                outcome.section: {
                    "state": outcome.state,
                    "seconds": round(outcome.seconds, 1),
                    "limit": round(outcome.limit, 1),
                    "error": outcome.error,
                    "facts": outcome.notes.facts,
                }
                for outcome in self.outcomes
            },
        }

    def as_markdown(self) -> str:
        """States first, then what each section noted."""
        title = "Rehearsal of the GPU check" if self.rehearsal else f"GPU check on {self.device}"
        rows = [
            [outcome.section, outcome.state, f"{outcome.seconds:.0f}", f"{outcome.limit:.0f}", outcome.error or ""]
            for outcome in self.outcomes
        ]
        rows += [[name, "not asked for", "", "", ""] for name in self.unasked]
        states = markdown(["section", "state", "seconds", "limit", "error"], [_cells(row) for row in rows])
        head = f"{time.strftime('%Y-%m-%d')}, commit {self.commit}, {self.device}, {self.minutes:g} minutes at most."
        parts = [f"# {title}", *([REHEARSAL] if self.rehearsal else []), head, states]
        for outcome in self.outcomes:
            parts += [f"## {outcome.section}", *_noted(outcome)]
        return "\n\n".join(parts) + "\n"


def _noted(outcome: Outcome) -> list[str]:
    plain = {name: value for name, value in outcome.notes.facts.items() if isinstance(value, str | int | float)}
    lines = [f"- {name}: {f'{value:.4g}' if isinstance(value, float) else value}" for name, value in plain.items()]
    for name, values in outcome.notes.facts.items():
        if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
            lines += [f"- {name}:", *(f"  - `{value}`" for value in values)]
    found = ["\n".join(lines)] if lines else []
    if outcome.error is not None:
        found.insert(0, f"{outcome.state.capitalize()}: {outcome.error}")
    return found + [f"{title}:\n\n{table}" for title, table in outcome.notes.tables.items()]


def _cells(row: Sequence[str]) -> list[str]:
    return [cell.replace("|", "\\|") for cell in row]
