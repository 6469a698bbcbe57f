"""Images that a filter dropped and kept, poisons and clean ones (after figure 7 of the deep k-NN paper)."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from poisonlab.errors import DataError
from poisonlab.figures.reading import Inputs
from poisonlab.figures.style import STYLED, picture_rows
from poisonlab.figures.views import ADVERSARIAL, OWN, POISON, Network, View, read_view
from poisonlab.figures.wording import Beside as Spec
from poisonlab.figures.wording import percent

_DROPPED = "#D55E00"


def draw(inputs: Inputs, spec: Spec) -> tuple[Figure, str]:
    """Draw from ``view`` (images dropped by a filter, npz); the first network whose row has filters is shown."""
    view = read_view(inputs["view"][0])
    network = filtered_network(view)
    return filtered_images(network, spec.drawing.examples), spec.begin + filtered_images_caption(network, view)


def filtered_network(view: View) -> Network:
    """The first network whose row has filters.

    Raises:
        DataError: there is no such network, or its images do not fit each other.
    """
    network = next((network for network in view.networks if network.filtered), None)
    if network is None:
        raise DataError("no network of the view has a filter: there are no filtered images to show")
    shapes = {array.shape[1:] for name, array in network.images.items() if name != "poisons_dropped"}
    if len(shapes) != 1 or len(network.images["poisons_dropped"]) != len(network.images["images_poisons"]):
        raise DataError("the images of the view do not fit each other: make them again")
    return network


@STYLED
def filtered_images(network: Network, most: int) -> Figure:
    """Rows of images: the target, poisons, dropped clean images, and kept clean images of the same classes.

    Args:
        network: a network whose row has filters.
        most: most images in a row.
    """
    shown = {name: images[:most] for name, images in network.images.items()}
    figure, rows = picture_rows(
        [
            ("Target", shown["images_target"]),
            ("Poisons", shown["images_poisons"]),
            ("Clean, dropped", shown["images_dropped"]),
            ("Clean, kept", shown["images_kept"]),
        ]
    )
    for axes, dropped in zip(rows[1], shown["poisons_dropped"], strict=True):
        if dropped:
            _cross(axes)
    for axes in rows[2]:
        _cross(axes)
    return figure


def _cross(axes: Axes) -> None:
    """Draw a frame, and a cross in a corner, which tells them apart without colours, too."""
    where: dict[str, Any] = {"transform": axes.transAxes, "clip_on": False}
    axes.add_patch(Rectangle((0, 0), 1, 1, fill=False, edgecolor=_DROPPED, linewidth=1.6, **where))
    axes.add_patch(Rectangle((0.76, 0.76), 0.24, 0.24, facecolor="white", edgecolor=_DROPPED, linewidth=0.8, **where))
    for rise in (1, -1):
        axes.plot([0.81, 0.95], [0.88 - 0.07 * rise, 0.88 + 0.07 * rise], color=_DROPPED, linewidth=1.4, **where)


def filtered_images_caption(network: Network, view: View) -> str:
    """The caption of ``filtered_images``, with the dropped share of each kind.

    Args:
        network, view: as drawn.
    """
    own, adversarial = view.classes
    groups = ((POISON, "poisons"), (ADVERSARIAL, f"clean images of {adversarial}"), (OWN, f"clean images of {own}"))
    counts = []
    for group, name in groups:
        gone, whole = network.share_dropped(group)
        counts.append(f"{gone} of {whole} {name} ({percent(gone / whole)})")
    return (
        f"The target ({own}), poisons that are labelled {adversarial}, clean images of the two classes that the filter "
        f"dropped ({network.called}; framed and crossed, those of {adversarial} first), and clean images of the same "
        "classes that it kept; drawn at random from one run. Of these two classes it dropped "
        f"{counts[0]}, {counts[1]} and {counts[2]}."
    )
