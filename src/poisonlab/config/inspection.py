"""Common settings of filters and detectors, which look at a trained network."""

from __future__ import annotations

from poisonlab.config.types import Name, Settings


class Inspection(Settings):
    """Settings of a filter or detector. It looks at a network, by default the victim that another row has trained on
    the same poisons with the same seed."""

    method: str
    """Name of the module that implements it."""
    network: Name | None = None
    """The row whose victim it looks at; the first of the study's ``compare`` if not given."""
