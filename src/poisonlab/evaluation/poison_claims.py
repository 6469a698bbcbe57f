"""Tests of claims about poisons of whole training sets: findings, each with its verdict.

The claims and the rules of the verdicts are those of ``config.poison_claims``. Source: Sandoval-Segura et al. 2022,
sections 4.1 and 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import pandas as pd

from poisonlab.config.measures import (
    ACCURACY,
    FIRST_EPOCH,
    PEAK_ACCURACY,
    STOPPED_CLEAN,
    STOPPED_POISONED,
    Measure,
)
from poisonlab.config.poison_claims import PoisonClaims
from poisonlab.evaluation.choosing import MEAN
from poisonlab.evaluation.correlations import Correlation, correlation
from poisonlab.evaluation.intervals import Interval, mean_t
from poisonlab.evaluation.layouts import change_text, p_text
from poisonlab.evaluation.trials import Trial

Verdict = Literal["confirmed", "contradicted", "undecided"]
FEWEST = 5
"""Fewest attacks with which a rank correlation can settle a claim. Four are in perfect order, rising or falling, by
chance in 2 of 24 cases, and then so is every resample of the bootstrap."""
CHANCE = 0.05
"""A correlation settles a claim only if its p is below this."""
_NAMED = 4
"""Attacks named in the sentence on early stopping."""


def rises(found: Correlation) -> Verdict:
    """The verdict on whether one measure rises with another: the interval of their rank correlation must lie above 0,
    and p below ``CHANCE``."""
    ranks = found.spearman
    if ranks.n < FEWEST or not found.p < CHANCE:
        return "undecided"
    return "confirmed" if ranks.low > 0 else "contradicted" if ranks.high < 0 else "undecided"


def does_not_tell(found: Correlation, close: float) -> Verdict:
    """The verdict on whether one measure does not tell another: the interval of their rank correlation must lie between
    ``-close`` and ``close``. An interval beyond one of these contradicts it only with p below ``CHANCE``."""
    ranks = found.spearman
    if ranks.n < FEWEST or math.isnan(ranks.low):
        return "undecided"
    if ranks.low > -close and ranks.high < close:
        return "confirmed"
    beyond = found.p < CHANCE and (ranks.low > close or ranks.high < -close)
    return "contradicted" if beyond else "undecided"


def no_stronger(changes: Sequence[Interval], pairs: int) -> Verdict:
    """The verdict on whether stronger attacks are no stronger poisons.

    Args:
        changes: changes of the peak accuracy from each weaker to the next stronger attack, with simultaneous intervals;
            without bounds if there is one seed, or all seeds have the same change.
        pairs: number of claimed changes, known or not; an unknown one may be a rise.
    """
    # Comparisons with nan are false.
    if any(change.low > 0 for change in changes):
        return "confirmed"
    known = pairs == len(changes) > 0
    return "contradicted" if known and all(change.high < 0 for change in changes) else "undecided"


@dataclass(frozen=True)
class Change:
    """The change of peak accuracy from a weaker to a stronger attack."""

    weaker: str
    stronger: str
    paired: Interval


def poison_findings(
    results: pd.DataFrame, trials: Sequence[Trial], undefended: str | None, claims: PoisonClaims | None
) -> list[str]:
    """A sentence on each claim, from our numbers and from published ones, if any, and one on early stopping, which no
    paper has. Empty without claims.

    Args:
        results: tidy (see ``tidy_results``); only the undefended row and the victims that most attacks have count.
        trials: the trials of the results.
        undefended: name of the undefended row.
        claims: the claims.
    """
    every = _by_victim(results, undefended)
    if claims is None or not every:
        return []
    found = []
    for victim, own in every.items():
        where = f"under {undefended}, victim {victim}"
        changes = changes_of(trials, claims, victim, str(undefended))
        found += [
            _of_speed(own, where),
            _of_final(own, where, claims.close),
            *([_of_strength(changes, len(_pairs(claims)), where)] if claims.stronger else []),
            *_of_stopping(stopping_costs(trials, victim, str(undefended)), where),
        ]
    return [*found, *_published(next(iter(every.values())), claims)]


def _by_victim(results: pd.DataFrame, undefended: str | None) -> dict[str, pd.DataFrame]:
    """The rows of attacks without a goal under one defense, by victim; only victims with the largest number of
    attacks."""
    if undefended is None or PEAK_ACCURACY.name not in results:
        return {}
    known = results[PEAK_ACCURACY.name].notna() & (results["victim"] != MEAN)
    found = results[(results["defense"] == undefended) & known]
    parts = {str(victim): part for victim, part in found.groupby("victim", sort=False)}
    most = max(map(len, parts.values()), default=0)
    return {victim: part for victim, part in parts.items() if len(part) == most}


def changes_of(trials: Sequence[Trial], claims: PoisonClaims, victim: str, undefended: str) -> list[Change]:
    """The change of peak accuracy of each pair of neighbours, paired by seed.

    The intervals are Student's t, and hold at 95 % for all pairs at once (Bonferroni).
    """
    peaks: dict[str, dict[int, float]] = {}
    for trial in _undefended_trials(trials, victim, undefended):
        if PEAK_ACCURACY.name in trial.measures:
            peaks.setdefault(trial.attack, {})[trial.seed] = trial.measures[PEAK_ACCURACY.name]
    pairs = _pairs(claims)
    found = []
    for weaker, stronger in pairs:
        first, second = peaks.get(weaker, {}), peaks.get(stronger, {})
        values = [second[seed] - first[seed] for seed in first if seed in second]
        if values:
            found.append(Change(weaker, stronger, mean_t(values, 1 - 0.05 / len(pairs))))
    return found


def stopping_costs(trials: Sequence[Trial], victim: str, undefended: str) -> dict[str, list[float]]:
    """The test accuracy that early stopping loses with poisoned in place of clean validation images, by attack and
    seed.

    Both stops belong to one training, so the difference is paired. Only attacks that have both; shares in [-1, 1].
    """
    found: dict[str, list[float]] = {}
    for trial in _undefended_trials(trials, victim, undefended):
        if {STOPPED_CLEAN.name, STOPPED_POISONED.name} <= trial.measures.keys():
            cost = trial.measures[STOPPED_CLEAN.name] - trial.measures[STOPPED_POISONED.name]
            found.setdefault(trial.attack, []).append(cost)
    return found


def _undefended_trials(trials: Sequence[Trial], victim: str, undefended: str) -> list[Trial]:
    return [trial for trial in trials if (trial.victim, trial.defense) == (victim, undefended) and not trial.failed]


def _pairs(claims: PoisonClaims) -> list[tuple[str, str]]:
    """Each weaker attack with the next stronger one."""
    return [pair for series in claims.stronger.values() for pair in pairwise(series)]


def with_slowest(own: pd.DataFrame, event: Measure, outcome: Measure) -> pd.DataFrame:
    """The rows, with an infinite ``event`` for attacks in which some seed ended without it.

    The slowest poisons are those whose loss never is low. Leaving them out, or averaging over their faster seeds, would
    weaken the relation of speed and peak.

    Args:
        own: a row per attack, with each measure and its number of seeds (``m_n``, see ``tidy_results``).
        event: a measure such as the epochs until the loss is low; absent if a seed never reached it.
        outcome: a measure that every seed has.
    """
    late = own[f"{event.name}_n"] < own[f"{outcome.name}_n"]
    return own.assign(**{event.name: own[event.name].mask(late, math.inf)})


def _of_speed(own: pd.DataFrame, where: str) -> str:
    timed = with_slowest(own, FIRST_EPOCH, PEAK_ACCURACY) if FIRST_EPOCH.name in own else own
    found, count = _correlation(timed, FIRST_EPOCH, PEAK_ACCURACY)
    late = [str(name) for name in timed[timed[FIRST_EPOCH.name] == math.inf]["attack"]] if count else []
    slowest = ""
    if late:
        others, left = _correlation(timed[timed[FIRST_EPOCH.name] < math.inf], FIRST_EPOCH, PEAK_ACCURACY)
        slowest = (
            f" Tied as the slowest and not in Pearson's, as their loss was not low with every seed: {len(late)} of "
            f"{count} attacks ({', '.join(late)}). Of the attacks whose loss was low (n = {left}): "
            f"{_rank_correlation(others)}."
        )
    return (
        f"Poisons that are learned faster leave a lower peak accuracy: {rises(found)}. Epochs to low loss and "
        f"peak accuracy of {count} attacks {where}: {_coefficients(found)}.{slowest}"
    )


def _of_final(own: pd.DataFrame, where: str, close: float) -> str:
    found, count = _correlation(own, ACCURACY, PEAK_ACCURACY)
    return (
        f"The final accuracy does not tell the peak: {does_not_tell(found, close)}. Both of {count} attacks "
        f"{where}: {_coefficients(found)}; confirmed would be Spearman's interval between {-close:g} and {close:g}."
    )


def _of_strength(changes: Sequence[Change], pairs: int, where: str) -> str:
    verdict = no_stronger([change.paired for change in changes], pairs)
    told = "; ".join(
        f"{change.weaker} to {change.stronger} {change_text(change.paired)} (n = {change.paired.n})"
        for change in changes
    )
    at_once = f", with 95 % intervals that hold for all {pairs} pairs at once" if pairs > 1 else ""
    what = f"Change of peak accuracy in points {where}{at_once}: {told}."
    return (
        f"Stronger attacks are no stronger poisons: {verdict}. "
        f"{what if told else 'No pair of attacks has a seed in common.'}"
    )


def _of_stopping(by_seed: Mapping[str, Sequence[float]], where: str) -> list[str]:
    """The sentence on early stopping, with Student's t over seeds; empty if no training has both stops."""
    costs = {attack: mean_t(values) for attack, values in by_seed.items()}
    if not costs:
        return []
    ranked = sorted(costs, key=lambda attack: -abs(costs[attack].estimate))
    told = [f"{attack} {change_text(costs[attack])} (n = {costs[attack].n})" for attack in ranked[:_NAMED]]
    rest = [100 * costs[attack].estimate for attack in ranked[_NAMED:]]
    more = f"; {len(rest)} more from {min(rest):+.1f} to {max(rest):+.1f}" if rest else ""
    several = [values for values in by_seed.values() if len(values) > 1]
    each, at_once = (
        sum(_excludes_zero(mean_t(values, 1 - 0.05 / number)) for values in several)
        for number in (1, max(len(several), 1))
    )
    counted = (
        f"The interval excludes 0 for {each} of {len(several)} attacks, at 95 % each, and for {at_once} with intervals "
        f"that hold for all at once"
        if several
        else "One seed of each gives no interval"
    )
    return [
        f"Test accuracy lost in points by early stopping on poisoned in place of clean validation images, of "
        f"{len(costs)} attacks {where}; largest differences: {', '.join(told)}{more}. {counted}."
    ]


def _excludes_zero(change: Interval) -> bool:
    """Whether the change has bounds that exclude 0; ``contains`` is also false without bounds."""
    return change.low > 0 or change.high < 0


def _published(own: pd.DataFrame, claims: PoisonClaims) -> list[str]:
    """The same sentences from the published numbers beside the rows, as far as there are any."""
    final, peak = (f"published_{measure.name}" for measure in (ACCURACY, PEAK_ACCURACY))
    if final not in own or peak not in own:
        return []
    known = own[[peak, final]].dropna()
    told = []
    if len(known) >= FEWEST:
        found = correlation(list(known[final]), list(known[peak]))
        word = does_not_tell(found, claims.close)
        told.append(
            f"Published, the final accuracy does not tell the peak: {word}. Both of {len(known)} attacks: "
            f"{_coefficients(found)}."
        )
    steps = _published_steps(dict(zip(own["attack"], own[peak], strict=True)), claims)
    if steps:
        higher = sum(step > 0 for _, step in steps)
        listed = "; ".join(f"{pair} {100 * step:+.1f}" for pair, step in steps)
        told.append(
            f"Published, stronger attacks are no stronger poisons: undecided, as there is one run of each. The peak "
            f"accuracy rises in {higher} of {len(steps)} pairs: {listed} points."
        )
    return told


def _published_steps(peaks: Mapping[str, float], claims: PoisonClaims) -> list[tuple[str, float]]:
    steps = [(f"{one} to {two}", peaks.get(two, math.nan) - peaks.get(one, math.nan)) for one, two in _pairs(claims)]
    return [(pair, step) for pair, step in steps if not math.isnan(step)]


def _correlation(own: pd.DataFrame, first: Measure, second: Measure) -> tuple[Correlation, int]:
    known = own.dropna(subset=[first.name, second.name]) if first.name in own else own.iloc[:0]
    if known.empty:
        return correlation([], []), 0
    return correlation(list(known[first.name]), list(known[second.name])), len(known)


def _coefficients(found: Correlation) -> str:
    if math.isnan(found.spearman.low):
        return "no correlation"
    text, two = _rank_correlation(found), found.pearson
    if math.isnan(two.low):
        return text
    return f"{text}, Pearson's {two.estimate:.2f} [{two.low:.2f}, {two.high:.2f}]"


def _rank_correlation(found: Correlation) -> str:
    one = found.spearman
    if math.isnan(one.low):
        return "no correlation"
    chance = f"p {p_text(found.p)} by permutation"
    return f"Spearman's correlation {one.estimate:.2f} [{one.low:.2f}, {one.high:.2f}] ({chance})"
