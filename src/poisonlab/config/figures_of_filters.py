"""Settings of the figures that show filters at work: features, layers, images, victims side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field

from poisonlab.config.figures import Figures
from poisonlab.config.types import Name, PositiveInt, Settings

ViewKind = Literal["projection", "layer-distances", "filtered-images"]


class ShownNetwork(Settings):
    """One network of a view: that of a victim under a row, or the one that the row's filters look at."""

    victim: Name
    """One of the attack's victims."""
    defense: Name
    """A row that faces the attack. With filters, the network is the one that they look at, and what they drop
    is marked; otherwise it is the row's own victim."""


class FeatureView(Settings):
    """What some networks make of the target, of the poisons and of the clean images of the two classes between them."""

    name: Name
    """Names the figures: ``<attack>/<figure>-<name>``."""
    attack: Name
    """Whose poisons are shown, those of one seed."""
    networks: Annotated[tuple[ShownNetwork, ...], Field(min_length=1, max_length=4)]
    """The panels or lines, in order."""
    draw: Annotated[tuple[ViewKind, ...], Field(min_length=1)] = ("projection",)
    """``projection``: features on the line through the class centroids and across it, dropped examples crossed;
    ``layer-distances``: how far poisons and their bases are from the target, layer by layer; ``filtered-images``:
    images that the filters of the first network with some dropped and kept."""
    published: Mapping[ViewKind, PositiveInt] = {}
    """The figure of the study's ``paper`` that each is set beside; only captions say so."""


class ByVictim(Settings):
    """An attack's success by victim and row, as bars. With the study's ``only_successes``, seeds count on which the
    attack succeeds undefended with the same victim."""

    attack: Name
    """An attack; it gives the figure its name, ``<attack>/by-victim``."""
    defenses: Annotated[tuple[Name, ...], Field(min_length=1, max_length=7)]
    """The rows that have a bar for each victim."""
    table: PositiveInt | None = None
    """The table in ``reference/<paper>`` with the published bars; none are drawn if not given. The caption has the
    other numbers that it holds of these victims and rows."""
    rows: Mapping[Name, str] = {}
    """What that table calls the victims, by their names here."""
    figure: PositiveInt | None = None
    """The figure of the study's ``paper`` that it is set beside; only the caption says so."""


class PublishedAblation(Settings):
    """Published numbers in the figure of an ablation of one setting."""

    name: Name
    """The ablation."""
    table: PositiveInt
    """The table in ``reference/<paper>`` with the numbers; its rows are called ``<setting> = <value>``."""
    figure: PositiveInt | None = None
    """The figure of the study's ``paper`` that it is set beside; only the caption says so."""


class AllFigures(Figures):
    """What is drawn. Figures of filters stand apart: programs that measure for the others need not know of them."""

    features: tuple[FeatureView, ...] = ()
    """Features of poisons in some networks, and what filters make of them; drawn whatever ``attacks`` says."""
    by_victim: tuple[ByVictim, ...] = ()
    """Bars of an attack's success by victim, one figure per attack."""
    ablations: tuple[PublishedAblation, ...] = ()
    """Published numbers beside those of an ablation; every ablation has a figure anyway."""
