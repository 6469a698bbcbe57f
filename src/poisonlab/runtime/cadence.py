"""How often a run saves its state."""

from __future__ import annotations

import time


class Cadence:
    """Tells a run when its next save is due.

    Args:
        seconds: between the end of one save and the next; 0 for a save at every chance.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        """Whether ``seconds`` have passed since the last save, or since the start."""
        return time.monotonic() - self._last >= self._seconds

    def saved(self) -> None:
        """Call this after every save."""
        self._last = time.monotonic()
