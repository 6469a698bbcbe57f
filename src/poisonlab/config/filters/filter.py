"""What every filter's settings have in common."""

from __future__ import annotations

from poisonlab.config.inspection import Inspection


class Filter(Inspection):
    """Drops training examples by what a network trained on all of them makes of them; the victim is trained anew."""
