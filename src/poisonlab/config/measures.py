"""Measures: what the outcome of an attack, or of a defense, is counted in.

The kind of a measure, never the numbers that came out, decides the interval and the test: Wilson's interval and exact
McNemar for an event, Student's t over seeds and a paired permutation for a rate or a value.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings

Kind = Literal["event", "rate", "value"]


class Measure(Settings):
    """One number per victim."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    """Its column in trials and tables."""
    label: str
    """Its title in tables and figures."""
    kind: Kind
    """``event``: yes or no per victim, 1 or 0; ``rate``: share of the targets or images of one victim, in [0, 1];
    ``value``: any other number. A rate over a single target is an event."""
    better: Literal["lower", "higher"]
    """Which direction is good for whoever trains the victim."""
    unit: Literal["%", "epochs", ""] = "%"
    """``%``: stored in [0, 1] and shown in percent."""


SUCCESS = Measure(name="success", label="Poison success", kind="event", better="lower")
"""Whether the one target gets the adversarial label."""
SUCCESS_RATE = Measure(name="success", label="Poison success", kind="rate", better="lower")
"""Share of the targets, or of the triggered images, that get the adversarial label."""
UNTRIGGERED_SUCCESS = Measure(name="untriggered_success", label="Without trigger", kind="rate", better="lower")
"""Share of the same images before the trigger is put on that get the adversarial label."""
ADVERSARIAL_CONFIDENCE = Measure(
    name="adversarial_confidence", label="Adversarial confidence", kind="value", better="lower"
)
"""Mean softmax probability of the adversarial label on the targets."""
ACCURACY = Measure(name="accuracy", label="Test accuracy", kind="value", better="higher")
"""Share of the test images classified correctly at the end of training."""
PEAK_ACCURACY = Measure(name="peak_accuracy", label="Peak accuracy", kind="value", better="higher")
"""The highest test accuracy of any epoch at which it was measured."""
FIRST_EPOCH = Measure(name="first_epoch", label="Epochs to low loss", kind="value", better="higher", unit="epochs")
"""Epochs until the training loss is first below a level; absent where it never is."""
FALSE_ALARMS = Measure(name="false_alarms", label="False alarms", kind="rate", better="lower")
"""Share of the clean test images that a detector turns away."""
PRIVACY_EPSILON = Measure(name="privacy_epsilon", label="epsilon", kind="value", better="lower", unit="")
"""Of (epsilon, 1/N) differential privacy of one victim's training."""
