"""Settings of poisons made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from poisonlab.config.attacks.attack import BACKDOOR, LOW_LOSS, UNTARGETED, Attack
from poisonlab.config.data.source import ChannelValues
from poisonlab.config.measures import Measure
from poisonlab.config.types import (
    A_FILE,
    A_SUBSET,
    LATER,
    ONE,
    SEVERAL,
    ClassLabel,
    FilePath,
    PositiveFloat,
    PositiveInt,
    Settings,
    WholeLevel,
    one_or_several,
)
from poisonlab.errors import SettingsError


class LastPerClass(Settings):
    """The last training images of each class, in the order of the training set."""

    last_per_class: PositiveInt
    """How many of each class; 200 for the releases of convex polytope, Bullseye Polytope and deep k-NN."""
    moved: Annotated[int, Field(ge=0), LATER] = 0
    """``first`` of a dataset of source ``set-apart``: so many of these images have gone to the end of their class,
    while positions count them where they were."""

    @model_validator(mode="after")
    def _check_moved(self) -> LastPerClass:
        if self.moved > self.last_per_class:
            raise ValueError(f"moved ({self.moved}) exceeds last_per_class ({self.last_per_class}): lower moved")
        return self


Rows = Annotated[
    Annotated[FilePath, Tag(A_FILE)] | Annotated[LastPerClass, Tag(A_SUBSET)],
    Discriminator(lambda value: A_FILE if isinstance(value, str) else A_SUBSET),
]
Files = Annotated[
    Annotated[FilePath, Tag(ONE)] | Annotated[tuple[FilePath, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(one_or_several),
]
APPENDED = "appended"


class Imported(Attack):
    """Poisons that were made elsewhere, in one of the formats of docs/import-poisons.md."""

    method: Literal["imported"] = "imported"
    path: FilePath
    """A file or folder; ``{seed}`` in it stands for the seed."""
    eps: WholeLevel | None = None
    """Bound that the poisons must keep, in levels of 1/255; not checked if not given."""
    mean: ChannelValues | None = None
    """Mean that float images were normalised with, to undo it."""
    std: ChannelValues | None = None
    """Standard deviation that float images, or changes of images, were normalised with."""
    holds: Annotated[Literal["images", "changes"] | None, LATER] = None
    """What a file of one array holds, if its values do not tell: images, or changes to add to them."""
    signs: Annotated[Literal["both", "plus"], LATER] = "both"
    """Which part of changes is added; plus drops the negative part, as the loader of Unlearnable Examples does."""
    rows: Annotated[Rows | None, LATER] = None
    """Training rows of the poisons: a file of row numbers (.npy, .pth, .pickle) or a subset. The file's positions index
    these rows; without positions, its poisons take them in order. ``appended`` if the poisons are added to the training
    set."""
    targeted: Annotated[bool, LATER] = True
    """Whether single images or a trigger are the goal. False for poisons against the accuracy as a whole, whose files
    hold no target."""
    low_loss: Annotated[PositiveFloat, LATER] = LOW_LOSS
    """Level of the training loss that ``first_epoch`` waits for, if the poisons are not targeted."""
    target_index: Annotated[int, Field(ge=0)] | None = None
    """Row of the test split that is the target, where the files hold none."""
    target_split: Annotated[Literal["test", "train"], LATER] = "test"
    """Split that ``target_index`` counts in."""
    target_among_last: Annotated[PositiveInt | None, LATER] = None
    """How many of the last training images of class ``target_label`` may be targets, except those that victims are
    fine-tuned on. Seed t attacks image t of them, from 0, as in convex polytope and deep k-NN."""
    target_files: Annotated[Files | None, LATER] = None
    """Image files that are the targets, where the files of the poisons hold none; resized to the dataset's images. They
    need a ``target_label``."""
    target_label: ClassLabel | None = None
    """True class of the targets, by name or number, where the files hold targets without it."""
    adversarial_label: ClassLabel | None = None
    """Class the attacker wants, by name or number; that of the poisons if not given."""
    all_to_all: Annotated[bool, LATER] = False
    """Whether the attacker wants targets classified as the class after their own, and those of the last class as the
    first."""
    allow_mismatch: Annotated[bool, LATER] = False
    """Whether to accept poisons that look unlike the training images that they replace. By default they are refused if
    most do, because their rows then count another order of the images. The same holds for targets that are test images
    of another class than their label says."""

    @model_validator(mode="after")
    def _check_path(self) -> Imported:
        for name, path in (
            ("path", self.path),
            ("rows", self.rows),
            *(("target_files", file) for file in self._photos),
        ):
            if isinstance(path, str) and set("{}") & set(path.replace("{seed}", "")):
                raise ValueError(f"attack {self.name!r}: {name} must not hold braces except {{seed}}")
        return self

    @model_validator(mode="after")
    def _check_goal(self) -> Imported:
        for name in ("target_index", "target_among_last", "target_files", "target_label", "adversarial_label"):
            if not self.targeted and getattr(self, name) is not None:
                raise ValueError(f"attack {self.name!r} is not targeted, so it takes no {name}")
        if self.target_files is not None and (self.target_index is not None or self.target_label is None):
            cure = "leave out target_index" if self.target_label is not None else "give target_label, their true class"
            raise ValueError(f"attack {self.name!r} has target_files: {cure}")
        if self.target_among_last is not None:
            for name in ("target_index", "target_files"):
                if getattr(self, name) is not None:
                    raise ValueError(f"attack {self.name!r} has target_among_last: leave out {name}")
            if self.target_label is None:
                raise ValueError(f"attack {self.name!r} has target_among_last: give target_label, the targets' class")
        if self.target_split == "train" and self.target_index is None:
            raise ValueError(f"attack {self.name!r}: target_split says where target_index counts: give target_index")
        if self.all_to_all and (not self.targeted or self.adversarial_label is not None):
            other = "adversarial_label" if self.targeted else "targeted: false"
            raise ValueError(f"attack {self.name!r}: all_to_all and {other} contradict each other: leave one out")
        return self

    @model_validator(mode="after")
    def _both(self) -> Imported:
        if (self.mean is None) != (self.std is None):
            raise ValueError(f"attack {self.name!r}: give both mean and std, or neither")
        return self

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Those of a backdoor, for one or many targets, with or without a trigger; or those of an untargeted attack."""
        return BACKDOOR if self.targeted else UNTARGETED

    @property
    def history_level(self) -> float | None:
        """``low_loss``, if the poisons are not targeted."""
        return None if self.targeted else self.low_loss

    @property
    def counts_whole_set(self) -> bool:
        """Whether its rows count the whole training set; poisonlab's own poison sets may count a part."""
        return self.rows != APPENDED and not self.path.endswith(".safetensors")

    def at(self, seed: int) -> Path:
        """The file or folder of one seed."""
        return Path(self.path.replace("{seed}", str(seed)))

    def rows_at(self, seed: int) -> Path | None:
        """The file of row numbers of one seed, if ``rows`` is one."""
        if not isinstance(self.rows, str) or self.rows == APPENDED:
            return None
        return Path(self.rows.replace("{seed}", str(seed)))

    def photos_at(self, seed: int) -> tuple[Path, ...]:
        """The files of ``target_files`` of one seed."""
        return tuple(Path(file.replace("{seed}", str(seed))) for file in self._photos)

    @property
    def _photos(self) -> tuple[str, ...]:
        if self.target_files is None:
            return ()
        return (self.target_files,) if isinstance(self.target_files, str) else self.target_files

    def files(self, seed: int) -> Sequence[Path]:
        """The file, or every file of the folder, and the files of rows and targets."""
        path, rows = self.at(seed), self.rows_at(seed)
        others = (*([] if rows is None else [rows]), *self.photos_at(seed))
        try:
            if missing := [file for file in others if not file.is_file()]:
                raise SettingsError(f"attack {self.name!r}: {missing[0]} is missing: check rows and target_files")
            if path.is_file():
                return (path, *others)
            found = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else []
        except OSError as error:  # a folder that may not be entered, or a name too long
            raise SettingsError(f"attack {self.name!r}: {path} cannot be read ({error.strerror})") from error
        if not found:
            raise SettingsError(
                f"attack {self.name!r}: there is no file or folder of poisons at {path}: check path, which counts from "
                f"{Path.cwd()}, and {{seed}} in it"
            )
        return (*found, *others)
