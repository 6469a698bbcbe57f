"""Measures: what the outcome of an attack, or of a defense, is counted in.

The kind of a measure, never the numbers that came out, decides the interval and the test. An event has Wilson's
interval and exact McNemar; rates and probabilities Gaffke's interval over seeds, a value Student's, and all three a
paired permutation.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.types import Settings

Kind = Literal["event", "rate", "probability", "value"]
Unit = Literal["%", "epochs", ""]


class Measure(Settings):
    """One number per victim."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=60)]
    """Its column in trials and tables."""
    label: str
    """Its title in tables and figures."""
    meaning: str = ""
    """What it is, as part of a sentence below the tables."""
    kind: Kind
    """``event``: yes or no per victim, 1 or 0; ``rate``: share of the targets or images of one victim, in [0, 1];
    ``probability``: any other number in [0, 1] that piles up at its ends; ``value``: any other number. A rate over a
    single target is an event."""
    better: Literal["lower", "higher"]
    """Which direction is good for whoever trains the victim."""
    unit: Unit = "%"
    """``%``: stored in [0, 1] and shown in percent."""

    @property
    def graded(self) -> bool:
        """Whether victims differ in it by degrees, and not by yes or no, or shares of it."""
        return self.kind in ("probability", "value")

    @property
    def called(self) -> str:
        """Its title within a sentence."""
        return self.label[:1].lower() + self.label[1:]


SUCCESS = Measure(
    name="success",
    label="Poison success",
    meaning="whether the target gets the adversarial label",
    kind="event",
    better="lower",
)
SUCCESS_RATE = Measure(
    name="success",
    label="Poison success",
    meaning="share of the targets, or of the triggered images, that get the adversarial label",
    kind="rate",
    better="lower",
)
UNTRIGGERED_SUCCESS = Measure(
    name="untriggered_success",
    label="Without trigger",
    meaning="share of the same images without the trigger that get the adversarial label",
    kind="rate",
    better="lower",
)
ADVERSARIAL_CONFIDENCE = Measure(
    name="adversarial_confidence",
    label="Adversarial confidence",
    meaning="mean softmax probability of the adversarial label on the targets",
    kind="probability",
    better="lower",
)
ACCURACY = Measure(
    name="accuracy",
    label="Test accuracy",
    meaning="share of the test images classified correctly at the end of training",
    kind="value",
    better="higher",
)
PEAK_ACCURACY = Measure(
    name="peak_accuracy",
    label="Peak accuracy",
    meaning="the highest test accuracy of any epoch at which it was measured",
    kind="value",
    better="higher",
)
FIRST_EPOCH = Measure(
    name="first_epoch",
    label="Epochs to low loss",
    meaning="epochs until the training loss first falls below a level; absent if it never does",
    kind="value",
    better="higher",
    unit="epochs",
)
PEAK_EPOCH = Measure(
    name="peak_epoch",
    label="Epoch of the peak",
    meaning="the first epoch with the peak accuracy, from 1",
    kind="value",
    better="higher",
    unit="epochs",
)
STOPPED_CLEAN = Measure(
    name="stopped_clean",
    label="Stopped by clean validation",
    meaning="test accuracy of the epoch with the highest accuracy on held-out clean images",
    kind="value",
    better="higher",
)
STOPPED_POISONED = Measure(
    name="stopped_poisoned",
    label="Stopped by poisoned validation",
    meaning="test accuracy of the epoch with the highest accuracy on held-out images, poisoned like the training set",
    kind="value",
    better="higher",
)
FALSE_ALARMS = Measure(
    name="false_alarms",
    label="False alarms",
    meaning="share of the clean test images that a detector rejects; they count as errors in test accuracy, and "
    "rejected targets as failures of the attack",
    kind="rate",
    better="lower",
)
PRIVACY_EPSILON = Measure(
    name="privacy_epsilon",
    label="epsilon",
    meaning="bound of the (epsilon, delta) differential privacy of one victim's training (RDP accountant), delta from "
    "the settings or 1/N; pretrained weights and friendly noise also depend on the training set and are not counted",
    kind="value",
    better="lower",
    unit="",
)
STOPPED_EPOCH = Measure(
    name="stopped_epoch",
    label="Epochs trained",
    meaning="epochs that a training took until early stopping ended it, or all of them",
    kind="value",
    better="lower",
    unit="epochs",
)
BEST_EPOCH = Measure(
    name="best_epoch",
    label="Best epoch",
    meaning="the epoch, counted from 1, that did best on the validation set of early stopping",
    kind="value",
    better="lower",
    unit="epochs",
)

POISONS_FOUND = Measure(
    name="poisons_found",
    label="Poisons found",
    meaning="share of the poisons that was dropped by the end of training",
    kind="rate",
    better="higher",
)
CLEAN_DROPPED = Measure(
    name="clean_dropped",
    label="Clean dropped",
    meaning="share of the clean training images that was dropped by the end of training",
    kind="rate",
    better="lower",
)
DROPPED = (POISONS_FOUND, CLEAN_DROPPED)
"""What filters and training-time defenses drop of the training set, where a paper's table prints it."""
MATTHEWS = Measure(
    name="matthews",
    label="Correlation (Matthews)",
    meaning="correlation of dropped and poisoned, over all training images",
    kind="value",
    better="higher",
    unit="",
)
OF_FILTERS = (*DROPPED, MATTHEWS)
"""What an ablation of a filter shows besides outcomes."""
REPORTED = (FALSE_ALARMS, PRIVACY_EPSILON, STOPPED_EPOCH, BEST_EPOCH)
"""What defenses and detectors report of a victim, whatever the attack."""
