"""A method that is registered and has no settings for its contract is not passed over."""

from __future__ import annotations

import pytest
from registry import (
    DEFENSES,
    DETECTORS,
    FILTERS,
    architecture_settings,
    architectures,
    case_of,
    check_settings_are_told,
)


def test_methods_are_found() -> None:
    assert {"friendly-noise", "epic"} <= DEFENSES.keys()
    assert "deep-knn" in FILTERS
    assert "strip" in DETECTORS
    assert {architecture_settings(name).model_fields["name"].default for name in architectures()} >= {"resnet18"}


def test_what_is_missing_is_named() -> None:
    with pytest.raises(pytest.fail.Exception, match=r"deep-knn is registered .* add 'deep-knn' to the table"):
        case_of("deep-knn", {}, "the table")
    with pytest.raises(pytest.fail.Exception, match="no test changes fraction of L2Centroid"):
        check_settings_are_told(FILTERS["l2-centroid"], [], "the table")
