"""Measured speeds of devices, and the hours that an amount of work takes at them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import get_args

from poisonlab.cost.amount import Kind, Work
from poisonlab.errors import DataError

ALL = "all"
_DEFAULT = "train"


@dataclass(frozen=True)
class Rate:
    """A line of ``benchmarks/rates.csv``.

    Attributes:
        device: with what distinguishes it, such as the number of threads.
        precision: float32 or bfloat16.
        network: name of the architecture.
        kind: of work, see ``poisonlab.cost.amount``; ``all`` for any.
        tflops: sustained, in 10^12 operations per second.
        source: how and where it was measured.
    """

    device: str
    precision: str
    network: str
    kind: str
    tflops: float
    source: str


@dataclass(frozen=True)
class Device:
    """All rates of one device at one precision."""

    rates: tuple[Rate, ...]

    @property
    def name(self) -> str:
        return f"{self.rates[0].device}, {self.rates[0].precision}"

    def rate(self, kind: Kind, network: str) -> Rate:
        """The rate of this work; if it is missing, that of training the network, then those of the first network."""
        for name in (network, self.rates[0].network):
            for sort in (kind, ALL, _DEFAULT):
                for rate in self.rates:
                    if rate.network == name and rate.kind == sort:
                        return rate
        raise DataError(f"there is no rate of {_DEFAULT} for {self.name}: measure one with benchmarks/rates.py")

    def hours(self, work: Work) -> float:
        """How long it takes, job after job."""
        return sum(
            flops / (self.rate(kind, network).tflops * 1e12) / 3600 for (kind, network), flops in work.parts.items()
        )

    def stand_ins(self, work: Work) -> list[str]:
        """Which rates stand in for others that are missing, a line per rate."""
        missing: dict[Rate, list[str]] = {}
        for (kind, network), flops in work.parts.items():
            rate = self.rate(kind, network)
            if flops and (rate.network != network or rate.kind not in (kind, ALL)):
                missing.setdefault(rate, []).append(f"{kind} on {network}")
        return [
            f"{self.name}: no rate of {', '.join(names)}; taken: {rate.kind} on {rate.network}"
            for rate, names in missing.items()
        ]


def read_rates(path: Path) -> list[Device]:
    """The devices of a table of rates, in its order.

    Raises:
        DataError: the file is missing or empty, or a line is not as ``Rate`` describes.
    """
    try:
        with path.open(newline="", encoding="utf-8") as opened:
            reader = csv.DictReader(opened)
            header, lines = reader.fieldnames, list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read the rates in {path}: {getattr(error, 'strerror', None) or error}") from error
    columns = [field.name for field in fields(Rate)]
    if header != columns or not lines:
        raise DataError(f"{path} must have the columns {', '.join(columns)}, and at least one line")
    by_device: dict[tuple[str, str], list[Rate]] = {}
    for number, line in enumerate(lines, start=2):
        rate = _rate(line, f"{path}, line {number}")
        by_device.setdefault((rate.device, rate.precision), []).append(rate)
    return [Device(tuple(rates)) for rates in by_device.values()]


def _rate(line: dict[str, str], where: str) -> Rate:
    kinds: Sequence[str] = (*get_args(Kind), ALL)
    if None in line.values() or None in line or line["kind"] not in kinds:
        raise DataError(f"{where}: give six fields, of which kind is one of {', '.join(kinds)}")
    try:
        tflops = float(line["tflops"])
    except ValueError:
        tflops = 0.0
    if not 0 < tflops < float("inf"):
        raise DataError(f"{where}: tflops must be a number above 0, not {line['tflops']!r}")
    return Rate(line["device"], line["precision"], line["network"], line["kind"], tflops, line["source"])
