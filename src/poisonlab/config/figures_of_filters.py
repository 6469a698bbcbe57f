"""Settings of the figures that show filters at work: features, layers, images, victims side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.figures import Figures
from poisonlab.config.figures_of_attacks import CurveGroup
from poisonlab.config.types import Name, PositiveInt, Settings

ViewKind = Literal["projection", "layer-distances", "filtered-images"]


class ShownNetwork(Settings):
    """One network of a view: that of a victim under a row, or the one that the row's filters look at."""

    victim: Name
    """One of the attack's victims."""
    defense: Name
    """A row that faces the attack. If it has filters, the network is the one that they look at, and dropped examples
    are marked. Otherwise the network is the row's own victim."""


class FeatureView(Settings):
    """The target, the poisons and clean images of the target's and the adversarial class, as some networks see them."""

    name: Name
    """Names the figures: ``<attack>/<figure>-<name>``."""
    attack: Name
    """The attack whose poisons of one seed are shown."""
    networks: Annotated[tuple[ShownNetwork, ...], Field(min_length=1, max_length=4)]
    """The panels or lines, in order."""
    draw: Annotated[tuple[ViewKind, ...], Field(min_length=1)] = ("projection",)
    """``projection``: features on the line through the class centroids and across it, dropped examples crossed;
    ``layer-distances``: how far poisons and their bases are from the target, layer by layer; ``filtered-images``:
    images dropped and kept by the filters of the first network whose row has filters."""
    published: Mapping[ViewKind, PositiveInt] = {}
    """Number of the matching figure in the study's ``paper``; only captions name it."""


class ByVictim(Settings):
    """An attack's success by victim and row, as bars. With the study's ``only_successes``, only seeds count on which
    the attack succeeds undefended with the same victim."""

    attack: Name
    """An attack; it gives the figure its name, ``<attack>/by-victim``."""
    defenses: Annotated[tuple[Name, ...], Field(min_length=1, max_length=7)]
    """The rows that have a bar for each victim."""
    table: PositiveInt | None = None
    """The table in ``reference/<paper>`` with the published bars; none are drawn if not given. The caption gives its
    other numbers on these victims and rows."""
    rows: Mapping[Name, str] = {}
    """The victims' names in that table, by their names here."""
    figure: PositiveInt | None = None
    """Number of the matching figure in the study's ``paper``; only the caption names it."""


class PublishedAblation(Settings):
    """Published numbers in the figure of an ablation of one setting."""

    name: Name
    """The ablation."""
    table: PositiveInt
    """The table in ``reference/<paper>`` with the numbers; its rows are called ``<setting> = <value>``."""
    figure: PositiveInt | None = None
    """Number of the matching figure in the study's ``paper``; only the caption names it."""


class AllFigures(Figures):
    """What is drawn. Figures of filters and comparisons of attacks are kept out of ``Figures``: programs that measure
    for the other figures do not depend on them."""

    curves: Annotated[tuple[CurveGroup, ...], Field(max_length=4)] = ()
    """The columns of ``poison-curves``, the learning curves of undefended victims of attacks without a goal. If not
    given, these are optimised poisons, regions noise and low-frequency noise."""
    features: tuple[FeatureView, ...] = ()
    """Features of poisons in some networks, and which poisons filters drop; drawn whatever ``attacks`` says."""
    by_victim: tuple[ByVictim, ...] = ()
    """Bars of an attack's success by victim, one figure per attack."""
    ablations: tuple[PublishedAblation, ...] = ()
    """Published numbers beside those of an ablation; every ablation has a figure anyway."""
