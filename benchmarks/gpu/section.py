"""The input and the outcome of a section of the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peaks import Peaks

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """The input of every section.

    Attributes:
        device: ``cuda``, or ``cpu`` in a rehearsal.
        tiny: whether sizes are tiny, for a rehearsal that measures nothing.
        folder: an empty folder for the section's files.
        python: the interpreter that starts Snakemake and pytest.
        seconds: the section's limit; it is killed afterwards.
        peaks: of the device, if an earlier section measured them.
    """

    device: str
    tiny: bool
    folder: Path
    python: str
    seconds: float = 0.0
    peaks: Peaks | None = None

    @property
    def scale(self) -> str:
        """The scale of the benchmarks."""
        return "tiny" if self.tiny else "gpu"


class FaultError(Exception):
    """A fault that a section found, in one line."""


@dataclass
class Notes:
    """The findings of a section, passed on at once, so that they survive if the section fails or is killed.

    Attributes:
        facts: JSON values by name.
        tables: Markdown by title.
        tell: called with each fact and table when it is noted.
    """

    facts: dict[str, object] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    tell: Callable[[str, str, object], None] | None = None

    def fact(self, name: str, value: object) -> None:
        """Note a JSON value; it replaces an earlier value of the same name."""
        self._note("facts", name, value)

    def table(self, title: str, markdown: str) -> None:
        """Note a Markdown table for readers, unless it is empty."""
        if markdown:
            self._note("tables", title, markdown)

    def _note(self, kind: str, name: str, value: object) -> None:
        getattr(self, kind)[name] = value
        if self.tell is not None:
            self.tell(kind, name, value)


@dataclass(frozen=True)
class Section:
    """A part of the check.

    Attributes:
        seconds: its share of the seven minutes, estimated and not measured.
        work: runs the section, and raises an error if something is wrong.
    """

    name: str
    seconds: float
    work: Callable[[Check, Notes], None]


@dataclass(frozen=True)
class Outcome:
    """How a section ended.

    Attributes:
        limit: the section's limit in seconds.
        error: one line; None if it passed.
    """

    section: str
    state: State
    seconds: float
    limit: float
    error: str | None = None
    notes: Notes = field(default_factory=Notes)
