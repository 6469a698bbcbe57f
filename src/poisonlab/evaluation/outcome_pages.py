"""How the rows of a results table share the panels and pages of the figure that shows all of them.

The graph asks how many pages there are before anything is run; the figure asks what stands on its page.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from poisonlab.evaluation.trials import Row

PAGE_LINES = 61
"""Lines of 0.17 inch that a page of 11 inches has beside its axis titles."""
PANEL_LINES = 2.5
"""Lines that the title and the spaces of a panel take."""
FEWEST_JOINED = 3
"""Attacks under one defense only, from which on they share a panel."""


@dataclass(frozen=True)
class Panel:
    """Rows that share axes."""

    rows: tuple[Row, ...]
    joined: bool
    """Attacks on one victim under one defense; otherwise defenses of one attack and victim."""


def outcome_pages(rows: Sequence[Row], kinds: Mapping[str, Hashable]) -> list[list[Panel]]:
    """The panels of each page.

    An attack with one victim has a panel with a row for each defense. Where several attacks on a victim meet one
    defense only, that defense has a panel in their place, with a row for every attack, first of all.

    Args:
        rows: attack, victim and defense, in the table's order.
        kinds: of each attack, what its panels show; attacks share a panel only if that is the same.

    Returns:
        As many panels on a page as have room there; a panel too large for a page has several.
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
