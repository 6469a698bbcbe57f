"""How far poisons and their bases are from the target, layer by layer (after figure 6 of the deep k-NN paper)."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import COLUMN_WIDTH, STYLED, in_legend, legend_size
from poisonlab.figures.views import Network, View, read_view
from poisonlab.figures.wording import Beside as Spec
from poisonlab.figures.wording import number

_LINES = (("#0072B2", "o"), ("#D55E00", "s"), ("#009E73", "^"), ("#CC79A7", "D"))
_DASHES = (0, (4, 1.5))
_NAMED = 14
"""Most layers for which there is room for names."""


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``view`` (features of some networks, npz)."""
    view = read_view(inputs["view"][0])
    return layer_distances(view), spec.begin + layer_distances_caption(view)


@STYLED
def layer_distances(view: View) -> Figure:
    """A line per network: means over the poisons, with a band of their range; dashed, means over their bases."""
    called = [in_legend(network.called, COLUMN_WIDTH) for network in view.networks]
    figure = Figure(
        figsize=(COLUMN_WIDTH, 2.75 + 0.15 * legend_size(called, COLUMN_WIDTH, 1)[1]),
        layout=ConstrainedLayoutEngine(w_pad=0.05, h_pad=0.04),
    )
    axes = figure.subplots()
    handles = []
    for network, name, (colour, marker) in zip(view.networks, called, _LINES, strict=False):
        at = np.arange(1, len(network.layers) + 1)
        poisons = network.layer_poisons
        axes.fill_between(at, poisons.min(1), poisons.max(1), color=colour, alpha=0.15, linewidth=0)
        axes.plot(at, poisons.mean(1), color=colour, marker=marker, markersize=3.2)
        axes.plot(at, network.layer_bases.mean(1), color=colour, linestyle=_DASHES, linewidth=1.0)
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=3.2, label=name))
    handles.append(
        Line2D([], [], color="#555555", linestyle=_DASHES, linewidth=1.0, label="the poisons' clean originals")
    )
    names = [network.layers for network in view.networks]
    longest = max(map(len, names))
    if all(each == names[0] for each in names) and longest <= _NAMED:
        axes.set_xticks(range(1, longest + 1), names[0], rotation=45, ha="right", rotation_mode="anchor", fontsize=6)
        axes.set_xlabel("layer")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.set_xlabel("layer, in the order of the network")
    axes.set_ylabel("distance from the target\n/ mean norm of the layer")
    axes.set_ylim(bottom=0)
    axes.grid(axis="y")
    figure.legend(handles=handles, loc="outside upper left", ncols=1, handlelength=2.6)
    return figure


def layer_distances_caption(view: View) -> str:
    """The caption of ``layer_distances``: poisons and their bases in the first and in the last layer."""
    count = view.networks[0].layer_poisons.shape[1]
    return (
        f"Euclidean distance from the target, layer by layer, over the mean norm of the layer's outputs for clean "
        f"training images of {view.classes[0]} and {view.classes[1]}: mean over {count} poisons of one run, band: from "
        "the nearest to the farthest; dashed, mean over their clean originals. The last layer's outputs are the "
        f"penultimate features. {' '.join(map(_sentence, view.networks))}"
    )


def _sentence(network: Network) -> str:
    poisons, bases = network.layer_poisons.mean(1), network.layer_bases.mean(1)
    shares = 100 * poisons / np.where(bases > 0, bases, 1)
    return (
        f"{network.called}: poisons {number(poisons[0])} and their originals {number(bases[0])} in the first layer "
        f"({network.layers[0]}), {number(poisons[-1])} and {number(bases[-1])} in the last one of {len(poisons)} "
        f"({network.layers[-1]}), where poisons keep {number(shares[-1])} % of the distance of their originals."
    )
