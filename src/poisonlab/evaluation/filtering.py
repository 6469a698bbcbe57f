"""Findings about filters: what they find and at what cost, attack by attack, and whether this supports a claim."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from poisonlab.config.filter_claim import FilterClaim
from poisonlab.config.measures import ACCURACY
from poisonlab.evaluation.intervals import Interval, mean_of_shares, mean_t
from poisonlab.evaluation.layouts import change_text, interval_text
from poisonlab.evaluation.results import looked
from poisonlab.evaluation.trials import Trial


def filter_findings(
    trials: Sequence[Trial], undefended: str | None, claim: FilterClaim | None = None, held: Collection[str] = ()
) -> list[str]:
    """One sentence per attack, on the poisons found, images dropped and accuracy lost by each row that filters or
    dropped anything.

    Seeds are the units: the victims of one seed have the same poisons, so their counts are added.

    Args:
        trials: the trials of all rows.
        undefended: the row whose accuracies are compared, seed by seed and victim by victim; None for no comparison.
        claim: the claim to test; none if not given.
        held: the rows that the claim is tested on. Rows that do more than filter have other costs, too.
    """
    sentences = []
    for attack in dict.fromkeys(trial.attack for trial in trials):
        own = [trial for trial in trials if trial.attack == attack and not trial.failed]
        rows = dict.fromkeys(each.defense for each in own if looked([each]))
        texts = [
            _row(own, row, undefended, claim if row in held else None) for row in rows if not _unpoisoned(own, row)
        ]
        if texts:
            sentences.append(f"{attack}: {'; '.join(texts)}.")
    return sentences


def _unpoisoned(trials: Sequence[Trial], row: str) -> bool:
    found = [trial.found for trial in trials if trial.defense == row and trial.found is not None]
    return not any(each.poisons_dropped + each.poisons_kept for each in found)


def _row(trials: Sequence[Trial], row: str, undefended: str | None, claim: FilterClaim | None) -> str:
    own = [trial for trial in trials if trial.defense == row and trial.found is not None]
    recall, lost = mean_of_shares(_shares(own, "poisons")), _shares(own, "clean")
    dropped = sum(trial.found.poisons_dropped for trial in own if trial.found is not None)
    kept = sum(trial.found.poisons_kept for trial in own if trial.found is not None)
    found = interval_text(recall.estimate, recall.low, recall.high)
    text = f"{row} finds {found} % of the poisons ({dropped} of {dropped + kept}, n = {recall.n})"
    if lost:  # of a training set that is poisoned whole no image is clean
        share = mean_of_shares(lost)
        text += f" and drops {interval_text(share.estimate, share.low, share.high)} % of the clean images"
    change = None if undefended is None else _change(trials, row, undefended)
    if change is not None:
        text += f", test accuracy {change_text(change)} points"
    if claim is not None:
        text += f": {_verdict(recall, change, claim)}"
    return text


def _shares(trials: Sequence[Trial], kind: str) -> list[float]:
    """The share of the poisons, or of the clean images, that each seed's victims dropped; only seeds that have any."""
    shares = []
    for seed in sorted({trial.seed for trial in trials}):
        found = [trial.found for trial in trials if trial.seed == seed and trial.found is not None]
        dropped, kept = (sum(getattr(each, f"{kind}_{what}") for each in found) for what in ("dropped", "kept"))
        shares += [dropped / (dropped + kept)] if dropped + kept else []
    return shares


def _change(trials: Sequence[Trial], row: str, undefended: str) -> Interval | None:
    """The paired change of accuracy by seed, as a mean over victims; None without pairs."""
    accuracies: dict[str, Mapping[tuple[int, str], float]] = {
        name: {
            (trial.seed, trial.victim): trial.measures[ACCURACY.name]
            for trial in trials
            if trial.defense == name and ACCURACY.name in trial.measures
        }
        for name in (row, undefended)
    }
    pairs: dict[int, list[float]] = {}
    for (seed, victim), value in accuracies[row].items():
        if (other := accuracies[undefended].get((seed, victim))) is not None:
            pairs.setdefault(seed, []).append(value - other)
    return mean_t([sum(each) / len(each) for each in pairs.values()]) if pairs else None


def _verdict(recall: Interval, change: Interval | None, claim: FilterClaim) -> str:
    """The verdict of the intervals on the claim."""
    what = f"{100 * claim.found:g} % found for at most {100 * claim.cost:g} points"
    if recall.high < claim.found or (change is not None and change.high < -claim.cost):
        return f"{what} contradicted"
    if recall.low >= claim.found and change is not None and change.low >= -claim.cost:
        return f"{what} confirmed"
    enough = enough_seeds(claim.found)
    if recall.n >= enough:
        return f"{what} undecided"
    few = "no number of seeds can" if math.isinf(enough) else f"fewer than {enough} seeds cannot"
    return f"{what} undecided, as {few} confirm that share"


def enough_seeds(share: float, level: float = 0.95) -> float:
    """The fewest seeds with which a filter that misses no poison is sure to find ``share`` of them; inf for 1.

    Poisons of one seed are found or missed together. For n seeds without a miss, the interval begins at a^(1/n), where
    a is half of 1 - level (Clopper and Pearson).
    """
    return math.inf if share == 1 else math.ceil(math.log((1 - level) / 2) / math.log(share))
