"""Figures of ablations: every value of the table stands where it belongs."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.container import ErrorbarContainer
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from poisonlab.config.measures import ACCURACY, PEAK_ACCURACY, SUCCESS
from poisonlab.errors import DataError
from poisonlab.figures.ablation import Spec, draw
from poisonlab.figures.ablation import ablation as figure_of
from poisonlab.figures.ablation import ablation_caption as caption_of
from poisonlab.figures.ablation import read_ablation as read_of

MEASURES = dict.fromkeys(("gm", "bp", *"abc", *(f"attack{number}" for number in range(8))), (SUCCESS, ACCURACY))
FIELDS = "n,success,success_low,success_high,accuracy,accuracy_low,accuracy_high,p,p_holm"
LR = f"""\
attack,victim,row,lr,own,{FIELDS}
gm,net,none,,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.125,0.375
gm,net,lr-50,50.0,False,4,0.5,0.15,0.85,0.9,0.88,0.92,0.5,1.0
gm,net,lr-10,10.0,False,4,0.25,0.05,0.7,0.91,0.9,0.92,1.0,1.0
gm,net,friends,100.0,True,4,0.0,0.0,0.49,0.85,0.84,0.86,,
"""


def read_ablation(path: Path) -> tuple[pd.DataFrame, list[str]]:
    return read_of(path, {"gm": MEASURES["gm"]})


def ablation(table: pd.DataFrame, settings: list[str]) -> Figure:
    return figure_of(table, settings, MEASURES, "none")


def ablation_caption(table: pd.DataFrame, settings: list[str]) -> str:
    return caption_of(table, settings, MEASURES, "none")


def write(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text, encoding="utf-8")
    return path


def lines_of(
    values: dict[tuple[Any, ...], tuple[float, float]],
    settings: tuple[str, ...] = ("x",),
    own: tuple[Any, ...] | None = None,
    attack: str = "gm",
) -> pd.DataFrame:
    """A table of success and accuracy by values of the settings; intervals of a tenth."""
    lines: list[dict[str, Any]] = []
    for combination, (success, accuracy) in values.items():
        row = {
            "attack": attack,
            "victim": "net",
            "row": f"row{len(lines)}",
            **dict(zip(settings, combination, strict=True)),
        }
        row |= {"own": combination == own, "n": 5}
        row |= {"success": success, "success_low": success - 0.1, "success_high": success + 0.1}
        row |= {"accuracy": accuracy, "accuracy_low": accuracy - 0.1, "accuracy_high": accuracy + 0.1}
        lines.append({**row, "p": math.nan, "p_holm": math.nan})
    table = pd.DataFrame(lines, columns=["attack", "victim", "row", *settings, "own", *FIELDS.split(",")])
    return table.astype(dict.fromkeys(settings, object))


def with_undefended(table: pd.DataFrame, success: float, accuracy: float) -> pd.DataFrame:
    first = table.iloc[[0]].assign(row="none", own=False, success=success, accuracy=accuracy)
    settings = list(table.columns[3 : list(table.columns).index("own")])
    return pd.concat([first.assign(**dict.fromkeys(settings)), table], ignore_index=True)


# --- reading --------------------------------------------------------------------------------------------------------


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    table, settings = read_ablation(write(tmp_path, LR))
    assert settings == ["lr"]
    assert table["row"].tolist() == ["none", "lr-50", "lr-10", "friends"]
    assert table["lr"].tolist() == ["", "50", "10", "100"]
    assert table["own"].tolist() == [False, False, False, True]
    assert table["success_high"].tolist() == [1, 0.85, 0.7, 0.49]
    assert table["p_holm"].isna().tolist() == [False, False, False, True]


def test_an_ablation_of_an_attack_is_read_with_rows_for_attacks(tmp_path: Path) -> None:
    text = LR.replace("attack,victim,row", "defense,victim,attack").replace("gm,net,none,,", "none,net,weak,1.0,")
    table, settings = read_of(write(tmp_path, text), {"gm": MEASURES["gm"]}, "gm")
    assert settings == ["lr"]
    assert table["attack"].tolist() == ["none", "gm", "gm", "gm"]
    assert table["row"].tolist() == ["weak", "lr-50", "lr-10", "friends"]
    given = {"measures": ({"attack": "gm", "measures": MEASURES["gm"]},), "compare": ("none",), "attack": "gm"}
    spec = Spec.model_validate({"drawing": {}, "title": "The rate of learning.", **given})
    figure, caption = draw({"table": [tmp_path / "table.csv"]}, spec)
    (legend,) = figure.legends
    # A curve for each row, and no line of undefended training.
    assert [each.get_text() for each in legend.get_texts()] == ["No defense", "gm"]
    assert caption.startswith("The rate of learning. Poison success and test accuracy (n = 4) against lr, with 95 %")
    # Under the names of the curves.
    assert "No defense: poison success 100.0 % throughout, test accuracy 95.0 % throughout; smallest" in caption
    assert "smallest corrected p of poison success against the study's own attack 0.375" in caption
    with (tmp_path / "table.csv").open("a") as file:
        file.write("none,other,weak,1.0,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.125,0.375\n")
    figure, caption = draw({"table": [tmp_path / "table.csv"]}, spec)
    (legend,) = figure.legends
    names = ["No defense on net", "gm", "No defense on other"]
    assert [each.get_text() for each in legend.get_texts()] == names
    assert all(f" {name}: poison success " in caption for name in names)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (("5", "10"), ["5", "10"]),
        (("2.5", "10.0"), ["2.5", "10"]),
        (("1e-05", "1000000.0"), ["1e-05", "1e+06"]),
        (("1000000", "1234567"), ["1000000", "1234567"]),
        (("True", "False"), ["true", "false"]),
        # Of pandas's own words for a missing value, some are names.
        (("none", "null"), ["none", "null"]),
        (("NA", "None"), ["NA", "None"]),
    ],
)
@pytest.mark.parametrize("undefended", [True, False])
def test_values_are_read_as_a_config_has_them(
    tmp_path: Path, written: tuple[str, str], read: list[str], undefended: bool
) -> None:
    rest = ",4,0.5,0.1,0.9,0.9,0.8,1.0,,"
    first = [f"gm,net,none,,False{rest}"] if undefended else []
    lines = [
        f"attack,victim,row,x,own,{FIELDS}",
        *first,
        *(f"gm,net,r{value},{value},False{rest}" for value in written),
    ]
    table, _ = read_ablation(write(tmp_path, "\n".join(lines) + "\n"))
    assert table["x"].tolist() == ([""] if undefended else []) + read


def test_two_settings_are_read(tmp_path: Path) -> None:
    header, *lines = LR.splitlines()
    text = "\n".join(
        [header.replace(",own", ",norm,own"), *(re.sub(",(True|False)", r",l2,\1", each) for each in lines)]
    )
    assert read_ablation(write(tmp_path, f"{text}\n"))[1] == ["lr", "norm"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("victim,row", "victim,defense"), "lacks the columns row: is it another, or a damaged, table?"),
        ((",own", ",mine"), "lacks the columns own"),
        ((",p_holm", ""), "lacks the columns p_holm"),
        (("row,lr,own", "row,own"), "lacks|must vary one setting or two, not 0: make it again|damaged"),
        (("row,lr,own", "row,lr,a,b,own"), "must vary one setting or two, not 3: make it again|damaged"),
        (("0.25,0.05", "0.25,low"), r"is damaged \(text where numbers belong\): delete it"),
        (("100.0,True", "100.0,yes"), "a value is not true or false"),
        (("gm,net,none", 'gm,net,"none'), r"is damaged \(not CSV\): delete it"),
        (("gm,net,none", "other,net,none"), "the attack other, which has no measures here"),
    ],
)
def test_another_or_a_damaged_table_is_one_line(tmp_path: Path, change: tuple[str, str], words: str) -> None:
    assert change[0] in LR
    path = write(tmp_path, LR.replace(*change))
    with pytest.raises(DataError, match=words) as caught:
        read_ablation(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [("", r"not CSV"), (LR.splitlines()[0], "has no rows"), ("\x00\xff", "is damaged|lacks the columns")],
)
def test_a_table_without_lines_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_ablation(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_a_missing_table_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv is missing: run the workflow to make it$"):
        read_ablation(tmp_path / "gone.csv")


# --- one setting ----------------------------------------------------------------------------------------------------


def panels(figure: Figure) -> tuple[Axes, Axes]:
    left, right = figure.axes[:2]
    return left, right


def curves(axes: Axes) -> dict[str, tuple[list[float], list[float]]]:
    """The points of each attack."""
    found = [each for each in axes.containers if isinstance(each, ErrorbarContainer)]
    return {str(each.get_label()): tuple(map(list, each[0].get_data())) for each in found}  # type: ignore[misc]


def bars(axes: Axes) -> list[tuple[float, float, float]]:
    """Place and ends of every interval of the first attack."""
    (container,) = (each for each in axes.containers if isinstance(each, ErrorbarContainer))
    return [(part[0][0], part[0][1], part[1][1]) for part in container[2][0].get_segments()]


def rings(axes: Axes) -> list[tuple[float, float]]:
    found = [each for each in axes.lines if each.get_fillstyle() == "none" and to_hex(each.get_color()) == "#000000"]
    return [tuple(point) for each in found for point in each.get_xydata().tolist()]  # type: ignore[misc]


def levels(axes: Axes) -> list[float]:
    """Heights of the lines all the way across, which are dashed."""
    return [float(line.get_ydata()[0]) for line in axes.lines if line.is_dashed() and len(line.get_xdata()) == 2]


def labels(axes: Axes) -> list[tuple[float, str]]:
    return [(float(at), each.get_text()) for at, each in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_every_variant_is_a_point_at_its_value(tmp_path: Path) -> None:
    figure = ablation(*read_ablation(write(tmp_path, LR)))
    left, right = panels(figure)
    assert curves(left) == {"gm": ([10, 50, 100], [25, 50, 0])}
    assert curves(right) == {"gm": ([10, 50, 100], [91, 90, 85])}
    assert np.allclose(bars(left), [(10, 5, 70), (50, 15, 85), (100, 0, 49)])
    assert np.allclose(bars(right), [(10, 90, 92), (50, 88, 92), (100, 84, 86)])
    assert (rings(left), rings(right)) == ([(100, 0)], [(100, 85)])
    assert (levels(left), levels(right)) == ([100], [95])
    assert [axes.get_xlabel() for axes in (left, right)] == ["lr", "lr"]
    assert [axes.get_ylabel() for axes in (left, right)] == ["poison success (%)", "test accuracy (%)"]
    assert labels(left) == labels(right) == [(10, "10"), (50, "50"), (100, "100")]
    assert legend(figure) == ["gm", "no defense"]


def test_what_was_just_compared_is_drawn_like_what_was_read(tmp_path: Path) -> None:
    table = with_undefended(lines_of({(10.0,): (0.5, 0.9), (20.0,): (0.25, 0.8)}, ("lr",), (20.0,)), 1.0, 0.95)
    table.to_csv(tmp_path / "table.csv", index=False)
    first, second = ablation(table, ["lr"]), ablation(*read_ablation(tmp_path / "table.csv"))
    for mine, other in zip(panels(first), panels(second), strict=True):
        assert curves(mine) == curves(other)
        assert (rings(mine), levels(mine), labels(mine)) == (rings(other), levels(other), labels(other))


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([10, 20, 50, 100], "log"),
        ([1e-5, 1.0], "log"),
        ([1, 9], "log"),
        ([1, 8], "linear"),
        ([5, 10, 20], "linear"),
        ([0, 1, 10, 100], "symlog"),
        ([-1, 100], "symlog"),
        ([0, 1, 8], "linear"),
        ([0], "linear"),
        ([16.0], "linear"),
        (["l1", "l2", "linf"], "linear"),
        ([False, True], "linear"),
    ],
)
def test_only_numbers_of_a_wide_range_stand_on_a_logarithmic_axis(values: list[Any], scale: str) -> None:
    figure = ablation(lines_of({(value,): (0.5, 0.9) for value in values}), ["x"])
    assert [axes.get_xscale() for axes in panels(figure)] == [scale, scale]
    figure.draw_without_rendering()
    # No tick but those of the values.
    assert [text for _, text in labels(figure.axes[0])] == [
        str(value).lower() if isinstance(value, bool) else f"{value:g}" if not isinstance(value, str) else value
        for value in values
    ]
    assert not figure.axes[0].get_xticks(minor=True).size
    if scale == "symlog":
        # Zero and the smallest value do not lie on each other.
        assert np.diff(figure.axes[0].transAxes.inverted().transform(tick_places(figure.axes[0]))[:, 0]).min() > 0.1


def test_more_attacks_than_colours_differ_in_their_markers() -> None:
    names = [f"attack{number}" for number in range(8)] + ["gm", "bp", *"abc"]
    left, _ = panels(ablation(pd.concat([lines_of({(1,): (0.1, 0.9)}, attack=name) for name in names]), ["x"]))
    looks = [(container[0].get_color(), container[0].get_marker()) for container in left.containers]  # type: ignore[index]
    assert len(looks) == len(set(looks)) == 13


def tick_places(axes: Axes) -> Any:
    return axes.transData.transform([(place, 0.0) for place in axes.get_xticks()])


def test_names_stand_in_their_order_and_are_not_joined() -> None:
    left, _ = panels(ablation(lines_of({(name,): (0.1, 0.9) for name in ("l2", "l1", "linf")}, own=("l1",)), ["x"]))
    assert curves(left)["gm"][0] == [0, 1, 2]
    assert labels(left) == [(0, "l2"), (1, "l1"), (2, "linf")]
    assert rings(left) == [(1, 10)]
    (container,) = left.containers
    assert isinstance(container[0], Line2D)
    assert container[0].get_linestyle() == "None"
    low, high = left.get_xlim()
    assert low < 0 < 2 < high


def test_numbers_stand_in_ascending_order_and_are_joined() -> None:
    left, _ = panels(ablation(lines_of({(value,): (value / 100, 0.9) for value in (20, 5, 10)}), ["x"]))
    assert curves(left)["gm"] == ([5, 10, 20], [5, 10, 20])
    assert left.containers[0][0].get_linestyle() == "-"


def test_attacks_are_told_apart() -> None:
    names = [f"attack{number}" for number in range(8)]
    parts = [
        with_undefended(lines_of({(1,): (0.1, 0.9), (2,): (0.2 + place / 100, 0.8)}, attack=name), 0.9, 0.9)
        for place, name in enumerate(names)
    ]
    figure = ablation(pd.concat(parts, ignore_index=True), ["x"])
    left, _ = panels(figure)
    assert list(curves(left)) == names
    assert [curves(left)[name][1][1] for name in names] == pytest.approx([20 + place for place in range(8)])
    looks = {(each[0].get_color(), each[0].get_marker()) for each in left.containers}
    assert len(looks) == len({colour for colour, _ in looks}) == 8
    assert legend(figure) == [*names, "no defense"]
    # The legend fits the page.
    figure.draw_without_rendering()
    box = figure.legends[0].get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height
    assert all(axes.get_window_extent().height > 0.4 * figure.bbox.height for axes in (left,))


def test_points_of_several_attacks_at_a_name_stand_beside_each_other() -> None:
    parts = [lines_of({("l1",): (0.5, 0.9), ("l2",): (0.5, 0.9)}, attack=name) for name in "abc"]
    left, _ = panels(ablation(pd.concat(parts, ignore_index=True), ["x"]))
    places = np.array([curves(left)[name][0] for name in "abc"])
    assert (np.diff(places, axis=0) > 0.05).all()
    assert np.allclose(places.mean(0), [0, 1])
    assert (np.abs(places - [0, 1]) < 0.4).all()


def test_one_seed_has_points_without_intervals(tmp_path: Path) -> None:
    table = lines_of({(1,): (1.0, 0.9), (2,): (0.0, 0.8)}, own=(1,))
    for name in ("success", "accuracy"):
        table[f"{name}_low"] = table[f"{name}_high"] = math.nan
    figure = ablation(table.assign(n=1), ["x"])
    left, right = panels(figure)
    assert curves(right)["gm"] == ([1, 2], [90, 80])
    assert np.allclose(bars(left), [(1, 100, 100), (2, 0, 0)])
    figure.savefig(tmp_path / "one.png")
    assert "n = 1)" in ablation_caption(table.assign(n=1), ["x"])


def test_what_nobody_has_run_is_left_out() -> None:
    table = with_undefended(lines_of({(value,): (0.5, 0.9) for value in (1, 2, 3)}), 1.0, 1.0)
    table.loc[[0, 2], "n"] = 0
    table.loc[[0, 2], FIELDS.split(",")[1:]] = math.nan
    figure = ablation(table, ["x"])
    left, _ = panels(figure)
    assert curves(left)["gm"][0] == [1, 3]
    assert labels(left) == [(1, "1"), (3, "3")]
    assert levels(left) == rings(left) == []
    assert legend(figure) == ["gm"]


def test_the_caption_names_what_nobody_has_run_and_counts_the_others() -> None:
    table = with_undefended(lines_of({(value,): (0.5, 0.9) for value in (1, 2, 3)}), 1.0, 1.0)
    table.loc[table["x"] == 2, "n"] = 0
    table.loc[table["row"] == "none", "n"] = 0
    count = int(table["n"].max())
    caption = ablation_caption(table, ["x"])
    assert f"(n = {count}) against x, with 95 % intervals" in caption
    assert caption.endswith(" Left out, as no victim has an outcome: gm under none, gm at x 2.")
    assert "Left out" not in ablation_caption(table[table["n"] > 0], ["x"])


def test_an_ablation_of_which_every_variant_diverged_has_an_empty_figure(tmp_path: Path) -> None:
    table = pd.read_csv(write(tmp_path, LR))
    table.loc[table["row"] != "none", "n"] = 0
    table.to_csv(tmp_path / "table.csv", index=False)
    measures = [{"attack": attack, "measures": list(own)} for attack, own in MEASURES.items()]
    told = Spec.model_validate({"measures": measures, "compare": ["none"]})
    figure, caption = draw({"table": [tmp_path / "table.csv"]}, told)
    assert [text.get_text() for text in figure.texts] == ["no victim has an outcome"]
    assert caption.startswith("Left out, as no victim has an outcome: ")


def test_victims_are_told_apart_and_attacks_have_the_panels_of_their_measures() -> None:
    table = lines_of({(1,): (0.5, 0.9), (2,): (0.25, 0.8)})
    other = table.assign(attack="noise", victim="vgg").rename(
        columns=lambda name: name.replace("success", "peak_accuracy")
    )
    both = pd.concat([table, table.assign(victim="vgg"), other], ignore_index=True)
    measures = {**MEASURES, "noise": (PEAK_ACCURACY, ACCURACY)}
    figure = figure_of(both, ["x"], measures, "none")
    assert [axes.get_ylabel() for axes in figure.axes] == [
        "poison success (%)",
        "peak accuracy (%)",
        "test accuracy (%)",
    ]
    assert [list(curves(axes)) for axes in figure.axes] == [
        ["gm on net", "gm on vgg"],
        ["noise"],
        ["gm on net", "gm on vgg", "noise"],
    ]
    assert legend(figure) == ["gm on net", "gm on vgg", "noise"]


# --- two settings ---------------------------------------------------------------------------------------------------

GRID = {
    (lr, norm): (0.1 * place, 0.8 + 0.01 * place)
    for place, (lr, norm) in enumerate(itertools.product((100.0, 10.0, 50.0), ("l2", "l1")))
}


def cells(axes: Axes) -> dict[tuple[str, str], float]:
    """The values of a map by the labels of its rows and columns."""
    (image,) = axes.images
    array = np.ma.filled(image.get_array(), math.nan)
    rows = [text.get_text() for text in axes.get_yticklabels()]
    columns = [text.get_text() for text in axes.get_xticklabels()]
    assert array.shape == (len(rows), len(columns))
    return {(row, column): array[y, x] for y, row in enumerate(rows) for x, column in enumerate(columns)}


def written(axes: Axes) -> dict[tuple[int, int], str]:
    """The numbers on a map by row and column."""
    return {(int(text.get_position()[1]), int(text.get_position()[0])): text.get_text() for text in axes.texts}


def framed(axes: Axes) -> set[tuple[float, float, float, float]]:
    found = [each for each in axes.patches if isinstance(each, Rectangle)]
    return {(*each.get_xy(), each.get_width(), each.get_height()) for each in found}


def test_every_variant_is_a_cell_at_its_values() -> None:
    left, right = panels(ablation(lines_of(GRID, ("lr", "norm"), (50.0, "l1")), ["lr", "norm"]))
    wanted = {(f"{lr:g}", norm): values for (lr, norm), values in GRID.items()}
    assert cells(left) == pytest.approx({place: 100 * success for place, (success, _) in wanted.items()})
    assert cells(right) == pytest.approx({place: 100 * accuracy for place, (_, accuracy) in wanted.items()})
    # Numbers ascend, names stand as they come.
    assert list(cells(left)) == list(itertools.product(("10", "50", "100"), ("l2", "l1")))
    assert (left.get_ylabel(), left.get_xlabel()) == ("lr", "norm")
    assert [axes.get_title() for axes in (left, right)] == ["poison success (%)", "test accuracy (%)"]
    assert written(left)[(1, 0)] == f"{100 * GRID[50.0, 'l2'][0]:.1f}"
    assert written(right)[(2, 1)] == f"{100 * GRID[100.0, 'l1'][1]:.1f}"
    # The study's own: second row, second column.
    assert framed(left) == framed(right) == {(0.5, 0.5, 1, 1)}


def test_colours_of_success_span_all_that_is_possible_and_those_of_accuracy_what_there_is() -> None:
    figure = ablation(lines_of(GRID, ("lr", "norm")), ["lr", "norm"])
    left, right = (axes.images[0] for axes in panels(figure))
    assert left.get_clim() == (0, 100)
    assert right.get_clim() == pytest.approx((80, 85))
    assert [axes.get_ylim() for axes in figure.axes[2:]] == [left.get_clim(), right.get_clim()]


def test_equal_accuracies_have_a_colour(tmp_path: Path) -> None:
    figure = ablation(lines_of(dict.fromkeys(GRID, (0.5, 0.9)), ("lr", "norm")), ["lr", "norm"])
    low, high = figure.axes[1].images[0].get_clim()
    assert low < 90 < high
    figure.savefig(tmp_path / "equal.png")


def test_cells_that_nobody_has_run_are_dashes(tmp_path: Path) -> None:
    table = lines_of(GRID, ("lr", "norm"))
    table.loc[0, "n"] = 0
    table.loc[0, "success"] = math.nan
    figure = ablation(with_undefended(table.iloc[1:].reset_index(drop=True), 1.0, 1.0), ["lr", "norm"])
    assert ablation(table, ["lr", "norm"]).axes[0].get_yticklabels()[2].get_text() == "100"
    # 100 with l2 is the first; the columns come in the order in which they are met.
    left, _ = panels(figure)
    assert math.isnan(cells(left)["100", "l2"])
    assert list(written(left).values()).count("–") == 1
    assert not framed(left)
    figure.savefig(tmp_path / "gap.png")


def test_numbers_on_dark_cells_are_white_and_on_light_ones_black() -> None:
    left, _ = panels(ablation(lines_of({(1, 1): (0.0, 0.9), (1, 2): (1.0, 0.8)}, ("a", "b")), ["a", "b"]))
    assert [(text.get_text(), to_hex(text.get_color())) for text in left.texts] == [
        ("0.0", "#000000"),
        ("100.0", "#ffffff"),
    ]


def test_several_attacks_have_a_row_of_maps_each() -> None:
    other = {place: (1 - success, accuracy) for place, (success, accuracy) in GRID.items()}
    parts = [lines_of(GRID, ("lr", "norm"), (10.0, "l2")), lines_of(other, ("lr", "norm"), attack="bp")]
    figure = ablation(pd.concat(parts, ignore_index=True), ["lr", "norm"])
    assert [axes.get_title() for axes in figure.axes[:4]] == ["poison success (%)", "test accuracy (%)"] * 2
    assert [axes.get_title(loc="left").strip() for axes in figure.axes[:4]] == ["gm", "", "bp", ""]
    first, second = cells(figure.axes[0]), cells(figure.axes[2])
    assert {place: 100 - value for place, value in second.items()} == pytest.approx(first)
    assert (len(framed(figure.axes[0])), len(framed(figure.axes[2]))) == (1, 0)


def test_numbers_fit_their_cells() -> None:
    """Eight columns are as many as a table of the paper may have; all 100.0 are the widest numbers."""
    grid = {(row, column): (1.0, 1.0) for row in range(2) for column in range(8)}
    figure = ablation(lines_of(grid, ("a", "b")), ["a", "b"])
    figure.draw_without_rendering()
    left, _ = panels(figure)
    width = left.get_window_extent().width / 8
    assert all(text.get_window_extent().width < width for text in left.texts)


# --- what it says ---------------------------------------------------------------------------------------------------


def test_the_caption_has_the_numbers(tmp_path: Path) -> None:
    caption = ablation_caption(*read_ablation(write(tmp_path, LR)))
    assert caption == (
        "Poison success and test accuracy (n = 4) against lr, with 95 % intervals (Wilson for events, "
        "Gaffke for rates, Student for other values); the study's own value is ringed. "
        "gm: poison success from 0.0 % (lr 100) to 50.0 % (lr 50), test accuracy from 85.0 % (lr 100) to 91.0 % "
        "(lr 10); smallest corrected p of poison success against the study's own row 1.000."
    )


def test_the_caption_says_what_is_missing(tmp_path: Path) -> None:
    text = LR.replace("100.0,True", "100.0,False").replace("10.0,False,4", "10.0,False,3")
    caption = ablation_caption(*read_ablation(write(tmp_path, text)))
    assert "n = 3 to 4)" in caption
    assert "The study's own row is not among them." in caption
    table = lines_of(GRID, ("lr", "norm"), (10.0, "l1"))
    assert "against lr and norm; the study's own values are framed. gm:" in ablation_caption(table, ["lr", "norm"])
