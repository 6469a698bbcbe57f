"""What every filter promises, on features with planted outliers and on those that are hard to divide."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from registry import FILTERS, case_of, check_settings_are_told, modules_of, or_refusal
from torch import Tensor

from poisonlab.artifacts.keep_list import KeepList
from poisonlab.errors import DataError, SettingsError
from poisonlab.filters.chain import judge_all


@dataclass(frozen=True)
class Case:
    """Settings of a filter for ``planted``.

    Attributes:
        settings: under which it finds the outliers.
        full: groups of settings, every one of which matters on ``mixed``; all settings are in some group.
        by_chance: it drops by chance, whatever the features are.
        ranks: it scores the examples.
    """

    settings: Mapping[str, Any]
    full: Sequence[Mapping[str, Any]]
    by_chance: bool = False
    ranks: bool = True


TABLE = "CASES of tests/contracts/test_filters.py"
CASES: dict[str, Case] = {
    "activation-clustering": Case({}, [{"reduce": "ica", "dims": 2, "threshold": 0.3}], ranks=False),
    "deep-knn": Case(
        {"k": 12}, [{"k": 5, "rule": "paper", "self_counts": True}, {"expected": 0.1, "factor": 3.0, "rule": "paper"}]
    ),
    "l2-centroid": Case({"fraction": 0.1}, [{"fraction": 0.35}]),
    "one-class-svm": Case({"nu": 0.2, "gamma": 0.0005}, [{"nu": 0.6, "gamma": 0.1}, {"nu": 0.5, "boundary": "sign"}]),
    "random-filter": Case({"fraction": 0.1}, [{"fraction": 0.35}], by_chance=True, ranks=False),
    # 1.5 * 0.025 * 160 are 6 of each class.
    "spectral-signatures": Case({"expected": 0.025}, [{"expected": 0.05, "factor": 2.0}]),
}
every_filter = pytest.mark.parametrize("name", FILTERS)


def case(name: str) -> Case:
    return case_of(name, CASES, TABLE)


def planted(per_class: int = 40, wrong: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, 8) of four classes far apart, labels 0, 2, 3 and 7, and which examples lie in the next class."""
    stream = torch.Generator().manual_seed(6)
    places = torch.arange(4).repeat(per_class)
    outliers = torch.arange(len(places)) // 4 < wrong
    lies = torch.where(outliers, (places + 1) % 4, places)
    features = 9 * torch.eye(4, 8)[lies] + torch.randn(len(places), 8, generator=stream)
    order = torch.randperm(len(places), generator=stream)
    return features[order], torch.tensor([0, 2, 3, 7])[places[order]], outliers[order]


def mixed() -> tuple[Tensor, Tensor]:
    """Features (60, 4) of three classes that run into one another, and labels."""
    stream = torch.Generator().manual_seed(1)
    labels = torch.randint(3, (60,), generator=stream)
    return torch.randn(60, 4, generator=stream) + 1.5 * labels[:, None], labels


def judged(name: str, features: Tensor, labels: Tensor, seed: int = 0, **changes: Any) -> KeepList:
    return judge_all([{"method": name, **case(name).settings, **changes}], features, labels, seed=seed)


def check(found: KeepList, features: Tensor, name: str) -> Tensor:
    """The keep-list, on the processor, after a look at its form."""
    count = len(features)
    assert found.keep.dtype == torch.bool
    assert found.keep.shape == (count,)
    assert found.keep.device == features.device
    assert bool(found.keep.any())
    assert found.dropped == (count - int(found.keep.sum()),)
    (score,) = found.scores
    assert score.shape == (count,)
    assert score.dtype == torch.float64
    assert bool(score.isfinite().all() if case(name).ranks else score.isnan().all())
    return found.keep.cpu()


def kept_or_refused(name: str, features: Tensor, labels: Tensor) -> Tensor | None:
    """A keep-list that leaves something, or None after one line about settings that leave nothing."""
    found = or_refusal(lambda: judged(name, features, labels))
    return None if isinstance(found, str) else check(found, features, name)


def test_every_filter_of_the_package_is_registered() -> None:
    judges = {name for name, module in modules_of("filters").items() if hasattr(module, "judge")}
    assert judges == set(FILTERS), "a module and the union FilterSettings of poisonlab.config.rows differ"


@pytest.mark.elsewhere
@every_filter
def test_it_finds_planted_outliers(name: str, device: torch.device) -> None:
    features, labels, outliers = planted()
    before = features.clone()
    keep = check(judged(name, features.to(device), labels.to(device)), features.to(device), name)
    assert torch.equal(features, before)
    found, lost = (~keep[outliers]).double().mean(), (~keep[~outliers]).double().mean()
    if case(name).by_chance:
        assert int((~keep).sum()) == 16
    else:
        assert found > 0.8
        assert lost < 0.15


@every_filter
def test_outliers_have_the_higher_scores_of_their_class(name: str) -> None:
    features, labels, outliers = planted()
    (score,) = judged(name, features, labels).scores
    for label in labels.unique() if case(name).ranks else []:
        own = labels == label
        above = score[own & outliers][:, None] > score[own & ~outliers]
        assert above.double().mean() > 0.85


@every_filter
def test_the_order_of_the_examples_does_not_matter(name: str, device: torch.device) -> None:
    features, labels, _ = planted()
    features, labels = features.to(device), labels.to(device)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(2))
    keep, other = (
        check(judged(name, *examples), features, name)
        for examples in ((features, labels), (features[order.to(device)], labels[order.to(device)]))
    )
    expected = keep if case(name).by_chance else keep[order]
    assert torch.equal(other, expected)


@every_filter
def test_the_seed_decides_where_chance_does_and_the_device_never(name: str, device: torch.device) -> None:
    features, labels, _ = planted()
    keep = judged(name, features, labels, seed=1).keep
    assert torch.equal(keep, judged(name, features.to(device), labels.to(device), seed=1).keep.cpu())
    torch.manual_seed(5)
    assert torch.equal(keep, judged(name, features, labels, seed=1).keep)
    assert torch.equal(keep, judged(name, features, labels, seed=2).keep) is not case(name).by_chance


@every_filter
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_every_setting_matters(name: str) -> None:
    groups = case(name).full
    check_settings_are_told(FILTERS[name], {key for group in groups for key in group}, f"full of {name!r} in {TABLE}")
    for group in groups:
        keep = judge_all([{"method": name, **group}], *mixed(), seed=3).keep
        for key in group:
            # Another setting of the group may be refused without this one.
            fewer = {other: value for other, value in group.items() if other != key}
            found = or_refusal(partial(judge_all, [{"method": name, **fewer}], *mixed(), seed=3))
            assert isinstance(found, str) or not torch.equal(found.keep, keep), key


@every_filter
def test_other_floating_types_give_the_same_verdict(name: str) -> None:
    features, labels, _ = planted()
    features = features.bfloat16()
    keep = judged(name, features.float(), labels).keep
    for kind in (torch.float64, torch.float16, torch.bfloat16):
        assert torch.equal(judged(name, features.to(kind), labels).keep, keep), kind


@every_filter
def test_labels_need_not_be_the_first_numbers(name: str) -> None:
    """Classes without an example between the others change nothing."""
    features, labels, _ = planted()
    dense = torch.unique(labels, return_inverse=True)[1]
    assert torch.equal(judged(name, features, dense).keep, judged(name, features, labels).keep)


@every_filter
def test_a_class_of_one_example(name: str) -> None:
    features, labels, _ = planted()
    alone = torch.cat([features, torch.full((1, 8), 30.0)]), torch.cat([labels, torch.tensor([5])])
    keep = kept_or_refused(name, *alone)
    if keep is not None:
        # The classes' own filters judge the others as if it were not there.
        assert int(keep[:-1].sum()) >= 0.8 * len(labels)
    kept_or_refused(name, features[:1], labels[:1])


@every_filter
def test_equal_examples_are_not_all_dropped(name: str) -> None:
    labels = torch.arange(40) % 2
    for features in (torch.ones(40, 8), torch.zeros(40, 3), torch.nn.functional.one_hot(labels, 8).float()):
        kept_or_refused(name, features, labels)


@every_filter
def test_few_examples_of_many_features(name: str) -> None:
    features = torch.randn(24, 200, generator=torch.Generator().manual_seed(0))
    kept_or_refused(name, features, torch.arange(24) % 2)


@every_filter
def test_examples_that_do_not_fit_are_one_line(name: str) -> None:
    features, labels, _ = planted()
    broken = features.clone()
    broken[7, 2] = math.nan
    for bad, message in [
        ((broken, labels), "example 7 are not finite"),
        ((features[:, None], labels), "flatten"),
        ((features.long(), labels), "flatten"),
        ((features[:-1], labels), "one int64 label per row"),
        ((features, labels.int()), "one int64 label per row"),
    ]:
        with pytest.raises(DataError, match=message) as caught:
            judged(name, *bad)
        assert "\n" not in str(caught.value)


@every_filter
def test_settings_that_it_does_not_know_are_one_line(name: str) -> None:
    with pytest.raises(SettingsError, match="no_such_key") as caught:
        judged(name, *planted()[:2], no_such_key=1)
    assert "\n" not in str(caught.value)
