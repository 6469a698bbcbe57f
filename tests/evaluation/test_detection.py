"""Detection scores against scikit-learn and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from poisonlab.errors import DataError
from poisonlab.evaluation.detection import Detection, detection

PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@settings(deadline=None)
@given(pairs=PAIRS)
def test_scores_are_scikit_learn_s_where_both_are_defined(pairs: list[tuple[bool, bool]]) -> None:
    keep, poisoned = (torch.tensor(column) for column in zip(*pairs, strict=True))
    ours = detection(keep, poisoned)
    dropped, truth = (~keep).numpy(), poisoned.numpy()
    counts = (ours.clean_kept, ours.clean_dropped, ours.poisons_kept, ours.poisons_dropped)
    assert counts == tuple(metrics.confusion_matrix(truth, dropped, labels=[False, True]).ravel().tolist())
    if dropped.any():
        assert ours.precision == pytest.approx(metrics.precision_score(truth, dropped, zero_division=0))
    if truth.any():
        assert ours.recall == pytest.approx(metrics.recall_score(truth, dropped, zero_division=0))
    if 0 < dropped.sum() < len(dropped) and 0 < truth.sum() < len(truth):
        assert ours.matthews == pytest.approx(metrics.matthews_corrcoef(truth, dropped))
    else:
        assert math.isnan(ours.matthews)


def test_what_is_not_defined_is_nan() -> None:
    nothing_dropped = Detection(poisons_dropped=0, poisons_kept=3, clean_dropped=0, clean_kept=7)
    assert math.isnan(nothing_dropped.precision)
    assert nothing_dropped.recall == nothing_dropped.clean_loss == 0
    no_poisons = Detection(poisons_dropped=0, poisons_kept=0, clean_dropped=2, clean_kept=8)
    assert math.isnan(no_poisons.recall)
    assert no_poisons.precision == 0
    assert no_poisons.clean_loss == pytest.approx(0.2)
    assert math.isnan(Detection(poisons_dropped=1, poisons_kept=0, clean_dropped=0, clean_kept=0).clean_loss)


def test_a_perfect_filter_and_its_opposite() -> None:
    poisoned = torch.tensor([True, False, False, True])
    assert detection(~poisoned, poisoned).matthews == 1
    assert detection(poisoned, poisoned).matthews == -1


def test_masks_that_do_not_fit_are_refused() -> None:
    mask = torch.ones(4, dtype=torch.bool)
    for other in (mask[:3], mask.long()):
        with pytest.raises(DataError, match="bool masks of one length"):
            detection(mask, other)
