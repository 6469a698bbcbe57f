"""Ratios of earlier runs on the same kind of device, and which of them have become worse by more than the noise."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TOLERANCE = 0.1
"""Share of a ratio that runs on one machine differ by, whatever the range within each of them."""


@dataclass(frozen=True)
class Ratio:
    """Something of which more is better: the median over a run's repeats, and their range."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        """Rounded to what is worth keeping."""
        return cls(*(round(value, 3) for value in (statistics.median(values), min(values), max(values))))

    def worse_than(self, other: Ratio) -> bool:
        """Whether the two ranges lie apart, this one lower, and the medians differ by more than ``TOLERANCE``."""
        return self.high < other.low and self.ratio < (1 - TOLERANCE) * other.ratio


Ratios = Mapping[str, Ratio]
"""By what was measured."""


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    worse: lines, one for each ratio that became worse.
    missing: what was measured and has no earlier ratio.
    """

    worse: list[str]
    missing: list[str]


def compare(earlier: Ratios, now: Ratios) -> Comparison:
    """What of ``now`` is worse than ``earlier``; what was not measured now does not count."""
    worse = [
        f"{name}: {new.ratio:.2f} ({new.low:.2f} to {new.high:.2f}), "
        f"was {old.ratio:.2f} ({old.low:.2f} to {old.high:.2f})"
        for name, new in now.items()
        if (old := earlier.get(name)) is not None and new.worse_than(old)
    ]
    return Comparison(worse, [name for name in now if name not in earlier])


def read(path: Path, device: str, scale: str) -> dict[str, Ratio]:
    """What was recorded of this kind of device at this scale; nothing if the file is missing."""
    recorded = _load(path).get(device, {}).get(scale, {})
    return {name: Ratio(**ratio) for name, ratio in recorded.items()}


def record(path: Path, device: str, scale: str, now: Ratios) -> None:
    """Put ``now`` in the place of what was recorded; what was not measured now, and other devices, stay."""
    everything = _load(path)
    place = everything.setdefault(device, {}).setdefault(scale, {})
    place.update({name: asdict(ratio) for name, ratio in now.items()})
    path.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _load(path: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    if not path.is_file():
        return {}
    loaded: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
