"""Common settings of detectors."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from poisonlab.config.inspection import Inspection


class Detector(Inspection):
    """Examines a trained network with the defender's clean images, and repairs it or watches its inputs."""

    clean_share: Annotated[float, Field(gt=0, le=1)] = 0.05
    """The defender's clean images, as a share of the clean training set, drawn at random for each seed."""
