"""Time and memory of the filters, against the straightforward way of doing the same.

    python benchmarks/filters.py [--device auto|cpu|cuda] [--scale small|cifar] [--threads 1] [--repeats 3]
                                 [--json FILE]

Both ways run in turn in one process; the table gives medians. ``cifar`` is the size of CIFAR-10; there Deep k-NN runs
our way only, since the other needs hours and 10 GB. Memory is the highest extra use during one call: on CUDA what the
allocator handed out, on the CPU resident memory of a process of its own (Linux). The last column is the number of
decisions in which the two ways differ.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import reference_filters
import torch
from torch import Tensor

from poisonlab.filters.deep_knn import deep_knn
from poisonlab.filters.epic import facility_location, gradient_proxies
from poisonlab.randomness import generator

WAYS = ("reference", "ours")
CLASSES = 10


@dataclass(frozen=True)
class Contest:
    """Two ways to do one thing; ``reference`` is None where only ours is feasible.

    Attributes:
        reference, ours: do it and return the decisions, equally shaped.
    """

    reference: Callable[[], Tensor] | None
    ours: Callable[[], Tensor]


# --- what is measured ------------------------------------------------------------------------------------------------


def neighbours(examples: int, k: int, device: torch.device, compare: bool = True) -> Contest:
    """Deep k-NN on features as wide as ResNet-18's, rectified like them; 1 % of the labels are wrong."""
    stream = generator("cpu", 0, "benchmark", "features")
    truth = torch.randint(CLASSES, (examples,), generator=stream)
    features = torch.randn(examples, 512, generator=stream)
    features += 2 * torch.randn(CLASSES, 512, generator=stream)[truth]
    features = features.clamp_(min=0).to(device)
    wrong = torch.rand(examples, generator=stream) < 0.01
    labels = torch.where(wrong, (truth + 1) % CLASSES, truth).to(device)
    return Contest(
        reference=(lambda: reference_filters.deep_knn(features, labels, k)) if compare else None,
        ours=lambda: deep_knn(features, labels, k=k).keep.cpu(),
    )


def medoids(examples: int, count: int, device: torch.device) -> Contest:
    """EPIC's choice of medoids in one class."""
    stream = generator("cpu", 0, "benchmark", "logits")
    logits = 2 * torch.randn(examples, CLASSES, generator=stream)
    logits[:, 0] += 5
    points = gradient_proxies(logits, torch.zeros(examples, dtype=torch.int64))
    there = points.to(device)
    return Contest(
        reference=lambda: reference_filters.facility_location(points, count),
        ours=lambda: facility_location(there, count).medoids.cpu(),
    )


CONTESTS: dict[str, dict[str, Callable[[torch.device], Contest]]] = {
    "small": {
        "Deep k-NN, 2000 x 512, k = 40": lambda device: neighbours(2000, 40, device),
        "EPIC, 200 medoids of 2000": lambda device: medoids(2000, 200, device),
    },
    "cifar": {
        "Deep k-NN, 5000 x 512, k = 100": lambda device: neighbours(5000, 100, device),
        "Deep k-NN, 50,000 x 512, k = 1000": lambda device: neighbours(50_000, 1000, device, compare=False),
        "EPIC, 500 medoids of 5000": lambda device: medoids(5000, 500, device),
    },
}


# --- how it is measured ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Medians of one contest; seconds and MiB, None where there is nothing to measure or to compare."""

    contest: str
    reference_s: float | None
    ours_s: float
    reference_mib: float | None
    ours_mib: float | None
    differences: int | None

    @property
    def ratio(self) -> float | None:
        return None if self.reference_s is None else self.reference_s / self.ours_s


def measure(name: str, options: argparse.Namespace) -> Result:
    contest = CONTESTS[options.scale][name](torch.device(options.device))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    decided: dict[str, Tensor] = {}
    for _ in range(options.repeats):
        for way in WAYS:
            call = getattr(contest, way)
            if call is not None:
                start = time.perf_counter()
                # Decisions come back on the CPU, so nothing is still running on the device.
                decided[way] = call()
                seconds[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values) if values else None for way, values in seconds.items()}
    memory = {way: extra_memory(contest, name, way, options) for way in WAYS}
    differences = int((decided["reference"] != decided["ours"]).sum()) if "reference" in decided else None
    assert medians["ours"] is not None
    return Result(name, medians["reference"], medians["ours"], memory["reference"], memory["ours"], differences)


def extra_memory(contest: Contest, name: str, way: str, options: argparse.Namespace) -> float | None:
    """MiB that one call needs beyond what was in use before it; the straightforward ways use the CPU on any device."""
    call = getattr(contest, way)
    if call is None:
        return None
    if options.device == "cuda" and way == "ours":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    command = [sys.executable, __file__, "--scale", options.scale, "--threads", str(options.threads)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--memory", name, way], capture_output=True, text=True, check=True
    )
    answer: float | None = json.loads(done.stdout)
    return answer


def resident_growth(name: str, way: str, scale: str) -> float | None:
    """MiB by which one call raises this process's highest resident memory; it should do nothing else."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    contest = CONTESTS[scale][name](torch.device("cpu"))
    before = resident(status, "VmRSS")
    # 5 sets the high-water mark back to what is resident now; importing may have needed more.
    reset.write_text("5")
    getattr(contest, way)()
    return (resident(status, "VmHWM") - before) / 1024


def resident(status: Path, field: str) -> int:
    """KiB, as Linux counts."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))


# --- the report ------------------------------------------------------------------------------------------------------


def machine(options: argparse.Namespace) -> dict[str, str | int]:
    device = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": options.device,
        "name": device,
        "threads": options.threads,
        "repeats": options.repeats,
        "scale": options.scale,
        "torch": torch.__version__,
    }


def table(results: list[Result]) -> str:
    lines = [
        "| what | reference | ours | ratio | memory, reference | memory, ours | differing decisions |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        cells = [
            result.contest,
            shown(result.reference_s, "{:.3g} s"),
            shown(result.ours_s, "{:.3g} s"),
            shown(result.ratio, "{:.1f}"),
            shown(result.reference_mib, "{:.0f} MiB"),
            shown(result.ours_mib, "{:.0f} MiB"),
            shown(result.differences, "{}"),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--scale", choices=tuple(CONTESTS), default="small")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--memory", nargs=2, metavar=("CONTEST", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def main() -> None:
    options = parse()
    torch.set_num_threads(options.threads)
    if options.memory is not None:
        name, way = options.memory
        print(json.dumps(resident_growth(name, way, options.scale)))
        return
    results = []
    for name in (name for name in CONTESTS[options.scale] if options.only in name):
        print(f"measuring: {name}", file=sys.stderr)
        results.append(measure(name, options))
    facts = machine(options)
    print(", ".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
    print(table(results))
    if options.json is not None:
        rows = [{**asdict(result), "ratio": result.ratio} for result in results]
        options.json.write_text(json.dumps({"machine": facts, "results": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
