"""How the benchmarks measure time, memory and agreement of two ways to do one thing, in turn, in one process.

Memory is the highest extra use during one call: on CUDA the memory that the allocator handed out, on the CPU the
resident memory of a separate process (Linux).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from poisonlab.precision import computed
from poisonlab.runtime.cards import processor

WAYS = ("reference", "ours")
BENCH = Path(__file__).with_name("bench.py")
"""The program of the separate process that measures memory."""


@dataclass(frozen=True)
class Contest:
    """Two ways to do one thing.

    Attributes:
        reference, ours: do the thing and return its result.
        difference: of the two results, or of the results of a smaller example.
        unit: what one call does ``per_call`` times.
        reference_on_cpu: whether the straightforward way uses the CPU on every device.
        traffic: bytes that one call of ours must read and write, if they bound its time.
        precision: of our computation, if operations bound its time: they are counted and compared with the peak.
    """

    reference: Callable[[], object]
    ours: Callable[[], object]
    difference: Callable[[object, object], float]
    unit: str
    per_call: int = 1
    reference_on_cpu: bool = False
    traffic: float | None = None
    precision: str | None = None


Contests = Mapping[str, Mapping[str, Callable[[torch.device], Contest]]]
"""By scale and name."""


@dataclass(frozen=True)
class Result:
    """Medians of one contest, in seconds per unit and MiB; None if there is nothing to measure.

    Attributes:
        ratios: reference over ours, of each pair of calls that followed each other.
        flops, traffic: per second, of ours.
    """

    contest: str
    unit: str
    reference_s: float
    ours_s: float
    reference_mib: float | None
    ours_mib: float | None
    difference: float
    ratios: tuple[float, ...]
    flops: float | None = None
    traffic: float | None = None
    precision: str | None = None

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def parser(contests: Contests, description: str | None) -> argparse.ArgumentParser:
    """The options of every benchmark."""
    arguments = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    arguments.add_argument("--scale", choices=tuple(contests), default="small")
    arguments.add_argument("--threads", type=int, default=1, help="threads of PyTorch on the CPU")
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--only", default="", help="measure only contests with this in their name")
    arguments.add_argument("--no-memory", action="store_true", help="measure no memory on a CPU: half the time")
    arguments.add_argument("--json", type=Path, help="also write the numbers to this file")
    arguments.add_argument("--memory", nargs=2, metavar=("CONTEST", "WAY"), help=argparse.SUPPRESS)
    return arguments


def add_machine_arguments(arguments: argparse.ArgumentParser) -> None:
    """Add the options for the machine that runs a benchmark of one study, and for the file of its numbers."""
    arguments.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--json", type=Path, help="also write the numbers to this file")


def prepare(options: argparse.Namespace) -> None:
    """Set the threads and replace ``auto`` by a device."""
    torch.set_num_threads(options.threads)
    if options.device == "auto":
        options.device = "cuda" if torch.cuda.is_available() else "cpu"


def measure_all(contests: Contests, options: argparse.Namespace) -> list[Result]:
    """The results of the contests that ``options`` name, in order."""
    results = []
    for name in (name for name in contests[options.scale] if options.only in name):
        print(f"measuring: {name}", file=sys.stderr)
        results.append(measure(contests[options.scale][name], name, options))
    return results


def measure(build: Callable[[torch.device], Contest], name: str, options: argparse.Namespace) -> Result:
    device = torch.device(options.device)
    contest = build(device)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    results: dict[str, object] = {}
    memory: dict[str, float | None] = dict.fromkeys(WAYS)
    for _ in range(options.repeats):
        for way in WAYS:
            before = forget_peak(device)
            taken, results[way] = timed(getattr(contest, way), device)
            seconds[way].append(taken / contest.per_call)
            # On another device than the reference's there is nothing to measure.
            if before is not None and not (way == "reference" and contest.reference_on_cpu):
                memory[way] = (torch.cuda.max_memory_allocated(device) - before) / 2**20
    reference_s, ours_s = (statistics.median(seconds[way]) for way in WAYS)
    if device.type == "cpu" and not options.no_memory:
        memory = {way: extra_memory(contest, name, way, options) for way in WAYS}
    return Result(
        name,
        contest.unit,
        reference_s,
        ours_s,
        memory["reference"],
        memory["ours"],
        contest.difference(results["reference"], results["ours"]),
        tuple(first / second for first, second in zip(seconds["reference"], seconds["ours"], strict=True)),
        per_second(counted(contest.ours) if contest.precision else None, ours_s * contest.per_call),
        per_second(contest.traffic, ours_s * contest.per_call),
        None if contest.precision is None else computed(device, contest.precision),
    )


def per_second(amount: float | None, seconds: float) -> float | None:
    return None if amount is None else amount / seconds


class _Counter(TorchDispatchMode):
    """Adds up the operations of convolutions and matrix products.

    ``torch.utils.flop_counter.FlopCounterMode`` also does, but its module hooks fail in a second backward pass.
    """

    flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


def counted(call: Callable[[], object]) -> float:
    """Floating-point operations of a call."""
    with _Counter() as counter:
        call()
    return float(counter.flops)


def timed(call: Callable[[], object], device: torch.device) -> tuple[float, object]:
    synchronise(device)
    start = time.perf_counter()
    result = call()
    synchronise(device)
    return time.perf_counter() - start, result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def forget_peak(device: torch.device) -> int | None:
    """On a GPU, the bytes in use, from which the peak is counted from now on; None on a CPU."""
    if device.type == "cpu":
        return None
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def extra_memory(contest: Contest, name: str, way: str, options: argparse.Namespace) -> float:
    """MiB that one call on the CPU needs beyond what was in use before it."""
    command = [sys.executable, str(BENCH), "--scale", options.scale, "--threads", str(options.threads)]
    done = subprocess.run(
        [*command, "--device", "cpu", "--memory", name, way], capture_output=True, text=True, check=True
    )
    answer: float = json.loads(done.stdout)
    return answer


def answer_memory(contests: Contests, options: argparse.Namespace) -> None:
    """Print the measured memory: ``extra_memory`` starts a process that calls this."""
    name, way = options.memory
    print(json.dumps(resident_growth(contests[options.scale][name], way)))


def resident_growth(build: Callable[[torch.device], Contest], way: str) -> float | None:
    """MiB by which one call raises this process's highest resident memory; the process should do nothing else."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return None
    contest = build(torch.device("cpu"))
    before = resident(status, "VmRSS")
    # 5 resets the high-water mark to the memory that is resident now; importing may have needed more.
    reset.write_text("5")
    getattr(contest, way)()
    return (resident(status, "VmHWM") - before) / 1024


def resident(status: Path, field: str) -> int:
    """KiB, as Linux counts."""
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith(f"{field}:"))


def machine(options: argparse.Namespace) -> dict[str, str | int]:
    return {
        "device": options.device,
        "name": device_name(torch.device(options.device), options.threads),
        "threads": options.threads,
        "repeats": options.repeats,
        "scale": options.scale,
        "torch": torch.__version__,
    }


def device_name(device: torch.device, threads: int) -> str:
    """The kind of device; a CPU's with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{processor()}, {threads} thread{'s' if threads > 1 else ''}"


def heading(facts: Mapping[str, str | int]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in facts.items())


def table(results: Sequence[Result]) -> str:
    """Time, ratio with its range over the repeats, memory and agreement, as Markdown."""
    rows = []
    for result in results:
        times = [f"{1000 * value:.3g} ms/{result.unit}" for value in (result.reference_s, result.ours_s)]
        ends = f"{min(result.ratios):.2f} to {max(result.ratios):.2f}"
        memory = ["–" if value is None else f"{value:.0f} MiB" for value in (result.reference_mib, result.ours_mib)]
        rows.append([result.contest, *times, f"{result.ratio:.2f}", ends, *memory, f"{result.difference:.2g}"])
    head = ["what", "reference", "ours", "ratio", "range", "memory, reference", "memory, ours", "difference"]
    return markdown(head, rows)


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table with text in its first column and numbers in the others."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, rule, *rows])


def write(path: Path, **parts: Any) -> None:
    path.write_text(json.dumps(parts, indent=2) + "\n", encoding="utf-8")
