"""Features of two classes, the poisons and their target on a plane, with dropped examples crossed (after figures 4 and
5 of the deep k-NN paper)."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import COLUMN_WIDTH, PAGE_WIDTH, STYLED, fitted, in_legend, legend_size
from poisonlab.figures.views import ADVERSARIAL, OWN, POISON, Network, View, read_view
from poisonlab.figures.wording import Beside as Spec
from poisonlab.figures.wording import number

_LOOKS: dict[int, dict[str, Any]] = {
    OWN: {"color": "#0072B2", "marker": "o"},
    ADVERSARIAL: {"color": "#009E73", "marker": "s"},
    POISON: {"color": "#D55E00", "marker": "^"},
}
"""Look of each group, in drawing order: poisons come last."""
_TARGET: dict[str, Any] = {"color": "black", "marker": "*", "markersize": 10, "markeredgecolor": "white"}
_SIZES = {OWN: 4.5, ADVERSARIAL: 4.5, POISON: 7}
_DARK = {OWN: "#003A63", ADVERSARIAL: "#00513B", POISON: "#7A3300"}
_CROWD = 500
"""From this many points on, points are small, pale, and one bitmap within the PDF."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``view`` (features of some networks, npz)."""
    view = read_view(inputs["view"][0])
    return projection(view), spec.begin + projection_caption(view)


@STYLED
def projection(view: View) -> Figure:
    """One panel per network. x runs from the centroid of the target's class, 0, to that of the adversarial class, 1."""
    count = len(view.networks)
    columns = min(2, count)
    rows = -(-count // columns)
    width = COLUMN_WIDTH if count == 1 else PAGE_WIDTH
    figure = Figure(figsize=(width, 0.75 + 2.5 * rows), layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04))
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for place, (axes, network) in enumerate(zip(grid, view.networks, strict=False)):
        _panel(axes, network)
        letter = f"({chr(ord('a') + place)}) " if count > 1 else ""
        axes.set_title(fitted(f"{letter}{network.called}", width / columns - 0.4, 8), loc="left", pad=4)
        axes.set_xlabel("along the line of centroids")
        if place % columns == 0:
            axes.set_ylabel("across, along the weights")
    for axes in grid[count:]:
        axes.set_axis_off()
    handles = [
        Line2D([], [], linestyle="none", markersize=4.5, label=in_legend(label, width), **_LOOKS[group])
        for group, label in zip(_LOOKS, view.groups, strict=True)
    ]
    handles.append(Line2D([], [], linestyle="none", label="target", **_TARGET))
    if any(network.filtered for network in view.networks):
        look: dict[str, Any] = {"color": "black", "marker": "x", "markersize": 5.5, "markeredgewidth": 0.8}
        handles.append(Line2D([], [], linestyle="none", label="dropped by the filter", **look))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_size([str(each.get_label()) for each in handles], width, len(handles))[0],
        handletextpad=0.3,
        columnspacing=1.2,
    )
    return figure


def _panel(axes: Axes, network: Network) -> None:
    for group, look in _LOOKS.items():
        own = network.group == group
        kept, dropped = (network.points[own & (network.dropped == crossed)].T for crossed in (False, True))
        place: dict[str, Any] = {"linestyle": "none", "zorder": 2 + 0.1 * group}
        if own.sum() > _CROWD:
            # Black crosses would hide the other points.
            place["rasterized"] = True
            axes.plot(*kept, **place, **look, alpha=0.35, markersize=1.8, markeredgewidth=0)
            axes.plot(*dropped, **place, color=_DARK[group], marker="x", markersize=2.6, markeredgewidth=0.7)
            continue
        for points in (kept, dropped):
            axes.plot(*points, **place, **look, alpha=0.8, markersize=_SIZES[group], markeredgewidth=0)
        axes.plot(*dropped, **place, color="black", marker="x", markersize=5.5, markeredgewidth=0.8)
    axes.plot(*network.target[:, None], linestyle="none", zorder=4, **_TARGET)
    axes.grid()
    axes.margins(0.06)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(6))


def projection_caption(view: View) -> str:
    """The caption of ``projection``: dropped examples of each group, and its distance from the target."""
    own, adversarial = view.classes
    sentences = [_sentence(network, own, adversarial) for network in view.networks]
    return (
        f"Penultimate features of the training images of classes {own} (the target's) and {adversarial} (the one that "
        "the attacker wants), on the plane of the line through the centroids of the clean images (x) and of the part "
        "of the last layer's weights, of the second class less the first, that is orthogonal to it (y); both in units "
        "of the distance between the centroids. One run; distances are of the whole feature space, in the same "
        f"unit, medians. {' '.join(sentences)}"
    )


def _sentence(network: Network, own: str, adversarial: str) -> str:
    groups = {POISON: "poisons", OWN: f"clean images of {own}", ADVERSARIAL: f"clean images of {adversarial}"}
    places = ", ".join(f"{name} {number(network.median_to_target(group))}" for group, name in groups.items())
    text = f"{network.called}: from the target, {places}"
    if not network.filtered:
        return f"{text}."
    counts = ["{} of {} {}".format(*network.share_dropped(group), name) for group, name in groups.items()]
    return f"{text}; the filter drops {counts[0]}, {counts[1]} and {counts[2]}."
