"""Features, distances and images of a view, as its program measured them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonlab.artifacts import arrays as files
from poisonlab.errors import DataError
from poisonlab.figures.style import label_of

OWN, ADVERSARIAL, POISON = range(3)
"""Groups of the shown examples: clean ones of the target's class and of the adversarial class, poisons."""
_POINTS = ("points", "target", "to_target", "group", "dropped")
_LAYERS = ("layers", "layer_poisons", "layer_bases")
_IMAGES = ("images_target", "images_poisons", "images_dropped", "images_kept", "poisons_dropped")


@dataclass(frozen=True)
class Network:
    """One network of a view, with its features of the examples.

    Attributes:
        victim, defense: the victim and row of the network.
        known_as: the defense's name in the published tables, or its own.
        filtered: whether the row has filters; then this is the network that they look at.
        points: (M, 2) features in distances between the class centroids.
        target: (2,) the target's features, in the same unit.
        to_target: (M,) distances from the target in the whole feature space, in the same unit.
        group: (M,) ``OWN``, ``ADVERSARIAL`` or ``POISON``.
        dropped: (M,) bool, whether the filters dropped each example.
        layers: (L,) names of layers.
        layer_poisons, layer_bases: (L, P) distances from the target over the layer's mean norm.
        images: for a row with filters, (E, C, H, W) uint8 images by kind, and ``poisons_dropped`` (E,) bool.
    """

    victim: str
    defense: str
    known_as: str
    filtered: bool
    points: NDArray[Any]
    target: NDArray[Any]
    to_target: NDArray[Any]
    group: NDArray[Any]
    dropped: NDArray[Any]
    layers: list[str]
    layer_poisons: NDArray[Any]
    layer_bases: NDArray[Any]
    images: Mapping[str, NDArray[Any]]

    @property
    def called(self) -> str:
        """The network's name in figures."""
        return f"{self.victim}, {label_of(self.known_as)}"

    def share_dropped(self, group: int) -> tuple[int, int]:
        """How many examples of a group were dropped, and how many it has."""
        own = self.group == group
        return int((self.dropped & own).sum()), int(own.sum())

    def median_to_target(self, group: int) -> float:
        """Median distance of a group from the target."""
        return float(np.median(self.to_target[self.group == group]))


@dataclass(frozen=True)
class View:
    """The networks, and the names of the target's true class and of the adversarial class."""

    networks: tuple[Network, ...]
    classes: tuple[str, str]

    @property
    def groups(self) -> tuple[str, str, str]:
        """The groups' names for readers."""
        own, adversarial = self.classes
        return f"clean {own} (target's class)", f"clean {adversarial}", "poisons"


def read_view(path: Path) -> View:
    """Read what ``feature_view.py`` wrote.

    Raises:
        DataError: the file is missing, damaged, or no view.
    """
    arrays = files.read_arrays(path)
    try:
        named = zip(*(arrays[name] for name in ("victims", "defenses", "known_as", "filtered")), strict=True)
        networks = tuple(
            _network(arrays, place, (str(victim), str(defense), str(known_as)), bool(filtered))
            for place, (victim, defense, known_as, filtered) in enumerate(named)
        )
        own, adversarial = map(str, arrays["classes"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"{path} lacks parts of a view ({error}): is it the file of another figure?") from error
    if not networks:
        raise DataError(f"{path} holds no network: make it again")
    return View(networks, (own, adversarial))


def _network(arrays: Mapping[str, NDArray[Any]], place: int, named: tuple[str, str, str], filtered: bool) -> Network:
    found = {name: arrays[f"{name}.{place}"] for name in (*_POINTS, *_LAYERS)}
    count, layers = len(found["group"]), found.pop("layers")
    for name, shape in (("points", (count, 2)), ("target", (2,)), ("to_target", (count,)), ("dropped", (count,))):
        if found[name].shape != shape:
            raise ValueError(f"{name} is {found[name].shape}, not {shape}")
    for name in ("layer_poisons", "layer_bases"):
        if found[name].ndim != 2 or len(found[name]) != len(layers):
            raise ValueError(f"{name} is {found[name].shape} for {len(layers)} layers")
    numbers = np.concatenate([found[name].ravel() for name in ("points", "target", "layer_poisons", "layer_bases")])
    if not np.isfinite(numbers).all():
        raise ValueError("a number is not finite: did a training diverge?")
    if not all((found["group"] == group).any() for group in (OWN, ADVERSARIAL, POISON)):
        raise ValueError("a group has no example")
    return Network(
        **found,
        victim=named[0],
        defense=named[1],
        known_as=named[2],
        filtered=filtered,
        layers=[str(name) for name in layers],
        images={name: arrays[f"{name}.{place}"] for name in _IMAGES} if filtered else {},
    )
