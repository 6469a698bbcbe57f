"""What filters and detectors have in common: they look at a finished victim."""

from __future__ import annotations

from poisonlab.config.types import Name, Settings


class Inspection(Settings):
    """Settings of what looks at a victim that another row has trained on the same poisons with the same seed."""

    method: str
    """Names the module that does it."""
    network: Name = "none"
    """The row whose victim is looked at; without a defense, as published, if there is a row called none."""
