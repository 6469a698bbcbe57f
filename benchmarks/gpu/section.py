"""What a section of the check is given, and what is left of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from peaks import Peaks

State = Literal["passed", "failed", "skipped"]


@dataclass(frozen=True)
class Check:
    """What every section knows.

    Attributes:
        device: ``cuda``, or ``cpu`` in a rehearsal.
        tiny: sizes that show nothing, for a rehearsal.
        folder: for files of the section's own; empty.
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
        """Of the benchmarks."""
        return "tiny" if self.tiny else "gpu"


class FaultError(Exception):
    """What a section found wrong, in one line."""


@dataclass
class Notes:
    """What a section finds out, told at once, so that it outlives a section that fails or is killed.

    Attributes:
        facts: JSON values by name.
        tables: Markdown by title.
        tell: called with each of them as it is noted.
    """

    facts: dict[str, object] = field(default_factory=dict)
    tables: dict[str, str] = field(default_factory=dict)
    tell: Callable[[str, str, object], None] | None = None

    def fact(self, name: str, value: object) -> None:
        """A JSON value; noted again under the same name, it replaces the one before."""
        self._note("facts", name, value)

    def table(self, title: str, markdown: str) -> None:
        """Markdown that a reader sees; nothing if it is empty."""
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
        seconds: its share of the seven minutes; no measurement.
        work: raises whatever is wrong.
    """

    name: str
    seconds: float
    work: Callable[[Check, Notes], None]


@dataclass(frozen=True)
class Outcome:
    """How a section ended.

    Attributes:
        limit: seconds that it was given.
        error: one line; None if it passed.
    """

    section: str
    state: State
    seconds: float
    limit: float
    error: str | None = None
    notes: Notes = field(default_factory=Notes)
