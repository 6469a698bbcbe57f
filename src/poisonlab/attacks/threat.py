"""The threat of one run: targets, adversarial label and base images, drawn by seed or read from a setup file."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from poisonlab.artifacts.poison_set import Goal
from poisonlab.attacks.attacker import Attacker, recognised
from poisonlab.config.attacks.attack import TargetedAttack
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.interchange.setups import read_setups


@dataclass(frozen=True)
class Threat:
    """A triggerless targeted attack's setup (Witches' Brew, section 3.1).

    Attributes:
        target_index: row of the test split; of the training split if ``unseen``.
        target_label: the target's true class.
        adversarial_label: the class the attacker wants; also the class of the bases (clean label).
        base_indices: (P,) int64, sorted rows of the training split.
        unseen: whether the target is a training image that no network is trained on (``unseen_targets``).
    """

    target_index: int
    target_label: int
    adversarial_label: int
    base_indices: Tensor
    unseen: bool = False

    def goal(self, dataset: ImageDataset) -> Goal:
        """The target image and its adversarial class, as a goal with one target."""
        images = dataset.train_images if self.unseen else dataset.test_images
        return Goal(
            targets=images[self.target_index][None],
            target_labels=torch.tensor([self.target_label]),
            adversarial_labels=torch.tensor([self.adversarial_label]),
        )


def poison_count(budget: float, size: int) -> int:
    """The number of poisons in a training set of ``size`` images: ``budget * size`` rounded up, at least one."""
    return max(1, math.ceil(round(budget * size, 6)))


def choose_threat(dataset: ImageDataset, attacker: Attacker, settings: TargetedAttack, seed: int) -> Threat:
    """The threat of a seed: entry ``seed`` of the setup file if the settings name one, otherwise drawn.

    Raises:
        SettingsError: the budget exceeds the adversarial class, no test image can be the target, or the setup file does
            not fit the dataset.
        DataError: the setup file is damaged.
    """
    if settings.setup is not None:
        return _from_setup(dataset, attacker, settings.setup, seed)
    eligible = recognised(dataset, attacker) if settings.target == "recognised" else None
    return draw_threat(dataset, settings.budget, seed, eligible, attacker.rows)


def draw_threat(
    dataset: ImageDataset,
    budget: float,
    seed: int,
    eligible: Tensor | None = None,
    rows: Tensor | None = None,
) -> Threat:
    """Draw target class, adversarial class, bases and target, all uniformly.

    Args:
        dataset: clean data.
        budget: poisons as a fraction of the images the victim is trained on, in (0, 1].
        seed: of all draws.
        eligible: (M,) bool, the test images that may become the target; all if not given.
        rows: (F,) int64 sorted, the training rows the victim is trained on; all if not given.

    Raises:
        SettingsError: the budget exceeds the adversarial class, or no test image of the target class is eligible.
    """
    rng = np.random.default_rng([seed, 2])
    target_label, adversarial_label = draw_classes(dataset, rng, None, None)
    pool = class_rows(dataset, adversarial_label, rows)
    size = len(dataset.train_labels) if rows is None else len(rows)
    bases = np.sort(rng.choice(pool, size=affordable(dataset, budget, size, adversarial_label, pool), replace=False))
    target = draw_target(dataset, rng, target_label, eligible)
    return Threat(target, target_label, adversarial_label, torch.from_numpy(bases.astype(np.int64)))


def draw_classes(
    dataset: ImageDataset, rng: np.random.Generator, target_label: int | str | None, adversarial_label: int | str | None
) -> tuple[int, int]:
    """The target's class and the adversarial class: as given, or both drawn if one of them is not given.

    They are drawn in any case, so that what is drawn after them does not depend on whether they are given.

    Raises:
        SettingsError: a class is unknown, or both classes are the same.
    """
    true = int(rng.integers(dataset.num_classes))
    wanted = int((true + 1 + rng.integers(dataset.num_classes - 1)) % dataset.num_classes)
    if target_label is not None and adversarial_label is not None:
        true = dataset.class_number(target_label, "target_label")
        wanted = dataset.class_number(adversarial_label, "adversarial_label")
    if true == wanted:
        raise SettingsError(f"target_label and adversarial_label are both class {dataset.class_names[true]!r}")
    return true, wanted


def draw_target(dataset: ImageDataset, rng: np.random.Generator, label: int, eligible: Tensor | None) -> int:
    """The row of a test image of class ``label`` among the ``eligible`` ones, (M,) bool; all if None.

    Raises:
        SettingsError: there is no such image.
    """
    candidates = np.flatnonzero(dataset.test_labels.numpy() == label)
    if len(candidates) == 0:
        raise SettingsError(
            f"class {dataset.class_names[label]!r} has no test image that could be the target: add some to it, or use "
            "seeds whose target is of another class"
        )
    if eligible is not None:
        candidates = candidates[eligible.numpy()[candidates]]
    if len(candidates) == 0:
        raise SettingsError(
            f"no test image of class {dataset.class_names[label]!r} can be the target: use more test images, train the "
            "surrogates better, or set target: random"
        )
    return int(rng.choice(candidates))


def class_rows(dataset: ImageDataset, label: int, rows: Tensor | None) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Sorted training rows of class ``label``, among ``rows`` if given."""
    among = np.arange(len(dataset.train_labels)) if rows is None else rows.numpy()
    chosen: np.ndarray[tuple[int], np.dtype[np.int64]] = among[dataset.train_labels.numpy()[among] == label]
    return chosen


def affordable(
    dataset: ImageDataset,
    budget: float,
    size: int,
    label: int,
    pool: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> int:
    """The number of poisons of ``budget``, see ``poison_count``.

    Raises:
        SettingsError: ``pool``, the training rows of class ``label``, has fewer rows.
    """
    count = poison_count(budget, size)
    if count > len(pool):
        cure = f"lower the budget to at most {_most(len(pool), size)}" if len(pool) else "train victims on more images"
        raise SettingsError(
            f"budget {budget:g} asks for {count} poisons, but class {dataset.class_names[label]!r} has "
            f"only {len(pool)} training images: {cure}"
        )
    return count


def _most(count: int, size: int) -> str:
    """``count / size`` rounded down to at least four digits, so that the budget buys no more than ``count``."""
    digits = 4 + math.floor(math.log10(size / count))
    return f"{10**digits * count // size / 10**digits:.{digits}f}".rstrip("0")


def _from_setup(dataset: ImageDataset, attacker: Attacker, path: str, seed: int) -> Threat:
    setups = read_setups(Path(path))
    if seed >= len(setups):
        raise SettingsError(f"{path} has setups 0 to {len(setups) - 1}, so seed {seed} has none: use smaller seeds")
    setup, bases = setups[seed], setups[seed].base_indices.sort().values
    where = f"setup {seed} of {path}"
    if setup.target_index >= len(dataset.test_labels) or int(bases[-1]) >= len(dataset.train_labels):
        raise SettingsError(f"{where} names images beyond the dataset: use the whole dataset, without limits")
    target_label = int(dataset.test_labels[setup.target_index])
    labels = set(dataset.train_labels[bases].tolist())
    if target_label != setup.target_class or labels != {setup.base_class}:
        raise SettingsError(
            f"{where} says target class {setup.target_class} and base class {setup.base_class}, but the dataset has "
            f"{target_label} and {sorted(labels)} there: it was made for another dataset or order of images"
        )
    if target_label == setup.base_class:
        raise SettingsError(f"{where}: target and bases are both of class {target_label}: use a setup with two classes")
    missing = bases[~torch.isin(bases, attacker.pool(dataset))]
    if len(missing):
        raise SettingsError(f"{where}: base {int(missing[0])} is not among the images the victim is fine-tuned on")
    return Threat(setup.target_index, target_label, setup.base_class, bases)
