"""Several filters in a row: each judges the examples that the previous ones kept."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from poisonlab import modules
from poisonlab.artifacts.keep_list import KeepList
from poisonlab.config.stages import read_stage
from poisonlab.errors import DataError
from poisonlab.filters.per_class import check_examples
from poisonlab.randomness import stream_seed


def judge_all(rows: Sequence[Mapping[str, object]], features: Tensor, labels: Tensor, *, seed: int) -> KeepList:
    """Apply filters one after another.

    Args:
        rows: settings with ``method``, in order.
        features: (N, D) floating, of all examples.
        labels: (N,) int64.
        seed: for filters that draw; each place in the chain has its own stream.

    Raises:
        SettingsError: a setting is unknown, or impossible for this number of examples.
        DataError: features and labels do not fit, or nothing is left.
    """
    check_examples(features, labels)
    left = torch.arange(len(labels), device=labels.device)
    scores, dropped = [], []
    for place, row in enumerate(rows):
        module = modules.load("filters", str(row.get("method")))
        settings = read_stage(module.Settings, row)
        verdict = module.judge(settings, features[left], labels[left], seed=stream_seed(seed, "filter", place))
        score = torch.full((len(labels),), math.nan, dtype=torch.float64, device=labels.device)
        if verdict.score is not None:
            score[left] = verdict.score.double()
        scores.append(score)
        dropped.append(int((~verdict.keep).sum()))
        left = left[verdict.keep]
        if len(left) == 0:
            raise DataError(f"the filter {row.get('method')} drops every example: its settings are too strict")
    keep = torch.zeros(len(labels), dtype=torch.bool, device=labels.device)
    keep[left] = True
    return KeepList(keep, tuple(scores), tuple(dropped))
