"""Settings of Sleeper Agent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from poisonlab.config.attacks.attack import BACKDOOR, existing
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.measures import Measure
from poisonlab.config.types import ClassLabel, FilePath, PositiveInt, Settings


class Patch(Settings):
    """The trigger."""

    size: PositiveInt = 8
    """Side in pixels."""
    image: FilePath | None = None
    """Any image file, resized to the patch; a generated patch of saturated colours if not given."""
    place: Literal["random", "bottom-right"] = "random"
    """``random``: a place drawn once for each image; ``bottom-right``: the same corner in all."""


class SleeperAgent(MatchingAttack):
    """Sleeper Agent: a hidden trigger, from scratch and with clean labels (Souri et al. 2022)."""

    method: Literal["sleeper-agent"] = "sleeper-agent"
    patch: Patch = Patch()
    """The trigger that the attacker puts on an image to have it misclassified."""
    source_class: ClassLabel | None = None
    """Name or number of the class whose images are to be misclassified; drawn by the seed if not given."""
    target_class: ClassLabel | None = None
    """Name or number of the class that they should get, which is also the bases'; drawn by the seed if not given."""
    selection: Literal["gradient-norm", "random"] = "gradient-norm"
    """Bases: those of the target class with the largest gradients on the clean surrogate, or random ones."""
    candidates: PositiveInt | None = None
    """Number of first images of the target class to choose from; all if not given."""
    retrain_every: Annotated[int, Field(ge=0)] = 50
    """Steps between retrainings of the surrogate from scratch on the current poisons, none before the last step; 0:
    never. With the defaults, retraining precedes steps 50, 100, 150 and 200 (0-based), one step earlier than in the
    release."""
    retrain_epochs: PositiveInt | None = None
    """Epochs of each retraining; the surrogate's own if not given. Its schedule is shortened with them."""
    sources_train: PositiveInt | None = None
    """Source images whose gradient is matched, from the training split; all if not given."""
    sources_test: PositiveInt | None = None
    """Test images of the source class on which success is measured; all if not given."""

    @model_validator(mode="after")
    def _check(self) -> SleeperAgent:
        if self.retrain_every and len(self.surrogates) > 1:
            raise ValueError(
                f"attack {self.name!r} retrains its surrogates, so it takes one architecture (and an ensemble of it): "
                "name one surrogate, or set retrain_every: 0"
            )
        if self.retrain_every and self.retrain_every >= self.steps - 1:
            raise ValueError(
                f"attack {self.name!r}: retrain_every {self.retrain_every} never retrains in {self.steps} steps, as "
                "the last step needs none: lower it, or set 0"
            )
        if self.source_class is not None and self.source_class == self.target_class:
            raise ValueError(f"attack {self.name!r}: source_class and target_class are both {self.source_class}")
        return self

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of a backdoor."""
        return BACKDOOR

    def files(self, seed: int) -> Sequence[Path]:
        """The trigger's image, if one is given."""
        return () if self.patch.image is None else (existing(self.patch.image, f"attack {self.name!r}: patch.image"),)

    @property
    def trains_networks(self) -> bool:
        """If it retrains its surrogate."""
        return bool(self.retrain_every)
