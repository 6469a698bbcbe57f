"""Common settings of attacks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from poisonlab.config.measures import (
    ACCURACY,
    ADVERSARIAL_CONFIDENCE,
    FIRST_EPOCH,
    PEAK_ACCURACY,
    PEAK_EPOCH,
    STOPPED_CLEAN,
    STOPPED_POISONED,
    SUCCESS,
    SUCCESS_RATE,
    UNTRIGGERED_SUCCESS,
    Measure,
)
from poisonlab.config.types import (
    ONE,
    SEVERAL,
    Fraction,
    InputPath,
    Name,
    PositiveFloat,
    PositiveLevels,
    Settings,
    below_one_level,
    distinct,
    one_or_several,
)
from poisonlab.errors import SettingsError

Names = Annotated[
    Annotated[Name, Tag(ONE)] | Annotated[tuple[Name, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(one_or_several),
]
"""A name or a list of names; a mistake is reported for the form that was meant."""


TARGETED = (SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY)
"""Measures of an attack on one target."""
BACKDOOR = (SUCCESS_RATE, UNTRIGGERED_SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY)
"""Measures of an attack on many images, most often with a trigger."""
UNTARGETED = (PEAK_ACCURACY, FIRST_EPOCH, PEAK_EPOCH, STOPPED_CLEAN, STOPPED_POISONED, ACCURACY)
"""Measures of an attack without a goal, on the accuracy as a whole."""
LOW_LOSS = 0.5
"""The level of the training loss in "Poisons that are learned faster are more effective" (Sandoval-Segura et al.
2022)."""


class Published(Settings):
    """A place in the tables of the study's paper."""

    table: Annotated[int, Field(ge=1, le=99)]
    """The table's number."""
    row: str | None = None
    """Name of its rows in ``reference/<paper>/*.csv``, if the table holds several attacks."""


class Attack(Settings):
    """Settings that every attack has, besides its own."""

    around_poison: ClassVar[bool] = False
    """Whether figure 2 (the matching loss around one poison) has a meaning for it."""

    name: Name
    """Names the attack's folder and its rows in the tables."""
    method: str
    """Names the module of ``poisonlab.attacks`` that crafts the poisons."""
    victims: Annotated[tuple[Name, ...], Field(min_length=1), AfterValidator(distinct)] | None = None
    """The entries of ``victims`` that are trained on the poisons, each separately; the first if not given."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] | None = None
    """Which of the study's seeds it runs with; all if not given. Seeds that the study does not list are ignored, so
    that a study can grow a few seeds at a time."""
    published: tuple[Published, ...] = ()
    """Its places in the tables of the study's ``paper``. The study's own table sets the numbers of the first place
    beside its results. Each place's table is also made in the paper's layout."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Measures of its outcome, the main one first."""
        return TARGETED

    @property
    def history_level(self) -> float | None:
        """Training loss that ``first_epoch`` waits for, of an attack without a goal; None with a goal."""
        return None

    @property
    def has_goal(self) -> bool:
        """Whether it aims at single targets or a trigger, rather than at the victim's accuracy."""
        return self.history_level is None

    @property
    def surrogates(self) -> tuple[str, ...]:
        """The names of its surrogates: of its setting ``surrogate``, if it has one."""
        named: str | tuple[str, ...] = getattr(self, "surrogate", ())
        return (named,) if isinstance(named, str) else named

    @property
    def pretrained_networks(self) -> int:
        """How many trained networks of each surrogate and seed the attack receives."""
        return 0

    @property
    def trains_networks(self) -> bool:
        """Whether it trains networks of its own, from scratch, on the rows that the victim is trained on."""
        return False

    @property
    def bound(self) -> float | None:
        """The l-infinity bound that the shipped poisons must keep, in levels: its setting ``eps``, if it has one."""
        bound: float | None = getattr(self, "eps", None)
        return bound

    def files(self, seed: int) -> Sequence[Path]:
        """Files the attack reads besides data and surrogates; their content decides the poisons.

        Raises:
            SettingsError: one is missing.
        """
        return ()


class CraftedAttack(Attack):
    """An attack that crafts its poisons on surrogates, within a bound."""

    surrogate: Names
    """Name of an entry of ``surrogates``: the network the attacker crafts on; a list for several architectures. Poisons
    are augmented as the recipe of the first one says."""
    ensemble: Annotated[int, Field(ge=1, le=1000)] = 1
    """Number of networks per surrogate and seed."""
    budget: Fraction = 0.01
    """Poisons as a fraction of the images that the victim is trained on."""
    eps: PositiveLevels = 16.0
    """Bound on every pixel's change, in levels of 1/255 (xi in FRIENDS)."""
    precision: Literal["uint8", "float32"] = "uint8"
    """Whether poisons are shipped as 8-bit images."""

    @model_validator(mode="after")
    def _check_bound(self) -> CraftedAttack:
        if self.precision == "uint8" and self.eps < 1:
            raise ValueError(
                f"attack {self.name!r}: eps {below_one_level(self.eps)} (less than a level "
                "changes no 8-bit pixel: it would need precision: float32)"
            )
        return self

    @property
    def pretrained_networks(self) -> int:
        """An ensemble of each."""
        return self.ensemble


class TargetedAttack(CraftedAttack):
    """An attack on single test images, without a trigger."""

    target: Literal["random", "recognised"] = "random"
    """``random``: any test image of the target class (Witches' Brew); ``recognised``: one that all surrogates classify
    correctly, so that a success is not just an ambiguous image (as in the deep k-NN paper)."""
    setup: InputPath | None = None
    """A setup file of the public poisoning benchmark: seed k takes target and bases from its entry k; budget is not
    used."""

    @model_validator(mode="after")
    def _check_setup(self) -> TargetedAttack:
        usual = type(self).model_fields["target"].default
        if self.setup is not None and self.target == "recognised" != usual:
            raise ValueError(f"attack {self.name!r}: the setup file has the targets, so leave out target: recognised")
        return self

    def files(self, seed: int) -> Sequence[Path]:
        """The setup file, if one is given."""
        return () if self.setup is None else (existing(self.setup, f"attack {self.name!r}: setup"),)


class AvailabilityAttack(Attack):
    """An attack on the accuracy as a whole, which may poison every image."""

    budget: Fraction = 1.0
    """Poisons as a fraction of the images that the victim is trained on, drawn from all classes alike."""
    low_loss: PositiveFloat = LOW_LOSS
    """Level of the training loss that ``first_epoch`` waits for."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Peak accuracy, how fast the poisons are learned, and the accuracy at the end."""
        return UNTARGETED

    @property
    def history_level(self) -> float | None:
        """``low_loss``."""
        return self.low_loss


class AdversarialAvailabilityAttack(AvailabilityAttack):
    """An availability attack by adversarial examples of networks that were trained on clean data."""

    surrogate: Names
    """Name of an entry of ``surrogates``, trained on clean data; with several, their mean loss counts."""

    @property
    def pretrained_networks(self) -> int:
        """One of each surrogate."""
        return 1


def existing(path: str, what: str) -> Path:
    """``path``, if it is a file.

    Raises:
        SettingsError: the file is missing or cannot be read.
    """
    try:
        found = Path(path).is_file()
    except OSError as error:  # a folder on the way that may not be entered, or a name too long
        raise SettingsError(f"{what}: {path} cannot be read ({error.strerror}): check the path") from error
    if not found:
        raise SettingsError(f"{what}: there is no file {path}: check the path, which counts from {Path.cwd()}")
    return Path(path)
