"""How the benchmarks measure: two ways to do one thing, in turn, in one process; time, memory and agreement.

Memory is the highest extra use during one call: on CUDA what the allocator handed out, on the CPU resident memory of a
process of its own (Linux).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

WAYS = ("reference", "ours")


@dataclass(frozen=True)
class Contest:
    """Two ways to do one thing.

    Attributes:
        reference, ours: do it and give the result; ``reference`` is None where only ours is feasible.
        difference: of the two results, or of something small enough to check.
        unit: the thing of which one call does ``per_call``.
        reference_on_cpu: the straightforward way uses the CPU whatever the device.
    """

    reference: Callable[[], object] | None
    ours: Callable[[], object]
    difference: Callable[[object, object], float]
    unit: str
    per_call: int = 1
    reference_on_cpu: bool = False


Contests = Mapping[str, Mapping[str, Callable[[torch.device], Contest]]]
"""By scale and name."""


@dataclass(frozen=True)
class Result:
    """Medians of one contest; seconds per unit and MiB, None where there is nothing to measure or to compare."""

    contest: str
    unit: str
    reference_s: float | None
    ours_s: float
    reference_mib: float | None
    ours_mib: float | None
    difference: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.reference_s is None else self.reference_s / self.ours_s


def run(contests: Contests, program: str, description: str | None) -> None:
    """Measure what the command line asks for; print a Markdown table, and write JSON if asked."""
    options = parse(contests, description)
    torch.set_num_threads(options.threads)
    if options.memory is not None:
        name, way = options.memory
        print(json.dumps(resident_growth(contests[options.scale][name], way)))
        return
    results = []
    for name in (name for name in contests[options.scale] if options.only in name):
        print(f"measuring: {name}", file=sys.stderr)
        results.append(measure(contests[options.scale][name], name, program, options))
    facts = machine(options)
    print(", ".join(f"{key}: {value}" for key, value in facts.items()), end="\n\n")
    print(table(results))
    if options.json is not None:
        rows = [{**asdict(result), "ratio": result.ratio} for result in results]
        options.json.write_text(json.dumps({"machine": facts, "results": rows}, indent=2) + "\n")


def parse(contests: Contests, description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--scale", choices=tuple(contests), default="small")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="measure only what has this in its name")
    parser.add_argument("--json", type=Path, help="also write the numbers to this file")
    parser.add_argument("--memory", nargs=2, metavar=("CONTEST", "WAY"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"
    return options


def measure(build: Callable[[torch.device], Contest], name: str, program: str, options: argparse.Namespace) -> Result:
    device = torch.device(options.device)
    contest = build(device)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    results: dict[str, object] = {}
    for _ in range(options.repeats):
        for way in WAYS:
            call = getattr(contest, way)
            if call is not None:
                taken, results[way] = timed(call, device)
                seconds[way].append(taken / contest.per_call)
    medians = {way: statistics.median(values) if values else None for way, values in seconds.items()}
    memory = {way: extra_memory(contest, name, way, program, options) for way in WAYS}
    difference = contest.difference(results["reference"], results["ours"]) if "reference" in results else None
    assert medians["ours"] is not None
    return Result(
        name, contest.unit, medians["reference"], medians["ours"], memory["reference"], memory["ours"], difference
    )


def timed(call: Callable[[], object], device: torch.device) -> tuple[float, object]:
    synchronise(device)
    start = time.perf_counter()
    result = call()
    synchronise(device)
    return time.perf_counter() - start, result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_memory(contest: Contest, name: str, way: str, program: str, options: argparse.Namespace) -> float | None:
    """MiB that one call needs beyond what was in use before it."""
    call = getattr(contest, way)
    if call is None:
        return None
    if options.device == "cuda" and not (way == "reference" and contest.reference_on_cpu):
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    command = [sys.executable, program, "--scale", options.scale, "--threads", str(options.threads)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--memory", name, way], capture_output=True, text=True, check=True
    )
    answer: float | None = json.loads(done.stdout)
    return answer


def resident_growth(build: Callable[[torch.device], Contest], way: str) -> float | None:
    """MiB by which one call raises this process's highest resident memory; it should do nothing else."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    contest = build(torch.device("cpu"))
    before = resident(status, "VmRSS")
    # 5 sets the high-water mark back to what is resident now; importing may have needed more.
    reset.write_text("5")
    getattr(contest, way)()
    return (resident(status, "VmHWM") - before) / 1024


def resident(status: Path, field: str) -> int:
    """KiB, as Linux counts."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))


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
        "| what | reference | ours | ratio | memory, reference | memory, ours | difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        times = [
            shown(None if value is None else 1000 * value, "{:.3g} ms/" + result.unit)
            for value in (result.reference_s, result.ours_s)
        ]
        memory = [shown(value, "{:.0f} MiB") for value in (result.reference_mib, result.ours_mib)]
        cells = [result.contest, *times, shown(result.ratio, "{:.2f}"), *memory, shown(result.difference, "{:.2g}")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def shown(value: float | None, form: str) -> str:
    return "–" if value is None else form.format(value)
