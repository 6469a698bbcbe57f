"""What figures of filters are drawn from, made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.config.measures import ACCURACY, SUCCESS
from poisonlab.evaluation.trials import Trial, write_trials

GROUPS = np.repeat([0, 1, 2], (6, 5, 4))


def network(place: int, near: float, filtered: bool, layers: int = 3) -> dict[str, NDArray[Any]]:
    """Six clean images of the target's class, five of the other, four poisons at ``near`` from the target."""
    random = np.random.default_rng(place)
    points = random.normal(0, 0.2, (15, 2)) + np.array([[0, 0], [1, 0], [0.2, 0.1]])[GROUPS]
    found = {
        "points": points,
        "target": np.array([0.2, 0.1]),
        "to_target": np.array([0.9, 1.2, near])[GROUPS],
        "between": np.array(4.0),
        "group": GROUPS,
        "dropped": np.isin(np.arange(15), (0, 1, 11, 12, 13)) & filtered,
        "layers": np.array([f"block{layer}" for layer in range(layers)]),
        "layer_poisons": np.outer(np.linspace(0.8, near, layers), [0.5, 1.0, 1.0, 1.5]),
        "layer_bases": np.outer(np.linspace(0.8, 1.6, layers), [1.0] * 4),
        "layer_norms": np.ones(layers),
    }
    if filtered:
        found["poisons_dropped"] = np.array([True, True, True, False])
        for name, count in (("target", 1), ("poisons", 4), ("dropped", 2), ("kept", 5)):
            found[f"images_{name}"] = random.integers(0, 256, (count, 3, 8, 8), dtype=np.uint8)
    return {f"{name}.{place}": array for name, array in found.items()}


def write_view(path: Path, *names: str, **changes: NDArray[Any]) -> Path:
    """A view of a filtered network and of another one; without the arrays called ``names``, and with ``changes``."""
    arrays = {**network(0, 0.4, True), **network(1, 1.2, False)}
    arrays |= {
        "victims": np.array(["on-net", "on-robust"]),
        "defenses": np.array(["knn-of-mine", "none"]),
        "known_as": np.array(["deep-knn", "none"]),
        "filtered": np.array([True, False]),
        "classes": np.array(["frog", "ship"]),
        **changes,
    }
    write_arrays(path, **{name: array for name, array in arrays.items() if name not in names})
    return path


VICTIMS = ("on-a", "on-b")
CALLED = {"none": "none", "knn-of-mine": "deep-knn", "svm-of-mine": "one-class-svm"}
SEEDS = range(8)
SUCCEEDED = {"on-a": range(5), "on-b": range(2, 4)}
"""Seeds on which the attack succeeds undefended."""
STILL = {"knn-of-mine": (6,), "svm-of-mine": (0, 1, 3, 7)}
"""Seeds on which it succeeds under a defense, with either victim."""

PUBLISHED = (
    "table,row,defense,measure,value,plus_minus,unit,note\n"
    "3,Net A,deep-knn,success,0.0,,percent,\n"
    "3,Net A,one-class-svm,success,66.7,,percent,\n"
    "3,Net B,one-class-svm,success,0.5,,percent,\n"
)

BARS: dict[str, Any] = {
    "description": "",
    "lines": [
        {
            "attack": "polytope",
            "victim": victim,
            "defense": defense,
            "control": False,
            "seeds": list(SEEDS),
            "settings": "own",
            "called": called,
        }
        for victim in VICTIMS
        for defense, called in CALLED.items()
    ],
    "measures": [{"attack": "polytope", "measures": [SUCCESS.told(), ACCURACY.told()]}],
    "compare": ["none"],
    "defenses": ["knn-of-mine", "svm-of-mine"],
    "only_successes": True,
    "table": 3,
    "rows": [{"victim": "on-a", "row": "Net A"}, {"victim": "on-b", "row": "Net B"}],
    "beside": "figure 3 of the paper",
}


def write_bars(path: Path, succeeds: bool = True) -> Path:
    """Trials of ``BARS``; undefended, the attack succeeds on the seeds of ``SUCCEEDED``, or on none."""
    trials = []
    for victim in VICTIMS:
        for defense in CALLED:
            for seed in SEEDS:
                won = seed in (SUCCEEDED[victim] if defense == "none" else STILL[defense])
                measures = {"success": float(won and succeeds), "accuracy": 0.9}
                trials.append(Trial("polytope", victim, defense, seed, measures, targets=1, settings="own"))
    write_trials(path, trials)
    return path
