"""What filters and detectors have in common: they look at a trained network."""

from __future__ import annotations

from poisonlab.config.types import Name, Settings


class Inspection(Settings):
    """Settings of what looks at a network, by default a victim that another row has trained on the same poisons with
    the same seed."""

    method: str
    """Names the module that does it."""
    network: Name | None = None
    """The row whose victim is looked at; the first of the study's ``compare`` if not given."""
