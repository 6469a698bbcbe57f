"""Names of sixty letters, many of them, and wide numbers: no text is cut off, and none covers another."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from filters_shown import write_view
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from poisonlab.config.measures import ACCURACY, SUCCESS
from poisonlab.figures.ablation import ablation
from poisonlab.figures.by_victim import Bars, by_victim
from poisonlab.figures.landscape_victims import victim_landscapes
from poisonlab.figures.layer_distances import layer_distances
from poisonlab.figures.learning_curves import History, learning_curves
from poisonlab.figures.outcome import outcome
from poisonlab.figures.output_std import output_std_figure
from poisonlab.figures.perturbations import perturbations
from poisonlab.figures.poison_curves import poison_curves
from poisonlab.figures.projection import projection
from poisonlab.figures.views import read_view

NAMES = [f"a-name-as-long-as-one-can-be-in-a-study-which-is-sixty-let-{place:02}" for place in range(6)]
WORDS = ["a-setting-of-many-letters", "another-one-that-is-long", "and-a-third-to-fill-a-row"]
MEASURES = dict.fromkeys(NAMES, (SUCCESS, ACCURACY))
ENDS = {f"{name}{end}": 0.5 for name in ("success", "accuracy") for end in ("", "_low", "_high")}


def results(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([{"victim": "net", "n": 3, "diverged": 0, "control": False, **ENDS, **row} for row in rows])


def of_outcome(folder: Path) -> Figure:
    rows = [{"attack": NAMES[0], "victim": victim, "defense": row} for victim in NAMES[:2] for row in NAMES]
    table = results(rows)
    return outcome(table.assign(n=range(1, len(table) + 1)), MEASURES)


def of_curves(folder: Path) -> Figure:
    values = {"train_loss": np.ones(3), "accuracy": np.ones(3)}
    return learning_curves([History("a", "net", row, 0, np.arange(3), values) for row in NAMES], [ACCURACY], 1)


def of_groups(folder: Path) -> Figure:
    values = {"train_loss": np.ones(3), "accuracy": np.ones(3)}
    group = {name: [History(name, "net", "none", 0, np.arange(3), values)] for name in NAMES[:3]}
    return poison_curves([("the title of a column of forty letters.", group)] * 4, [0.5])


def of_ablation(*values: object) -> Callable[[Path], Figure]:
    def drawn(folder: Path) -> Figure:
        rows = [{"attack": name, "x": value, "own": False, "row": "r"} for name in NAMES for value in values]
        return ablation(results(rows).astype({"x": object}), ["x"], MEASURES)

    return drawn


def of_maps(folder: Path) -> Figure:
    rows = [{"attack": NAMES[0], "x": x, "y": y, "own": False, "row": "r"} for x in WORDS for y in WORDS]
    rows += [row | {"attack": NAMES[1]} for row in rows]
    return ablation(results(rows), ["x", "y"], MEASURES)


def of_bars(folder: Path) -> Figure:
    rows = [{"attack": "a", "victim": victim, "defense": row} for victim in NAMES for row in NAMES]
    return by_victim(Bars(results(rows), SUCCESS, dict(zip(NAMES, NAMES, strict=True)), {}, [], False))


def of_view(draw: Callable[..., Figure]) -> Callable[[Path], Figure]:
    def drawn(folder: Path) -> Figure:
        named = {name: np.array(NAMES[:2]) for name in ("victims", "known_as")}
        return draw(read_view(write_view(folder / "view.npz", classes=np.array(WORDS[:2]), **named)))

    return drawn


def of_spread(folder: Path) -> Figure:
    return output_std_figure(np.arange(1, 33), ["surrogate", *NAMES[:2]], np.ones((3, 3, 2, 32)))


def of_landscapes(*losses: float) -> Callable[[Path], Figure]:
    def drawn(folder: Path) -> Figure:
        surfaces = np.stack([np.linspace(0, loss, 9).reshape(1, 3, 3) for loss in losses])
        return victim_landscapes(np.array([-1.0, 0, 1]), NAMES[: len(losses)], surfaces, "filter-normalised")

    return drawn


def of_changes(folder: Path) -> Figure:
    return perturbations(np.zeros((3, 2, 2)), {name: np.zeros((3, 2, 2)) for name in NAMES})


@pytest.mark.parametrize(
    "drawn",
    [
        *(of_outcome, of_curves, of_groups, of_maps, of_bars, of_spread, of_changes),
        *(of_ablation(*WORDS, *NAMES[:2]), of_ablation(0, 1, 2, 10, 100, 1000), of_ablation(-0.125, 0, 0.125, 512)),
        *(of_view(projection), of_view(layer_distances)),
        *(of_landscapes(2e5, 3), of_landscapes(0.0016)),
    ],
)
def test_every_text_stands_within_the_figure_and_over_no_other(drawn: Callable[[Path], Figure], tmp_path: Path) -> None:
    figure = drawn(tmp_path)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    flat = [axes for axes in figure.axes if axes.name != "3d"]
    every = [axes.get_tightbbox(renderer) for axes in flat if axes.axison]
    every += [legend.get_window_extent(renderer) for legend in figure.legends]
    every += [text.get_window_extent(renderer) for text in figure.texts]
    for box in every:
        assert box is not None
        assert figure.bbox.padded(1).containsx(box.x0)
        assert figure.bbox.padded(1).containsx(box.x1)
        assert figure.bbox.padded(1).containsy(box.y0)
        assert figure.bbox.padded(1).containsy(box.y1)
    titles = [title for axes in flat for title in (axes.title, axes._left_title)]  # type: ignore[attr-defined]
    # That of a row of maps stands a line above theirs.
    titles = [title for title in titles if title.get_text() and not title.get_text().endswith("\n")]
    boxes = [title.get_window_extent(renderer) for title in [*titles, *figure.texts]]
    assert not any(Bbox.intersection(one, other) for one, other in combinations(boxes, 2))
    for axes in flat:
        labels = [label for label in axes.get_xticklabels() if label.get_text() and label.get_rotation() == 0]
        places = [label.get_window_extent(renderer) for label in labels]
        assert not any(one.overlaps(other) for one, other in pairwise(places))
