"""The common style of figures, and their output files: equal figures give equal bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from poisonlab.files import atomic_path

COLUMN_WIDTH = 3.4
"""Width of one column of a two-column page, in inches."""
PAGE_WIDTH = 7.0
"""Width of both columns, in inches."""
PAGE_HEIGHT = 11.0
"""Largest height in inches; more goes on in further figures, except maps of many attacks."""

_LEGEND_SIZE = 7
"""Font size in points."""
_LETTERS = 113
"""Letters of one point that fit an inch."""
_HANDLE = 0.45
"""Inches of a legend's column besides its labels."""

_ROW_LABEL, _GAP = 1.3, 0.04
_LARGEST, _SMALLEST = 0.93, 0.45
"""Inches of the labels beside rows of images, between images, and of an image."""

SURFACE_COLOURS = "viridis"
MATCHING_COLOURS = "cividis"

# Starting from "default" keeps a user's own matplotlibrc out of the figures.
STYLED = matplotlib.style.context(
    [
        "default",
        {
            "font.family": "DejaVu Sans",
            "font.size": 7.5,
            "axes.titlesize": 8,
            "axes.labelsize": 7.5,
            "xtick.labelsize": 7,
            "ytick.labelsize": 7,
            "legend.fontsize": _LEGEND_SIZE,
            "legend.title_fontsize": _LEGEND_SIZE,
            "legend.frameon": False,
            "axes.linewidth": 0.6,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "xtick.major.width": 0.6,
            "ytick.major.width": 0.6,
            "xtick.major.size": 2.5,
            "ytick.major.size": 2.5,
            "lines.linewidth": 1.3,
            "grid.linewidth": 0.4,
            "grid.color": "#DDDDDD",
            "axes.axisbelow": True,
            # A class may be called "$1", and no text is a formula.
            "text.parse_math": False,
            # TrueType keeps text selectable and is what publishers ask for.
            "pdf.fonttype": 42,
        },
    ]
)
"""Decorator and context for making and saving figures."""

_LABELS = {
    "clean": "Clean data (control)",
    "none": "No defense",
    "friendly": "Friendly noise",
    "bernoulli": "Bernoulli noise",
    "uniform": "Uniform noise",
    "gaussian": "Gaussian noise",
    "friends-bernoulli": "FRIENDS-B",
    "friends-gaussian": "FRIENDS-G",
    "friends-uniform": "FRIENDS-U",
    "ap-0.25": "AP-0.25",
    "ap-0.5": "AP-0.5",
    "ap-0.75": "AP-0.75",
    "adversarial-training": "Adversarial training",
    "gradient-shaping": "Gradient shaping",
    "dp-sgd": "DP-SGD",
    "epic-0.1": "EPIC-0.1",
    "epic-0.2": "EPIC-0.2",
    "epic-0.1-backdoor": "EPIC-0.1",
    "epic-0.2-backdoor": "EPIC-0.2",
    "strong-augmentation": "Strong augmentation",
    "friends-bernoulli-alexnet": "FRIENDS-B, noise of AlexNet",
    "friends-bernoulli-lenet": "FRIENDS-B, noise of LeNet",
    "abl": "ABL",
    "mixup": "Mixup",
    "cutmix": "CutMix",
    "cutout": "Cutout",
    "maxup": "Maxup",
    "deep-knn": "Deep k-NN",
    "spectral-signatures": "Spectral signatures",
    "activation-clustering": "Activation clustering",
    "l2-centroid": "L2 centroid",
    "one-class-svm": "One-class SVM",
    "random-filter": "Random filter",
    "robust-features": "Robust features",
    "strip": "STRIP",
    "deep-knn-friends-b": "Deep k-NN, FRIENDS-B",
    "neural-cleanse": "Neural Cleanse",
    "early-stopping": "Early stopping",
    "grayscale": "Grayscale",
    "jpeg-90": "JPEG-90",
    "jpeg-50": "JPEG-50",
    "jpeg-10": "JPEG-10",
    "dilution-20": "Dilution, 20 %",
    "dilution-50": "Dilution, 50 %",
}

# Okabe and Ito's eight, with grey and a darker yellow for the ninth: their yellow is too faint for a line.
_COLOURS = {
    "clean": "#000000",
    "none": "#D55E00",
    "friendly": "#0072B2",
    "bernoulli": "#E69F00",
    "uniform": "#56B4E9",
    "gaussian": "#009E73",
    "friends-bernoulli": "#CC79A7",
    "friends-gaussian": "#7F7F7F",
    "friends-uniform": "#A89200",
}

# Tol's muted scheme, different from the one above.
_OTHER_COLOURS = ("#332288", "#882255", "#44AA99", "#999933", "#117733", "#AA4499")

Dashes = str | tuple[int, Sequence[float]]
Look = tuple[str, Dashes]
"""Colour (hex) and line style."""

_DASHES: dict[str, Dashes] = {
    "clean": (0, (1, 1)),
    "bernoulli": (0, (4, 1.5)),
    "uniform": (0, (4, 1.5)),
    "gaussian": (0, (4, 1.5)),
    # To readers who see no green, these colours look like those of "none" and of "friends-bernoulli".
    "friends-uniform": (0, (5, 1.5, 1, 1.5)),
    "friends-gaussian": (0, (2.5, 1)),
}

_OTHER_DASHES: tuple[Dashes, ...] = (
    "solid",
    (0, (6, 1)),
    (0, (3, 1, 1, 1)),
    (0, (1.5, 1)),
    (0, (6, 1, 1, 1, 1, 1)),
)


def looks_of(defenses: Iterable[str]) -> dict[str, Look]:
    """The look of each of a figure's defenses.

    Some names have fixed looks: dotted for the control, dashed for random noise alone and for FRIENDS-G and -U, solid
    for the paper's others. The looks of the rest depend on their order; the first 30 differ.

    Args:
        defenses: all defenses of the figure, in the study's order.
    """
    own = {name: (colour, _DASHES.get(name, "solid")) for name, colour in _COLOURS.items()}
    others = [name for name in dict.fromkeys(defenses) if name not in own]
    few, many = len(_OTHER_COLOURS), len(_OTHER_DASHES)
    return own | {
        name: (_OTHER_COLOURS[place % few], _OTHER_DASHES[place // few % many]) for place, name in enumerate(others)
    }


def nth_line(place: int) -> Look:
    """The look of number ``place`` in a list of names without fixed looks; the first 35 differ.

    The first seven are solid lines in clearly different colours. After these, colours are similar, and dashes differ.
    """
    clear = list(_COLOURS.values())[1:8]
    colours = (*clear, *_OTHER_COLOURS)
    return colours[place % len(colours)], _OTHER_DASHES[place // len(clear) % len(_OTHER_DASHES)]


def fitted(text: str, inches: float, size: float) -> str:
    """The text, broken into lines of at most ``inches``, for letters of ``size`` points."""
    return fill(text, max(1, int(inches * _LETTERS / size)))


def legend_size(labels: Sequence[str], inches: float, most: int) -> tuple[int, int]:
    """The number of columns of a legend that fit side by side, one to ``most``, and its height in lines of text.

    Args:
        labels: in the order of the legend, each at most as wide as ``in_legend`` makes it.
        inches: the available width.
        most: largest number of columns.
    """
    for columns in range(min(most, len(labels)), 0, -1):
        # In the order in which Matplotlib fills columns.
        parts = [[labels[place] for place in part.tolist()] for part in np.array_split(np.arange(len(labels)), columns)]
        longest = [max(len(line) for label in part for line in label.splitlines()) for part in parts]
        if sum(longest) * _LEGEND_SIZE / _LETTERS + columns * _HANDLE <= inches:
            break
    return columns, max(sum(label.count("\n") + 1 for label in part) for part in parts)


def in_legend(label: str, inches: float) -> str:
    """A label, broken into lines that fit a legend of this width."""
    return fitted(label, inches - _HANDLE, _LEGEND_SIZE)


@STYLED
def empty() -> Figure:
    """The figure of a study, attack or ablation of which all victims diverged. It must not make the study fail."""
    figure = Figure(figsize=(COLUMN_WIDTH, 0.6))
    figure.text(0.5, 0.5, "no victim has an outcome", ha="center", va="center")
    return figure


def picture(axes: Axes, image: NDArray[Any]) -> None:
    """Fill the axes with an image (C, H, W), uint8 or float in [0, 1]; C is 1 or 3."""
    axes.imshow(
        np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3)), interpolation="nearest", aspect="auto"
    )
    axes.set_axis_off()


def picture_rows(rows: Sequence[tuple[str, NDArray[Any]]]) -> tuple[Figure, list[list[Axes]]]:
    """A figure with a row of images for each label, and each row's axes.

    Args:
        rows: labels and images (E, C, H, W), uint8 or float in [0, 1], all of one shape. The first row has an image; a
            row without any says so.
    """
    columns = max(len(images) for _, images in rows)
    # Many columns widen the figure, so that its images stay recognisable.
    side = max(_SMALLEST, min(_LARGEST, (PAGE_WIDTH - _ROW_LABEL) / columns - _GAP))
    up = side * rows[0][1].shape[2] / rows[0][1].shape[3]
    width, height = _ROW_LABEL + columns * (side + _GAP), len(rows) * (up + _GAP) + _GAP
    figure = Figure(figsize=(width, height))
    drawn = []
    for line, (label, images) in enumerate(rows):
        bottom = height - (line + 1) * (up + _GAP)
        middle = (bottom + up / 2) / height
        figure.text((_ROW_LABEL - 0.08) / width, middle, label, ha="right", va="center", linespacing=1.3)
        if len(images) == 0:
            figure.text((_ROW_LABEL + 0.05) / width, middle, "none", va="center", color="#555555")
        lefts = (_ROW_LABEL + column * (side + _GAP) for column in range(len(images)))
        drawn.append([figure.add_axes((left / width, bottom / height, side / width, up / height)) for left in lefts])
        for axes, image in zip(drawn[-1], images, strict=True):
            picture(axes, image)
    return figure, drawn


def label_of(defense_name: str) -> str:
    """A defense's name for readers; the name itself if it is not the paper's."""
    return _LABELS.get(defense_name, defense_name)


@STYLED
def save(figure: Figure, caption: str, pdf: Path, png: Path, text: Path, dpi: int) -> None:
    """Write ``figure`` as PDF and PNG beside its caption; equal figures give equal bytes, and a failure leaves no file.

    Args:
        figure: the figure, at its own size.
        caption: one paragraph on what is shown, with numbers.
        pdf: path of the vector file.
        png: path of the raster file.
        text: path of the caption (UTF-8).
        dpi: resolution of the PNG, and of what is rasterised inside the PDF.

    Raises:
        PoisonlabError: the disk is full or the folder cannot be written.
    """
    with atomic_path(pdf) as vector, atomic_path(png) as raster, atomic_path(text) as words:
        metadata = {"CreationDate": None, "Creator": None, "Producer": None}
        figure.savefig(vector, format="pdf", dpi=dpi, metadata=metadata)
        # The PNG keeps the PDF's layout, which takes as long to find as half of the drawing.
        figure.set_layout_engine(None)
        figure.savefig(raster, format="png", dpi=dpi, metadata={"Software": None})
        words.write_text(caption + "\n", encoding="utf-8")
