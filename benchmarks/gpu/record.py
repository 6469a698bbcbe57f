"""The record of a check, as JSON and as Markdown."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from contest import markdown

from gpu.section import Outcome
from poisonlab.runtime.failures import is_error, last_line

_LONGEST_LOG = 100_000
REHEARSAL = "A rehearsal on a CPU at tiny sizes: it shows that the check's code runs, and nothing about a GPU."


@dataclass(frozen=True)
class Record:
    """A check, from its beginning on.

    Attributes:
        device: the GPU's name; a processor's in a rehearsal.
        minutes: the time limit of the check.
        unasked: names of sections that were not requested.
        waiting: names of sections that have not ended.
        logs: of the sections that failed.
    """

    device: str
    rehearsal: bool
    commit: str | None
    minutes: float
    outcomes: Sequence[Outcome]
    unasked: Sequence[str] = ()
    waiting: Sequence[str] = ()
    logs: str = ""

    @property
    def failed(self) -> list[str]:
        """Names of the sections that failed."""
        return [outcome.section for outcome in self.outcomes if outcome.state == "failed"]

    @property
    def name(self) -> str:
        """Name of the record's files, without the ending: date and GPU."""
        what = f"rehearsal-{self.device}" if self.rehearsal else self.device
        return f"{time.strftime('%Y-%m-%d')}-{re.sub(r'[^a-z0-9]+', '-', what.lower()).strip('-')}"

    def after(self, outcome: Outcome, logs: str) -> Record:
        """The record after one more section has ended."""
        waiting = [name for name in self.waiting if name != outcome.section]
        return replace(self, outcomes=[*self.outcomes, outcome], waiting=waiting, logs=self.logs + logs)

    def write(self, folder: Path) -> list[Path]:
        """Write the files that have a content; they replace a record of the same day and GPU."""
        folder.mkdir(parents=True, exist_ok=True)
        texts = {"md": self.as_markdown(), "json": json.dumps(self.as_json(), indent=1) + "\n", "log": self.logs}
        paths = {folder / f"{self.name}.{ending}": text for ending, text in texts.items()}
        for path, text in paths.items():
            if text:
                path.write_text(text, encoding="utf-8")
            else:
                path.unlink(missing_ok=True)
        return [path for path, text in paths.items() if text]

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
            "not_ended": list(self.waiting),
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
        rows += [[name, "not ended", "", "", ""] for name in self.waiting]
        rows += [[name, "not asked for", "", "", ""] for name in self.unasked]
        states = markdown(["section", "state", "seconds", "limit", "error"], [_cells(row) for row in rows])
        head = f"{time.strftime('%Y-%m-%d')}, commit {self.commit}, {self.device}, {self.minutes:g} minutes at most."
        parts = [f"# {title}", *([REHEARSAL] if self.rehearsal else []), head, states]
        for outcome in self.outcomes:
            parts += [f"## {outcome.section}", *_noted(outcome)]
        return "\n\n".join(parts) + "\n"


def logs_of(folder: Path) -> str:
    """The ends of a section's logs: of those in its own folder, and of jobs that ended in an error."""
    found = [log for log in sorted(folder.rglob("*.log")) if log.parent == folder or is_error(last_line(log))]
    texts = [log.read_text(encoding="utf-8", errors="replace")[-_LONGEST_LOG:] for log in found]
    return "".join(f"=== {log.relative_to(folder.parent)}\n{text}\n" for log, text in zip(found, texts, strict=True))


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
