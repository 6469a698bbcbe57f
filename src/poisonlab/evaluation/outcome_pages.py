"""How the rows of a results table fill the panels and pages of the figure that shows all of them.

The graph needs the number of pages before anything is run; the figure needs the content of its page.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from poisonlab.evaluation.trials import Row

PAGE_LINES = 61
"""Lines of 0.17 inch that fit a page of 11 inches beside its axis titles."""
PANEL_LINES = 2.5
"""Lines that a panel's title and margins take."""
FEWEST_JOINED = 3
"""Fewest attacks under a single defense that share a panel."""


@dataclass(frozen=True)
class Panel:
    """Rows that share axes."""

    rows: tuple[Row, ...]
    joined: bool
    """True: attacks on one victim under one defense. False: defenses of one attack and victim."""


def outcome_pages(rows: Sequence[Row], kinds: Mapping[str, Hashable]) -> list[list[Panel]]:
    """The panels of each page.

    Each attack and victim has a panel with a row for each defense. If at least ``FEWEST_JOINED`` attacks on a victim
    meet one and the same defense only, a panel of that defense with a row per attack replaces theirs. Such panels come
    first.

    Args:
        rows: attack, victim and defense, in the table's order.
        kinds: what each attack's panels show; only attacks of the same kind share a panel.

    Returns:
        The panels of each page, as many as fit. A panel too large for a page is split.
    """
    own: dict[tuple[str, str], list[Row]] = {}
    alike: dict[tuple[str, str, Hashable], list[Row]] = {}
    for row in rows:
        own.setdefault(row[:2], []).append(row)
        alike.setdefault((*row[1:], kinds[row[0]]), []).append(row)
    joined = [group for group in alike.values() if sum(len(own[row[:2]]) == 1 for row in group) >= FEWEST_JOINED]
    shown = {row for group in joined for row in group}
    panels = [Panel(tuple(group), True) for group in joined]
    panels += [Panel(tuple(group), False) for group in own.values() if len(group) > 1 or group[0] not in shown]
    pages: list[list[Panel]] = []
    left = 0.0
    for panel in (part for whole in panels for part in _parts(whole)):
        needed = len(panel.rows) + PANEL_LINES
        if not pages or needed > left:
            pages.append([])
            left = PAGE_LINES
        pages[-1].append(panel)
        left -= needed
    return pages


def _parts(panel: Panel) -> list[Panel]:
    most = int(PAGE_LINES - PANEL_LINES)
    return [Panel(panel.rows[first : first + most], panel.joined) for first in range(0, len(panel.rows), most)]
