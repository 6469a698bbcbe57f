"""Which defenses cannot share a training, for a study's rows and for lists given to the package."""

from __future__ import annotations

from collections.abc import Sequence

ONCE = ("friendly-noise", "strong-augmentation", "abl", "dp-sgd", "early-stopping")
"""Defenses that a training may apply only once."""

CLASHES = (
    ("dp-sgd", "strong-augmentation", "mixed examples have no gradients of their own"),
    ("dp-sgd", "gradient-shaping", "both clip and add noise"),
    ("dp-sgd", "epic", "its privacy guarantee needs a fixed training set"),
    ("dp-sgd", "abl", "its privacy guarantee needs a fixed training set"),
    ("dp-sgd", "adversarial-poisoning", "an example would change with the others of its batch"),
    ("abl", "epic", "both decide which examples are left"),
    ("abl", "early-stopping", "abl has to run all of its phases"),
    ("abl", "strong-augmentation", "abl needs labels that are not mixed"),
)
"""Pairs of defenses that cannot share a training, and why."""


def clash(methods: Sequence[str]) -> str | None:
    """Why defenses of these methods cannot share a training; None if they can."""
    for once in ONCE:
        if methods.count(once) > 1:
            return f"{once} is listed twice: list it once"
    for first, second, why in CLASHES:
        if first in methods and second in methods:
            return f"{first} does not go with {second}: {why}"
    return None
