"""How a network under attack begins, as its job is told."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import PositiveInt, Settings


class Start(Settings):
    """How a victim begins, and which images it is trained on."""

    scenario: Literal["from-scratch", "transfer", "fine-tune"] = "from-scratch"
    """``from-scratch``: random weights; ``transfer``: the features of a pretrained network stay as they are and a
    linear head is trained on them; ``fine-tune``: a pretrained network is trained on, end to end."""
    head: Literal["fresh", "kept"] = "fresh"
    """Whether the head of a pretrained network is drawn anew (FRIENDS, the poisoning benchmark) or kept (convex
    polytope)."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Frozen features: ``eval``: batch norm's statistics are frozen, too (as published); ``train``: they follow the
    batches (as FRIENDS was released)."""
    fine_tune_per_class: PositiveInt | None = None
    """Fine-tune on the last so many training images of each class, and draw the bases from them; all if not given."""
