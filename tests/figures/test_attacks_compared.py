"""Figures that compare attacks: points, curves and changes worked out by hand, and the paper's own correlations."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from scipy import stats

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.figures_of_attacks import MOST_CURVES
from poisonlab.config.measures import FIRST_EPOCH, PEAK_ACCURACY
from poisonlab.config.study import read_study
from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation import correlations
from poisonlab.evaluation.correlations import correlation
from poisonlab.evaluation.poison_claims import rises
from poisonlab.evaluation.published import published, read_paper
from poisonlab.figures.learning_curves import History
from poisonlab.figures.perturbations import perturbations, perturbations_caption, read_changes, stretched
from poisonlab.figures.poison_curves import CONTROL, mean_curve, poison_curves, poison_curves_caption
from poisonlab.figures.poison_curves import Spec as CurvesSpec
from poisonlab.figures.poison_curves import draw as draw_curves
from poisonlab.figures.scatter import Spec, read_points, scatter, scatter_caption, verdict
from poisonlab.figures.style import nth_line
from poisonlab.files import write_sealed
from poisonlab.graph.graph import Graph
from poisonlab.provenance import parse

REFERENCE = Path(__file__).resolve().parents[2] / "reference" / "learned-faster"


def column(table: int, measure: str) -> dict[str, float]:
    numbers = published(REFERENCE)
    chosen = numbers[(numbers["table"] == table) & (numbers["measure"] == measure)]
    return dict(zip(chosen["row"], chosen["value"], strict=True))


# --- correlations, and those of the published numbers -----------------------------------------------------------------


def test_final_accuracy_does_not_tell_the_peak_in_table_1() -> None:
    peak, final = column(1, "peak_accuracy"), column(1, "accuracy")
    assert len(peak) == len(final) == 25
    found = correlation(list(peak.values()), list(final.values()))
    assert found.pearson.estimate == pytest.approx(0.62, abs=0.005)
    assert found.spearman.estimate == pytest.approx(0.53, abs=0.005)
    # 57.30 / 8.15, "7x less effective".
    assert peak["P250"] / final["P250"] == pytest.approx(7.03, abs=0.01)


def test_transfer_does_not_tell_the_peak_in_table_2() -> None:
    transfer, peak = column(2, "transfer_average"), column(2, "peak_accuracy")
    found = correlation(list(transfer.values()), list(peak.values()))
    assert found.pearson.estimate == pytest.approx(-0.17, abs=0.005)
    assert found.spearman.estimate == pytest.approx(-0.04, abs=0.005)


def test_table_2_is_consistent() -> None:
    singles = [column(2, f"transfer_{name}") for name in ("resnet18", "vgg19", "mobilenet", "googlenet")]
    for row, average in column(2, "transfer_average").items():
        assert sum(single[row] for single in singles) / 4 == pytest.approx(average, abs=0.000051)
    for measure in ("peak_accuracy", "accuracy"):
        first = column(1, measure)
        assert all(value == first[row] for row, value in column(2, measure).items())
    assert read_paper(REFERENCE).tables.keys() == {1, 2}


def test_coefficients_are_scipys() -> None:
    random = np.random.default_rng(3)
    x = random.integers(0, 6, 12).astype(float)
    y = x + random.normal(size=12)
    found = correlation(x, y)
    assert found.pearson.estimate == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.spearman.estimate == pytest.approx(stats.spearmanr(x, y).statistic)
    for interval in (found.pearson, found.spearman):
        assert -1 <= interval.low < interval.estimate < interval.high <= 1
    assert correlation(x, y) == found
    # Scipy's percentile interval of the same kind, with draws of its own.
    other = stats.bootstrap(
        (x, y), lambda a, b, axis: stats.pearsonr(a, b, axis=axis).statistic, paired=True, vectorized=True,
        method="percentile", n_resamples=3000, rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    assert found.pearson.low == pytest.approx(other.low, abs=0.04)
    assert found.pearson.high == pytest.approx(other.high, abs=0.02)


def test_what_has_no_correlation_has_none() -> None:
    assert math.isnan(correlation([1, 2], [1, 2]).pearson.estimate)
    constant = correlation([1.0, 2.0, 3.0], [0.1, 0.1, 0.1])
    assert math.isnan(constant.pearson.estimate)
    assert math.isnan(constant.spearman.low)
    with pytest.raises(ValueError, match="one length"):
        correlation([1, 2, 3], [1, 2])


def test_what_was_never_reached_is_last_in_rank_and_not_in_pearsons() -> None:
    x, y = [1.0, 2.0, 3.0, 4.0, math.inf, math.inf], [0.2, 0.1, 0.4, 0.3, 0.9, 0.8]
    found = correlation(x, y)
    # Tied, as both are later than the end.
    assert found.spearman.estimate == pytest.approx(stats.spearmanr([1, 2, 3, 4, 9, 9], y).statistic)
    assert found.pearson == correlation(x[:4], y[:4]).pearson
    assert (found.spearman.n, found.pearson.n) == (6, 4)
    assert math.isnan(correlation([math.inf] * 4, [1, 2, 3, 4]).spearman.estimate)


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds differ by little; exact tests of few pairs do not."""
    monkeypatch.setattr(correlations, "RESAMPLES", 1000)


@pytest.mark.usefixtures("few_resamples")
def test_chance_alone_settles_few_attacks_seldom() -> None:
    """All orders of five attacks: only the two perfect ones settle anything, 1 of 120 each."""
    verdicts = [rises(correlation(range(5), order)) for order in itertools.permutations(range(5))]
    assert Counter(verdicts) == {"undecided": 118, "confirmed": 1, "contradicted": 1}
    assert correlation(range(5), range(5)).p == pytest.approx(2 / 120)


@pytest.mark.parametrize("late", [5, 24])
def test_one_attack_before_many_ties_settles_nothing(late: int) -> None:
    """Whichever of the attacks is the only one whose loss was low: the first of 25 is so by chance in 1 of 25 cases."""
    x = [1.0] + [math.inf] * late
    first = correlation(x, range(late + 1))
    assert first.spearman.low <= 0 <= first.spearman.estimate
    assert first.p == pytest.approx(2 / (late + 1), rel=0.1)
    assert rises(first) == "undecided"


def test_p_is_that_of_every_order() -> None:
    x, y = [1.0, 2.0, 2.0, 3.0, 5.0, math.inf], [0.3, 0.1, 0.4, 0.35, 0.9, 0.8]
    ranks = [1, 2.5, 2.5, 4, 5, 6]
    dealt = np.array([stats.spearmanr(ranks, order).statistic for order in itertools.permutations(y)])
    here = stats.spearmanr(ranks, y).statistic
    share = min((dealt >= here - 1e-9).mean(), (dealt <= here + 1e-9).mean())
    assert correlation(x, y).p == pytest.approx(2 * share)


@pytest.mark.usefixtures("few_resamples")
def test_intervals_cover_the_truth() -> None:
    """Of 60 samples of 25 pairs with a correlation of 0.6, some 95 % of the intervals hold it."""
    random = np.random.default_rng(1)
    held = 0
    for _ in range(60):
        x = random.normal(size=25)
        y = 0.6 * x + 0.8 * random.normal(size=25)
        held += correlation(x, y).pearson.contains(0.6)
    assert held >= 50


# --- scatter ----------------------------------------------------------------------------------------------------------

TABLE = (
    "attack,victim,defense,n,first_epoch,first_epoch_low,first_epoch_high,first_epoch_n,peak_accuracy,"
    "peak_accuracy_low,peak_accuracy_high,peak_accuracy_n\n"
    "r4,net,none,2,3,2,4,2,0.2,0.1,0.3,2\n"
    "p250,net,none,2,5,5,5,2,0.5,0.4,0.6,2\n"
    "su,net,none,1,9,,,1,0.4,,,1\n"
    "rn,net,none,1,20,,,1,0.7,,,1\n"
    "slow,net,none,1,,,,0,0.9,,,1\n"
    "r4,net,clean,2,3,2,4,2,0.99,0.9,1.0,2\n"
    "r4,other,none,2,3,2,4,2,0.98,0.9,1.0,2\n"
)


def told(**changes: Any) -> Spec:
    given = {"x": FIRST_EPOCH, "y": PEAK_ACCURACY, "defense": "none", "claim": "rises"}
    given |= {"attacks": ("r4", "p250", "su", "rn", "slow", "unrun"), **changes}
    return Spec(**{"victims": ("net",) * len(given["attacks"]), **given})


def test_points_are_the_undefended_outcomes_of_one_victim(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    points = read_points({"results": [tmp_path / "results.csv"]}, told())
    assert points["attack"].tolist() == ["r4", "p250", "su", "rn", "slow", "unrun"]
    assert points["peak_accuracy"].tolist()[:-1] == [0.2, 0.5, 0.4, 0.7, 0.9]
    figure = scatter(points, FIRST_EPOCH, PEAK_ACCURACY)
    (axes,) = figure.axes
    # The loss of "slow" is never low: it stands beyond the others.
    markers = [tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() in "o>"]
    assert markers == [(3, 20), (5, 50), (9, 40), (20, 70), (pytest.approx(22), 90)]
    assert [text.get_text() for text in axes.texts] == ["r4", "p250", "su", "rn", "slow"]
    # The name of the measure has its unit.
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epochs to low loss", "peak accuracy (%)")
    caption = scatter_caption(points, told())
    assert f"against epochs to low loss ({FIRST_EPOCH.meaning}) of 5 attacks" in caption
    ranks, linear = stats.spearmanr([3, 5, 9, 20, 99], [0.2, 0.5, 0.4, 0.7, 0.9]), [0.2, 0.5, 0.4, 0.7]
    assert f"Spearman's {ranks.statistic:.2f} [" in caption
    assert f"Pearson's correlation {stats.pearsonr([3, 5, 9, 20], linear).statistic:.2f} [" in caption
    assert "of 5 attacks" in caption
    bars = " Bars are 95 % intervals (Wilson for events, Gaffke for rates, Student for other values)."
    assert bars in caption
    alone = points.assign(**dict.fromkeys(("first_epoch_low", "peak_accuracy_low"), math.nan))
    assert bars not in scatter_caption(alone, told())
    assert "they are last in rank and not in Pearson's: slow. Left out, without one of the two: unrun." in caption
    few = told(attacks=("r4", "p250", "su", "rn"))
    short = scatter_caption(read_points({"results": [tmp_path / "results.csv"]}, few), few)
    assert "undecided: fewer than 5 attacks settle nothing" in short
    assert "differ in their victims" not in caption


def points_at(*places: tuple[float, float]) -> pd.DataFrame:
    """Attacks a0, a1, ... at some epochs and peaks, with intervals that reach far."""
    table = pd.DataFrame({"attack": [f"a{place}" for place in range(len(places))], "n": 2})
    for name, values in zip(("first_epoch", "peak_accuracy"), zip(*places, strict=True), strict=True):
        far = {"first_epoch": 3.0, "peak_accuracy": 0.2}[name]
        table = table.assign(**{name: values, f"{name}_low": [v - far for v in values], f"{name}_n": 2})
        table[f"{name}_high"] = [value + far for value in values]
    return table


ONE_PLACE = [(3.0, 0.2)] * 6
NEVER = [(math.inf, 0.5 + place / 60) for place in range(13)]
SLOPE = [(12 + place / 4, 0.5 + place / 100) for place in range(10)]
"""Along x, each is near the next: none of them is at the place of the first."""


@pytest.mark.parametrize("places", [ONE_PLACE, SLOPE, [*ONE_PLACE[:3], *SLOPE[:7], *NEVER]])
def test_names_do_not_cover_each_other_and_stay_near_their_markers(places: list[tuple[float, float]]) -> None:
    figure = scatter(points_at(*places), FIRST_EPOCH, PEAK_ACCURACY)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.texts] == [f"a{place}" for place in range(len(places))]
    boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    centres = axes.transData.transform([line.get_xydata()[0] for line in axes.lines if line.get_marker() in "o>"])
    for box, at in zip(boxes, centres, strict=True):
        assert axes.bbox.fully_contains(*box.min)
        assert axes.bbox.fully_contains(*box.max)
        assert float(np.linalg.norm(np.clip(at, box.min, box.max) - at)) <= 72 * figure.dpi / 72


def test_a_caption_names_victims_that_differ(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    spec = told(attacks=("r4", "p250"), victims=("other", "net"))
    points = read_points({"results": [tmp_path / "results.csv"]}, spec)
    assert points["peak_accuracy"].tolist() == [0.98, 0.5]
    assert scatter_caption(points, spec).endswith(
        "Attacks differ in their victims, too: each is shown with its first of other and net."
    )


def test_each_attack_has_the_outcome_of_its_own_victim(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    chosen = told(attacks=("r4", "p250"), victims=("other", "net"))
    points = read_points({"results": [tmp_path / "results.csv"]}, chosen)
    assert points["peak_accuracy"].tolist() == [0.98, 0.5]


def test_claims_are_held_against_the_interval() -> None:
    up = correlation(range(12), range(12))
    down = correlation(range(12), range(12, 0, -1))
    none = correlation([1, 2, 3, 4, 5, 6], [2, 1, 2, 1, 2, 1])
    apart = correlation(range(40), [17 * place % 40 for place in range(40)])
    for found, first, second in (
        (up, "confirmed", "contradicted"),
        # One tells the other by falling, too.
        (down, "contradicted", "contradicted"),
        (apart, "undecided", "confirmed"),
    ):
        assert first in verdict(found, "rises", 0.8)
        assert second in verdict(found, "does not tell", 0.8)
    assert "undecided" in verdict(none, "rises", 0.8)
    # By hand: of the 120 orders of five, ten are one swap of neighbours or less from perfect, rising or falling.
    swapped = correlation(range(5), [0, 1, 2, 4, 3])
    assert (swapped.p, swapped.spearman.low > 0) == (pytest.approx(10 / 120), True)
    assert verdict(swapped, "rises", 0.8).endswith("undecided: the interval lies above 0, and p is not below 0.05.")
    assert verdict(up, "rises", 0.8).endswith("confirmed: the interval lies above 0.")
    # The study says how close is close.
    strict = verdict(apart, "does not tell", 0.01)
    assert "undecided" in strict
    assert "between -0.01 and 0.01" in strict
    for x in ([1, 2], [3] * 6):
        without = verdict(correlation(x, range(len(x))), "rises", 0.8)
        assert without == "Without a correlation, the paper's claim is undecided."


def test_a_study_in_which_no_loss_is_low_has_an_empty_figure(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    points = read_points({"results": [tmp_path / "results.csv"]}, told(attacks=("slow",)))
    (axes,) = scatter(points, FIRST_EPOCH, PEAK_ACCURACY).axes
    assert [text.get_text() for text in axes.texts] == ["no attack has both"]
    # No triangle is drawn that the caption could tell of.
    assert scatter_caption(points, told()) == (
        "No attack under none has both epochs to low loss and peak accuracy with every seed."
    )


def test_a_table_of_other_attacks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(TABLE)
    with pytest.raises(DataError, match="none of the attacks other"):
        read_points({"results": [tmp_path / "results.csv"]}, told(attacks=("other",)))


# --- curves -----------------------------------------------------------------------------------------------------------


def training(attack: str, seed: int, accuracies: list[float]) -> History:
    count = len(accuracies)
    values = {"train_loss": np.linspace(2, 0, count), "accuracy": np.array(accuracies)}
    return History(attack, "net", "none", seed, np.arange(count), values)


def test_curves_are_means_where_every_seed_was_measured() -> None:
    nan = math.nan
    seeds = [training("r4", 0, [0.1, 0.4, nan, 0.2]), training("r4", 1, [0.3, 0.6, 0.9, 0.2])]
    epochs, values = mean_curve(seeds, "accuracy")
    assert epochs.tolist() == [0, 1, 3]
    assert values.tolist() == pytest.approx([0.2, 0.5, 0.2])
    control = [training("r4", 0, [0.5, 0.6, 0.7, 0.8])]
    curves = {CONTROL: control, "r4": seeds}
    figure = poison_curves([("regions", curves), ("more", curves)], [0.5, 0.7])
    above, _, below, _ = figure.axes
    marked = [line.get_ydata() for line in above.lines if line.get_color() == "#555555"]
    assert [list(ends) for ends in marked] == [[0.5, 0.5], [0.7, 0.7]]
    loss = above.lines[1].get_xydata()
    assert np.allclose(loss, np.column_stack([np.arange(1, 5), np.linspace(2, 0, 4)]))
    assert np.allclose(below.lines[1].get_xydata(), [[1, 20], [2, 50], [4, 20]])
    caption = poison_curves_caption(curves, [0.5, 0.01])
    assert "means over n seeds; dotted, a low training loss (0.5 and 0.01). Peak" in caption
    assert "r4 (n = 2) 50 % at epoch 2, 20 % at the end" in caption
    assert f"{CONTROL} (n = 1) 80 % at epoch 4, 80 % at the end" in caption
    assert "victims, too" not in caption
    others = {**curves, "p250": [replace(each, attack="p250", victim="other") for each in seeds]}
    differ = f" Attacks differ in their victims, too: {seeds[0].victim} ({CONTROL}, r4); other (p250)."
    assert poison_curves_caption(others, []).endswith(differ)


def test_curves_name_how_many_victims_diverged(tmp_path: Path) -> None:
    entries = [{"epoch": epoch, "train_loss": 1.0, "accuracy": 0.5} for epoch in range(2)]
    who = {"attack": "r4", "victim": "net", "defense": "none"}
    write_sealed(tmp_path / "0", {**who, "seed": 0, "history": entries})
    for seed in (1, 2):
        write_sealed(tmp_path / str(seed), {**who, "seed": seed, "failed": "diverged"})
    spec = CurvesSpec.model_validate({"groups": [{"title": "some", "attacks": ["r4", "lf2"]}], "low_loss": []})
    inputs = {"victims.r4": [tmp_path / "0", tmp_path / "1"], "victims.lf2": [tmp_path / "2"]}
    assert draw_curves(inputs, spec)[1].endswith("at the end. Left out: 2 of 3 victims, whose training diverged.")
    assert "Left out" not in draw_curves({"victims.r4": [tmp_path / "0"]}, spec)[1]
    figure, caption = draw_curves({"victims.lf2": [tmp_path / "2"]}, spec)
    assert [text.get_text() for text in figure.texts] == ["no victim has an outcome"]
    assert caption == "Left out: 1 of 1 victims, whose training diverged."


def test_lines_of_a_column_differ_and_the_control_takes_none_of_them() -> None:
    names = [f"a{place}" for place in range(MOST_CURVES)]
    group = {name: [training(name, 0, [0.1, 0.2])] for name in (CONTROL, *names)}
    figure = poison_curves([("a title of a column that is long", group)] * 4, [])
    for axes in figure.axes:
        looks = [(str(line.get_color()), str(line._dash_pattern)) for line in axes.lines]
        assert looks[0][0] == "black"
        assert len(set(looks)) == MOST_CURVES + 1
    # Solid while colours are clearly different.
    assert [nth_line(place)[1] for place in range(8)] == ["solid"] * 7 + [nth_line(7)[1]]
    assert nth_line(7)[1] != "solid"
    assert len({nth_line(place) for place in range(35)}) == 35
    assert figure.axes[0].get_title(loc="left").splitlines() == ["(a) a title of a column", "that is long"]


def test_a_study_names_its_columns_and_a_large_group_is_split() -> None:
    values = yaml.safe_load((REFERENCE.parents[1] / "config" / "learned-faster-smoke.yaml").read_text("utf-8"))
    job = Graph(read_study(values), "").job("figure", {"figure": "poison-curves"})
    assert parse(job.settings)["groups"] == values["figures"]["curves"]
    few = {**values, "figures": {"curves": [{"title": "some", "attacks": ["rn", "cu"]}]}}
    shown = Graph(read_study(few), "").job("figure", {"figure": "poison-curves"})
    files = {each.partition("=")[0] for each in shown.options["from"]}
    assert files == {"control", "victims.rn", "victims.cu"}
    more = [{"name": f"x{place}", "method": "regions", "regions": 4} for place in range(9)]
    own = {**values, "attacks": [*values["attacks"], *more], "figures": {}}
    groups = parse(Graph(read_study(own), "").job("figure", {"figure": "poison-curves"}).settings)["groups"]
    assert [(group["title"], len(group["attacks"])) for group in groups] == [
        *(("optimised or imported poisons", 11), ("regions noise", 14), ("regions noise", 2)),
        ("low-frequency noise", 7),
    ]
    for wrong, words in (
        ({"title": "a", "attacks": ["p10", "p1"]}, "figures.curves names attack 'p1', which is not one of those"),
        ({"title": "a", "attacks": ["p10", "p10"]}, "lists a name twice"),
        ({"title": "a", "attacks": []}, "figures.curves"),
    ):
        with pytest.raises(SettingsError) as caught:
            read_study({**values, "figures": {"curves": [wrong]}})
        assert words in str(caught.value)


# --- perturbations ----------------------------------------------------------------------------------------------------


def poison_set(path: Path, rows: list[int], change: int) -> None:
    bases = torch.arange(len(rows) * 12, dtype=torch.uint8).view(-1, 3, 2, 2) + 50
    images = bases.clone()
    images[:, 0, 0, 0] += change
    PoisonSet(torch.tensor(rows), images, torch.zeros(len(rows), dtype=torch.int64), bases).save(path)


def test_the_first_common_image_is_shown(tmp_path: Path) -> None:
    poison_set(tmp_path / "a", [4, 7, 9], 6)
    poison_set(tmp_path / "b", [7, 8], 2)
    image, changes = read_changes({"poisons.a": [tmp_path / "a"], "poisons.b": [tmp_path / "b"]})
    assert image.ravel().tolist() == [float(value) for value in range(50, 62)]
    assert {name: change.max() for name, change in changes.items()} == {"a": 6, "b": 2}
    figure = perturbations(image, changes)
    assert [axes.get_title() for axes in figure.axes] == ["clean", "a", "b"]
    assert "a 6 and b 2" in perturbations_caption(changes)
    alike = {f"low-frequency-{place}": next(iter(changes.values())) for place in range(2)}
    titles = [axes.get_title().replace("\n", "") for axes in perturbations(image, alike).axes]
    assert titles == ["clean", *alike]
    poison_set(tmp_path / "c", [1], 2)
    with pytest.raises(DataError, match="no image in common"):
        read_changes({"poisons.a": [tmp_path / "a"], "poisons.c": [tmp_path / "c"]})


def test_a_change_is_stretched_from_its_lowest_to_its_highest() -> None:
    change = np.array([[[-8.0, 0.0], [4.0, 8.0]]])
    assert stretched(change).tolist() == [[[0.0, 0.5], [0.75, 1.0]]]
    assert stretched(np.full((1, 2, 2), 3.0)).tolist() == [[[0.5, 0.5], [0.5, 0.5]]]
