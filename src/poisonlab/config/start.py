"""How a victim begins, as its job receives it."""

from __future__ import annotations

from typing import Literal

from poisonlab.config.types import PositiveInt, Settings


class Start(Settings):
    """How a victim begins, and which images it is trained on."""

    scenario: Literal["from-scratch", "transfer", "fine-tune"] = "from-scratch"
    """``from-scratch``: random weights; ``transfer``: the features of a pretrained network stay as they are and a
    linear head is trained on them; ``fine-tune``: a pretrained network is trained on, end to end."""
    head: Literal["fresh", "kept"] = "fresh"
    """Whether the head of a pretrained network is drawn again (FRIENDS, the poisoning benchmark) or kept (convex
    polytope)."""
    batch_norm: Literal["eval", "train"] = "eval"
    """Batch norm of frozen features. ``eval``: its statistics are frozen, too (as published); ``train``: they follow
    the batches (as FRIENDS was released)."""
    fine_tune_per_class: PositiveInt | None = None
    """Number of last training images of each class that the victim is fine-tuned on and bases are drawn from; all if
    not given."""
