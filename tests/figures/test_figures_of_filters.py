"""Figures that show filters at work: every number stands where it belongs, and was counted as by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from filters_shown import BARS, PUBLISHED, write_bars, write_view
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from poisonlab.config.study import read_study
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.intervals import wilson
from poisonlab.evaluation.published import published
from poisonlab.evaluation.trials import read_trials, write_trials
from poisonlab.figures.ablation import (
    ablation,
    ablation_caption,
    published_sentence,
    read_ablation,
    read_published,
)
from poisonlab.figures.by_victim import Spec, by_victim, by_victim_caption, draw, read_bars
from poisonlab.figures.by_victim import read_published as numbers_of
from poisonlab.figures.filtered_images import filtered_images, filtered_images_caption, filtered_network
from poisonlab.figures.layer_distances import layer_distances, layer_distances_caption
from poisonlab.figures.projection import projection, projection_caption
from poisonlab.figures.views import read_view
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse

ROOT = Path(__file__).resolve().parents[2]

# --- views ------------------------------------------------------------------------------------------------------------


def crosses(axes: Axes) -> list[list[float]]:
    return sorted(point for line in axes.lines if line.get_marker() == "x" for point in line.get_xydata().tolist())


def test_every_example_is_a_point_and_the_dropped_ones_are_crossed(tmp_path: Path) -> None:
    view = read_view(write_view(tmp_path / "view"))
    figure = projection(view)
    first, second = figure.axes
    for axes, network in zip((first, second), view.networks, strict=True):
        drawn = {point for line in axes.lines if line.get_marker() in "os^" for point in map(tuple, line.get_xydata())}
        assert drawn == set(map(tuple, network.points))
        assert crosses(axes) == sorted(network.points[network.dropped].tolist())
        (star,) = [line for line in axes.lines if line.get_marker() == "*"]
        assert star.get_xydata().tolist() == [[0.2, 0.1]]
    assert (len(crosses(first)), len(crosses(second))) == (5, 0)
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "(a) on-net, Deep k-NN",
        "(b) on-robust, No defense",
    ]
    caption = projection_caption(view)
    assert "on-net, Deep k-NN: from the target, poisons 0.4, clean images of frog 0.9, clean images of ship" in caption
    assert "the filter drops 3 of 4 poisons, 2 of 6 clean images of frog and 0 of 5 clean images of ship." in caption
    assert caption.endswith("clean images of ship 1.2.")


def test_a_crowd_is_one_picture_and_poisons_stay_above_it(tmp_path: Path) -> None:
    view = read_view(write_view(tmp_path / "view"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("poisonlab.figures.projection._CROWD", 4)
        (axes, _) = projection(view).axes
    clouds = [line for line in axes.lines if line.get_rasterized()]
    assert len(clouds) == 4
    assert len(crosses(axes)) == 5
    poisons = [line for line in axes.lines if line.get_marker() == "^"]
    assert min(line.get_zorder() for line in poisons) > max(line.get_zorder() for line in clouds)


def test_lines_are_means_over_the_poisons_and_their_originals(tmp_path: Path) -> None:
    view = read_view(write_view(tmp_path / "view"))
    (axes,) = layer_distances(view).axes
    drawn = [np.asarray(line.get_ydata()) for line in axes.lines]
    for place, network in enumerate(view.networks):
        assert drawn[2 * place] == pytest.approx(network.layer_poisons.mean(1))
        assert drawn[2 * place + 1] == pytest.approx(network.layer_bases.mean(1))
    band = axes.collections[0].get_datalim(axes.transData)
    assert (band.y0, band.y1) == pytest.approx((0.5 * 0.4, 1.5 * 0.8))
    assert [text.get_text() for text in axes.get_xticklabels()] == ["block0", "block1", "block2"]
    caption = layer_distances_caption(view)
    assert (
        "on-net, Deep k-NN: poisons 0.8 and their originals 0.8 in the first layer (block0), 0.4 and 1.6 in the "
        "last one of 3 (block2), where poisons keep 25 % of the distance of their originals. on-robust, No defense:"
    ) in caption
    assert caption.endswith("where poisons keep 75 % of the distance of their originals.")


def test_networks_of_other_layers_have_them_by_number(tmp_path: Path) -> None:
    other = {"layers.1": np.array(["a", "b"]), **{f"layer_{kind}.1": np.ones((2, 4)) for kind in ("poisons", "bases")}}
    (axes,) = layer_distances(read_view(write_view(tmp_path / "view", **other))).axes
    assert axes.get_xlabel() == "layer, in the order of the network"


def test_images_stand_in_rows_with_the_dropped_ones_crossed(tmp_path: Path) -> None:
    view = read_view(write_view(tmp_path / "view"))
    network = filtered_network(view)
    figure = filtered_images(network, 3)
    shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    kinds = ("target", "poisons", "dropped", "kept")
    expected = [image for kind in kinds for image in network.images[f"images_{kind}"][:3].transpose(0, 2, 3, 1)]
    assert len(shown) == len(expected) == 1 + 3 + 2 + 3
    assert all(np.array_equal(one, other) for one, other in zip(shown, expected, strict=True))
    crossed = [any(isinstance(patch, Rectangle) for patch in axes.patches) for axes in figure.axes]
    assert crossed == [False, True, True, True, True, True, False, False, False]
    caption = filtered_images_caption(network, view)
    assert (
        "3 of 4 poisons (75 %), 0 of 5 clean images of ship (0 %) and 2 of 6 clean images of frog (33.3 %)." in caption
    )
    nothing = write_view(tmp_path / "other", **{"images_dropped.0": np.zeros((0, 3, 8, 8), dtype=np.uint8)})
    figure = filtered_images(filtered_network(read_view(nothing)), 3)
    assert "none" in [text.get_text() for text in figure.texts]


@pytest.mark.parametrize(
    ("absent", "changes", "words"),
    [
        (("points.0",), {}, "lacks parts of a view"),
        (("classes",), {}, "lacks parts of a view"),
        ((), {"points.0": np.zeros((3, 2))}, "points is"),
        ((), {"points.1": np.full((15, 2), np.nan)}, "not finite"),
        ((), {"group.1": np.zeros(15, dtype=np.int64)}, "a group has no example"),
        ((), {"layers.1": np.array(["a"])}, "for 1 layers"),
        ((), {"filtered": np.array([False, False])}, "no network of the view has a filter"),
        ((), {"poisons_dropped.0": np.array([True])}, "do not fit each other"),
    ],
)
def test_other_arrays_are_one_line(
    tmp_path: Path, absent: tuple[str, ...], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(DataError, match=words) as problem:
        filtered_network(read_view(write_view(tmp_path / "view", *absent, **changes)))
    assert "\n" not in str(problem.value)


# --- bars by victim ---------------------------------------------------------------------------------------------------


def inputs(folder: Path, succeeds: bool = True) -> dict[str, list[Path]]:
    (folder / "published.csv").write_text(PUBLISHED)
    return {"trials": [write_bars(folder / "trials.csv", succeeds)], "published": [folder / "published.csv"]}


def numbers(results: pd.DataFrame) -> dict[tuple[str, str], tuple[int, float]]:
    return {(line["victim"], line["defense"]): (line["n"], line["success"]) for line in results.to_dict("records")}


def test_only_seeds_on_which_the_attack_succeeds_undefended_count(tmp_path: Path) -> None:
    bars = read_bars(inputs(tmp_path), Spec.model_validate(BARS))
    # Of seeds 0 to 4 the SVM leaves 0, 1 and 3; of 2 and 3 it leaves 3. Seed 7 fails undefended.
    assert numbers(bars.results) == {
        ("on-a", "knn-of-mine"): (5, 0.0),
        ("on-a", "svm-of-mine"): (5, 0.6),
        ("on-b", "knn-of-mine"): (2, 0.0),
        ("on-b", "svm-of-mine"): (2, 0.5),
    }
    whole = read_bars(inputs(tmp_path), Spec.model_validate({**BARS, "only_successes": False}))
    assert numbers(whole.results)["on-a", "svm-of-mine"] == (8, 0.5)
    assert numbers(whole.results)["on-b", "knn-of-mine"] == (8, 0.125)


def test_published_bars_stand_beside_ours(tmp_path: Path) -> None:
    bars = read_bars(inputs(tmp_path), Spec.model_validate(BARS))
    assert bars.published == pytest.approx(
        {("on-a", "knn-of-mine"): 0, ("on-a", "svm-of-mine"): 0.667, ("on-b", "svm-of-mine"): 0.005}
    )
    (axes,) = by_victim(bars).axes
    drawn: list[Any] = [patch for patch in axes.patches if isinstance(patch, Rectangle)]
    found = [(round(each.get_height(), 6), each.get_hatch() is not None) for each in drawn]
    ours, theirs = [height for height, hatched in found if not hatched], [h for h, hatched in found if hatched]
    assert (ours, theirs) == ([0, 60, 0, 50], [0, 66.7, 0.5])
    left = sorted(drawn, key=lambda each: each.get_x())
    assert [each.get_hatch() is not None for each in left] == [False, True, False, True, False, False, True]
    assert all(one.get_x() + one.get_width() < other.get_x() for one, other in pairwise(left))
    interval = wilson(3, 5)
    ends = [np.asarray(line.get_ydata()).tolist() for line in axes.lines]
    assert [100 * interval.low, 100 * interval.high] in [pytest.approx(each) for each in ends]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["on-a\nn = 5", "on-b\nn = 2"]
    assert by_victim_caption(bars) == (
        "Poison success by victim, of the seeds on which the attack succeeds undefended with the same victim (n = 2 to "
        "5), with 95 % intervals (Wilson for events, Gaffke for rates, Student for other values); hatched bars are "
        "published. Unweighted means over the victims: Deep k-NN 0 %; on on-a 0 %, "
        "published 0 %, 1 of 1 published bars in our intervals. One-class SVM 55 % (at most 60 %, on-a), published "
        "33.6 %, 1 of 2 published bars in our intervals."
    )


def test_a_published_bar_is_in_or_out_only_where_ours_has_an_interval(tmp_path: Path) -> None:
    bars = read_bars(inputs(tmp_path), Spec.model_validate(BARS))
    unknown = bars.results["victim"] == "on-b"
    some = bars.results.assign(**{end: bars.results[end].mask(unknown) for end in ("success_low", "success_high")})
    caption = by_victim_caption(replace(bars, results=some))
    assert caption.endswith("published 33.6 %, 1 of 1 published bars in our intervals.")
    none = bars.results.assign(success_low=np.nan, success_high=np.nan)
    assert by_victim_caption(replace(bars, results=none)).endswith("published 33.6 %.")


def test_published_numbers_without_a_bar_stand_in_the_caption_beside_ours(tmp_path: Path) -> None:
    further = (
        "3,Net B,one-class-svm,poisons_found,31,,percent,from the text\n"
        "3,Net B,deep-knn,poisons_found,24,,percent,\n"
        "3,Net A,deep-knn,accuracy,79.8,,percent,\n"
        "3,Net A,deep-knn,elsewhere,1,,percent,\n"
        "3,Net C,deep-knn,accuracy,1,,percent,\n"
    )
    paths = inputs(tmp_path)
    dropped = {2: Detection(1, 4, 10, 90), 3: Detection(3, 2, 10, 90), 7: Detection(5, 0, 10, 90)}
    trials = [
        replace(each, found=dropped.get(each.seed, Detection(0, 5, 0, 100)))
        if (each.victim, each.defense) == ("on-b", "svm-of-mine")
        else each
        for each in read_trials(paths["trials"][0])
    ]
    write_trials(paths["trials"][0], trials)
    _, caption = draw(paths, Spec.model_validate(BARS))
    assert caption.endswith("published bars in our intervals.")
    paths["published"][0].write_text(PUBLISHED + further)
    _, caption = draw(paths, Spec.model_validate(BARS))
    # On seeds 2 and 3 the attack succeeds undefended: 1 and 3 of 5. The other filter dropped nothing.
    assert caption.endswith(
        "published bars in our intervals. Beside further published numbers: test accuracy on on-a under Deep k-NN "
        "90 %, published 79.8 %; poisons found on on-b under Deep k-NN not measured, published 24 %; poisons found on "
        "on-b under One-class SVM 40 %, published 31 %."
    )


def test_every_number_of_the_paper_s_figure_is_drawn_or_in_the_caption() -> None:
    table = ROOT / "reference" / "deep-knn" / "table3.csv"
    graph = Graph(read_study(yaml.safe_load((ROOT / "config" / "deep-knn.yaml").read_text(encoding="utf-8"))))
    job = graph.figures.figure("convex-polytope/by-victim")
    told = {name: value for name, value in parse(job.settings).items() if name != "drawing"}
    assert len(numbers_of(table, Spec.model_validate(told))) == len(published(table)) == 43


def test_an_attack_that_never_succeeds_has_an_empty_figure(tmp_path: Path) -> None:
    bars = read_bars(inputs(tmp_path, succeeds=False), Spec.model_validate(BARS))
    (axes,) = by_victim(bars).axes
    assert "the attack succeeds on no seed undefended" in [text.get_text() for text in axes.texts]
    assert by_victim_caption(bars).startswith("No poison success to show")


def test_an_attack_of_which_every_victim_diverged_has_an_empty_figure(tmp_path: Path) -> None:
    paths = inputs(tmp_path)
    trials = [replace(each, measures={}, failed="the loss is nan") for each in read_trials(paths["trials"][0])]
    write_trials(paths["trials"][0], trials)
    bars = read_bars(paths, Spec.model_validate({**BARS, "only_successes": False}))
    (axes,) = by_victim(bars).axes
    assert "no victim has an outcome" in [text.get_text() for text in axes.texts]
    assert by_victim_caption(bars) == "No poison success to show: no victim has an outcome."


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [{"victim": "on-a", "row": "Net C"}]}, "no success of Net C in table 3"),
        ({"table": 4}, "no success of Net A in table 4"),
        ({"lines": [{**line, "settings": "other"} for line in BARS["lines"]]}, "nothing to draw: no victim"),
    ],
)
def test_other_tables_and_trials_are_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(PoisonlabError, match=words):
        read_bars(inputs(tmp_path), Spec.model_validate({**BARS, **changes}))


# --- ablations of filters ---------------------------------------------------------------------------------------------

OF_K = """\
attack,victim,row,k,own,n,success,success_low,success_high,accuracy,accuracy_low,accuracy_high,p,p_holm,poisons_found,\
clean_dropped,matthews
polytope,net,none,,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.1,0.3,,,
polytope,net,k-3,3,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.5,1.0,0.0,0.00004,
polytope,net,k-50,50,False,4,0.5,0.2,0.8,0.94,0.93,0.95,0.5,1.0,0.9,0.004,0.8
polytope,net,k-5000,5000,True,4,0.0,0.0,0.5,0.93,0.92,0.94,,,1.0,0.006,0.75
"""
TABLE_OF_K = (
    "table,row,defense,measure,value,plus_minus,unit,note\n"
    "4,k = 3,deep-knn,clean_dropped,0.004,,percent,\n"
    "4,k = 10000,deep-knn,clean_dropped,1.3,,percent,\n"
)


def test_a_filter_s_ablation_shows_what_it_drops_beside_the_published_numbers(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(OF_K)
    (tmp_path / "published.csv").write_text(TABLE_OF_K)
    measures = {"polytope": Spec.model_validate(BARS).by_attack["polytope"]}
    table, settings = read_ablation(tmp_path / "table.csv", measures)
    known = read_published(tmp_path / "published.csv", 4, "k")
    assert known == {"clean_dropped": pytest.approx({"3": 0.00004, "10000": 0.013})}
    figure = ablation(table, settings, measures, "none", known)
    panels = {axes.get_ylabel(): axes for axes in figure.axes if axes.get_ylabel()}
    assert list(panels) == [
        *("poison success (%)", "test accuracy (%)", "poisons found (%)", "clean dropped (%)"),
        "correlation (Matthews)",
    ]
    assert {axes.get_xscale() for axes in panels.values()} == {"log"}

    def line(axes: Axes) -> list[list[float]]:
        return next(each.get_xydata().tolist() for each in axes.lines if len(each.get_xydata()) == 3)

    assert np.allclose(line(panels["poisons found (%)"]), [[3, 0], [50, 90], [5000, 100]])
    assert np.allclose(line(panels["clean dropped (%)"]), [[3, 0.004], [50, 0.4], [5000, 0.6]])
    of_matthews = np.array(line(panels["correlation (Matthews)"]))
    assert np.allclose(of_matthews[1:], [[50, 0.8], [5000, 0.75]])
    assert np.isnan(of_matthews[0, 1])
    diamonds = [each for axes in panels.values() for each in axes.lines if each.get_marker() == "D"]
    assert [each.get_xydata().tolist() for each in diamonds] == [[[3, pytest.approx(0.004)]]]
    caption = ablation_caption(table, settings, measures, "none")
    assert "poisons found from 0 % (k 3) to 100 % (k 5000), clean dropped from 0.004 % (k 3) to 0.6 %" in caption
    assert "correlation (Matthews) from 0.75 (k 5000) to 0.8 (k 50)" in caption
    with pytest.raises(DataError, match="no row of table 4 that is called 'lr = …'"):
        read_published(tmp_path / "published.csv", 4, "lr")


def test_the_caption_tells_of_every_published_number_that_is_drawn_and_of_no_other(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text(OF_K)
    measures = {"polytope": Spec.model_validate(BARS).by_attack["polytope"]}
    table, _ = read_ablation(tmp_path / "table.csv", measures)
    known = {"clean_dropped": {"3": 0.00004, "10000": 0.013}, "success": {"50": 0.25}}
    drawn = "Beside the published numbers (hollow diamonds): "
    one = "poison success at k 50: 50 %, published 25 %; clean dropped at k 3: 0.004 %, published 0.004 %."
    assert published_sentence(table, measures, "k", known) == drawn + one
    both = pd.concat([table, table.assign(victim="other")], ignore_index=True)
    assert published_sentence(both, measures, "k", {"success": {"50": 0.25}}) == (
        f"{drawn}poison success of polytope on net at k 50: 50 %, published 25 %; "
        "poison success of polytope on other at k 50: 50 %, published 25 %."
    )
    others = {"clean_dropped": {"10000": 0.013}}
    figure = ablation(table, ["k"], measures, "none", others)
    assert not [each for axes in figure.axes for each in axes.lines if each.get_marker() == "D"]
    assert published_sentence(table, measures, "k", others).endswith("are not drawn.")


OF_VOTES = """\
attack,victim,row,rule,self_counts,own,n,success,success_low,success_high,accuracy,accuracy_low,accuracy_high,p,p_holm,\
poisons_found,clean_dropped,matthews
polytope,net,none,,,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.1,0.3,,,
polytope,net,knn,paper,False,True,4,0.0,0.0,0.5,0.93,0.92,0.94,,,1.0,0.012,0.75
polytope,net,v1,paper,True,False,4,0.5,0.2,0.8,0.94,0.93,0.95,0.5,1.0,0.9,0.00004,0.8
polytope,net,v2,released,False,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.5,1.0,0.0,0.0,
polytope,net,v3,released,True,False,4,0.25,0.1,0.5,0.95,0.94,0.96,0.5,1.0,0.6,0.004,-0.1
"""


def test_maps_of_a_filter_show_what_it_drops_within_the_page(tmp_path: Path) -> None:
    header, *lines = OF_VOTES.splitlines()
    more = [line.replace(",net,", ",another-network,") for line in lines]
    (tmp_path / "table.csv").write_text("\n".join([header, *lines, *more]) + "\n")
    measures = {"polytope": Spec.model_validate(BARS).by_attack["polytope"]}
    table, settings = read_ablation(tmp_path / "table.csv", measures)
    assert settings == ["rule", "self_counts"]
    figure = ablation(table, settings, measures, "none")
    maps = [axes for axes in figure.axes if axes.images]
    titles = ["poison success (%)", "test accuracy (%)", "poisons found (%)", "clean dropped (%)"]
    assert [axes.get_title() for axes in maps] == [*titles, "correlation (Matthews)"] * 2
    written = {axes.get_title(): [text.get_text() for text in axes.texts] for axes in maps[-5:]}
    # Row by row; what drops nothing has no correlation, and two of 50,000 images are not none.
    assert written["poisons found (%)"] == ["100.0", "90.0", "0.0", "60.0"]
    assert written["clean dropped (%)"] == ["1.2", "0.004", "0.0", "0.4"]
    assert written["correlation (Matthews)"] == ["0.75", "0.80", "–", "-0.10"]
    assert np.allclose(maps[2].images[0].get_array(), [[100, 90], [0, 60]])
    limits = {axes.get_title(): axes.images[0].get_clim() for axes in maps}
    assert (limits["poisons found (%)"], limits["clean dropped (%)"]) == ((0, 100), (0, pytest.approx(1.2)))
    # Three in a row, and each within the page; attacks have rows of their own.
    figure.draw_without_rendering()
    boxes = [axes.get_tightbbox() for axes in maps]
    assert len({round(axes.get_window_extent().y0) for axes in maps}) == 4
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0 for box in boxes)
    names = ["polytope on net", "polytope on another-network"]
    assert [axes.get_title(loc="left").strip() for axes in maps[::5]] == names
    assert ablation_caption(table, settings, measures, "none").startswith(
        "Poison success and test accuracy; poisons found, clean dropped and correlation (Matthews), means over seeds "
        "(n = 4) against rule and self_counts; the study's own values are framed. polytope"
    )
    assert "poisons found from 0 % (rule released, self_counts false) to 100 %" in ablation_caption(
        table, settings, measures
    )


def test_a_share_that_no_variant_has_is_a_map_of_dashes(tmp_path: Path) -> None:
    table = OF_VOTES.replace(",0.75", ",").replace(",0.8\n", ",\n").replace(",-0.1\n", ",\n")
    (tmp_path / "table.csv").write_text(table)
    measures = {"polytope": Spec.model_validate(BARS).by_attack["polytope"]}
    figure = ablation(*read_ablation(tmp_path / "table.csv", measures), measures, "none")
    assert {text.get_text() for text in figure.axes[4].texts} == {"–"}
