"""Settings of targets among training images that no network is trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from poisonlab.config.types import ClassLabel, PositiveInt, Settings


class UnseenTarget(Settings):
    """The threat of convex polytope's authors: seed t attacks the t-th training image that nothing is trained on."""

    among_last: PositiveInt = 200
    """Number of last training images of the target's class among which it lies. The networks were not pretrained on
    them (``held_out_per_class``), and those that victims are fine-tuned on are left out. The first of the rest belongs
    to seed 0."""
    target_label: ClassLabel | None = None
    """True class of the target, by name or number; drawn by the seed if not given."""
    adversarial_label: ClassLabel | None = None
    """Class the attacker wants, that of the bases, by name or number; drawn by the seed if not given."""
    bases: Literal["first", "drawn"] = "first"
    """``first``: the first images of their class that victims are fine-tuned on, the same for every seed (as
    published); ``drawn``: any of them."""

    @model_validator(mode="after")
    def _check_labels(self) -> UnseenTarget:
        given = self.target_label, self.adversarial_label
        if (given[0] is None) != (given[1] is None):
            raise ValueError("give both target_label and adversarial_label, or neither")
        if given[0] is not None and given[0] == given[1]:
            raise ValueError(f"target_label and adversarial_label are both {given[0]}")
        return self
