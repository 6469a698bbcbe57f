"""Ratios of earlier runs on the same kind of device, and which ratios have become worse by more than the noise."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TOLERANCE = 0.1
"""Relative difference of ratios between runs on one machine, even if the range within each run is small."""


@dataclass(frozen=True)
class Ratio:
    """A quantity of which more is better: the median over a run's repeats, and their range."""

    ratio: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Ratio:
        """The ratio of a run's repeats, rounded to three digits."""
        return cls(*(round(value, 3) for value in (statistics.median(values), min(values), max(values))))

    def worse_than(self, other: Ratio) -> bool:
        """Whether the two ranges lie apart, this one lower, and the medians differ by more than ``TOLERANCE``."""
        return self.high < other.low and self.ratio < (1 - TOLERANCE) * other.ratio


Ratios = Mapping[str, Ratio]
"""Ratios by the name of the measurement."""


@dataclass(frozen=True)
class Comparison:
    """Attributes:
    worse: lines, one for each ratio that became worse.
    missing: names of measurements without an earlier ratio.
    """

    worse: list[str]
    missing: list[str]


def compare(earlier: Ratios, now: Ratios) -> Comparison:
    """Which ratios of ``now`` are worse than in ``earlier``; ratios that were not measured now do not count."""
    worse = [
        f"{name}: {new.ratio:.2f} ({new.low:.2f} to {new.high:.2f}), "
        f"was {old.ratio:.2f} ({old.low:.2f} to {old.high:.2f})"
        for name, new in now.items()
        if (old := earlier.get(name)) is not None and new.worse_than(old)
    ]
    return Comparison(worse, [name for name in now if name not in earlier])


def read(path: Path, device: str, scale: str) -> dict[str, Ratio]:
    """The recorded ratios of this kind of device at this scale; none if the file is missing."""
    recorded = _load(path).get(device, {}).get(scale, {})
    return {name: Ratio(**ratio) for name, ratio in recorded.items()}


def record(path: Path, device: str, scale: str, now: Ratios) -> None:
    """Replace recorded ratios by ``now``; ratios that were not measured now, and other devices, stay."""
    everything = _load(path)
    place = everything.setdefault(device, {}).setdefault(scale, {})
    place.update({name: asdict(ratio) for name, ratio in now.items()})
    path.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _load(path: Path) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    if not path.is_file():
        return {}
    loaded: dict[str, dict[str, dict[str, dict[str, float]]]] = json.loads(path.read_text(encoding="utf-8"))
    return loaded
