"""Time and memory of the attacks' inner loops, against the straightforward way of doing the same.

    python benchmarks/attacks.py [--device auto|cpu|cuda] [--scale small|cifar] [--threads 1] [--repeats 3]
                                 [--json FILE]

Both ways run in turn in one process; the table gives medians. Memory is the highest extra use during one call: on CUDA
what the allocator handed out, on the CPU resident memory of a process of its own (Linux).
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
from typing import cast

import reference_attacks
import torch
from torch import Tensor

from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.matching import Crafting, Matcher, target_gradient
from poisonlab.attacks.metapoison import unrolled_loss
from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.models import resnet18, small_resnet
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.gradient_norms import per_sample_gradient_norms
from poisonlab.randomness import generator

WAYS = ("reference", "ours")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)
SHIFT = 4.0


@dataclass(frozen=True)
class Contest:
    """Two ways to do one thing.

    Attributes:
        reference, ours: do it; the result is thrown away.
        difference: largest relative difference between the two ways' results, on something small enough to check.
        unit: the thing of which one call does ``per_call``.
    """

    reference: Callable[[], object]
    ours: Callable[[], object]
    difference: Callable[[], float]
    unit: str
    per_call: int


# --- what is measured ------------------------------------------------------------------------------------------------


def selection(model: Classifier, count: int, device: torch.device, precision: str = "float32") -> Contest:
    """Sleeper Agent's selection of bases: the gradient norm of every candidate."""
    stream = generator("cpu", 0, "benchmark", "images")
    inputs = torch.randn(count, 3, 32, 32, generator=stream).to(device)
    labels = torch.randint(10, (count,), generator=stream).to(device)
    model = model.to(device).eval()

    def difference() -> float:
        return relative(
            per_sample_gradient_norms(model, inputs[:32], labels[:32], precision=precision).cpu(),
            reference_attacks.gradient_norms(model, inputs[:32], labels[:32]),
        )

    return Contest(
        reference=lambda: reference_attacks.gradient_norms(model, inputs, labels),
        ours=lambda: per_sample_gradient_norms(model, inputs, labels, precision=precision).cpu(),
        difference=difference,
        unit="image",
        per_call=count,
    )


def matching(model: Classifier, poisons: int, steps: int, device: torch.device, workers: int = 0) -> Contest:
    """Steps of gradient matching, as its loop takes them; the releases' loaders start new workers for every step."""
    stream = generator("cpu", 0, "benchmark", "images")
    images = torch.randint(0, 256, (poisons, 3, 32, 32), generator=stream, dtype=torch.uint8)
    labels = torch.full((poisons,), 3)
    model, normalize = model.to(device).eval(), Normalize(MEAN, STD).to(device)
    target = torch.randn(1, 3, 32, 32, generator=stream).to(device)
    goal = target_gradient(model, target, torch.tensor([3], device=device), "cross-entropy")
    bases, bound = Normalize(MEAN, STD)(images / 255), 16 / 255 / torch.tensor(STD).view(3, 1, 1)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)

    def ours(augmentation: Augmentation) -> Tensor:
        attacker = Attacker([model], normalize, Recipe(augmentation=augmentation))
        settings = GradientMatching(name="benchmark", surrogate="benchmark", steps=steps, restarts=1)
        return Crafting(attacker, settings, images, labels, None, 0, "benchmark").run([Matcher(model, goal)])[1][0]

    def reference(shift: float) -> Tensor:
        # The start that our loop draws, so that without augmentation both take the same path.
        drawn = torch.randn(images.shape, generator=generator(device, 0, "benchmark", "start", 0), device=device).cpu()
        start = torch.minimum(torch.maximum(drawn * bound, -bound), bound)
        start = torch.minimum(torch.maximum(bases + start, -mean / std), (1 - mean) / std) - bases
        return reference_attacks.craft(
            model,
            goal,
            images,
            labels,
            start,
            mean=mean,
            std=std,
            device=device,
            steps=steps,
            shift=shift,
            workers=workers,
        )

    return Contest(
        reference=lambda: reference(SHIFT),
        ours=lambda: ours(Augmentation(kind="shift", pixels=SHIFT)),
        difference=lambda: relative(ours(Augmentation(kind="none")), reference(0.0)),
        unit="step",
        per_call=steps,
    )


def unrolling(model: Classifier, poisons: int, device: torch.device) -> Contest:
    """MetaPoison's inner step: two unrolled steps of SGD on 125 images, and the gradient of the poisons among them."""
    stream = generator("cpu", 0, "benchmark", "images")
    first, second = (torch.randn(125, 3, 32, 32, generator=stream).to(device) for _ in range(2))
    labels = torch.randint(10, (125,), generator=stream).to(device)
    target = torch.randn(1, 3, 32, 32, generator=stream).to(device)
    model = model.to(device)

    def ours() -> Tensor:
        delta = torch.zeros(poisons, 3, 32, 32, device=device, requires_grad=True)
        batches = [(torch.cat([first[:poisons] + delta, first[poisons:]]), labels), (second, labels)]
        weights = {name: weight.detach() for name, weight in model.named_parameters()}
        unrolled_loss(model, weights, dict(model.named_buffers()), batches, target, 3, 0.1).backward()
        return cast(Tensor, delta.grad).cpu()

    def reference() -> Tensor:
        return reference_attacks.metapoison_gradient(model, first, second, labels, poisons, target, 3, 0.1).cpu()

    return Contest(
        reference=reference,
        ours=ours,
        difference=lambda: float((ours() - reference()).norm() / reference().norm()),
        unit="unrolling",
        per_call=1,
    )


def small(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return small_resnet.build(10, (3, 32, 32), width=16)


def large(seed: int = 0) -> Classifier:
    torch.manual_seed(seed)
    return resnet18.build(10, (3, 32, 32))


CONTESTS: dict[str, dict[str, Callable[[torch.device], Contest]]] = {
    "small": {
        "selection, small residual network, 512 images": lambda device: selection(small(), 512, device),
        "selection in bfloat16, small residual network, 512 images": lambda device: selection(
            small(), 512, device, "bfloat16"
        ),
        "selection, ResNet-18, 64 images": lambda device: selection(large(), 64, device),
        "selection in bfloat16, ResNet-18, 64 images": lambda device: selection(large(), 64, device, "bfloat16"),
        "gradient matching, small residual network, 100 poisons": lambda device: matching(small(), 100, 5, device),
        "gradient matching, the same, 4 workers per loader": lambda device: matching(
            small(), 100, 5, device, workers=4
        ),
        "MetaPoison, small residual network, 12 poisons": lambda device: unrolling(small(), 12, device),
    },
    "cifar": {
        "selection, small residual network, 512 images": lambda device: selection(small(), 512, device),
        "selection, ResNet-18, 5000 images": lambda device: selection(large(), 5000, device),
        "selection in bfloat16, ResNet-18, 5000 images": lambda device: selection(large(), 5000, device, "bfloat16"),
        "gradient matching, ResNet-18, 500 poisons": lambda device: matching(large(), 500, 5, device),
        "MetaPoison, ResNet-18, 12 poisons": lambda device: unrolling(large(), 12, device),
    },
}


def relative(first: Tensor, second: Tensor) -> float:
    return float(((first - second).abs() / second.abs()).max())


# --- how it is measured ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Result:
    """Medians of one contest; seconds per unit, memory in MiB (None where it cannot be measured)."""

    contest: str
    unit: str
    reference_s: float
    ours_s: float
    reference_mib: float | None
    ours_mib: float | None
    difference: float

    @property
    def ratio(self) -> float:
        return self.reference_s / self.ours_s


def measure(name: str, options: argparse.Namespace) -> Result:
    device = torch.device(options.device)
    contest = CONTESTS[options.scale][name](device)
    difference = contest.difference()
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(options.repeats):
        for way in WAYS:
            seconds[way].append(timed(getattr(contest, way), device) / contest.per_call)
    medians = {way: statistics.median(values) for way, values in seconds.items()}
    memory = {way: extra_memory(contest, name, way, options) for way in WAYS}
    return Result(
        name, contest.unit, medians["reference"], medians["ours"], memory["reference"], memory["ours"], difference
    )


def timed(call: Callable[[], object], device: torch.device) -> float:
    synchronise(device)
    start = time.perf_counter()
    call()
    synchronise(device)
    return time.perf_counter() - start


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def extra_memory(contest: Contest, name: str, way: str, options: argparse.Namespace) -> float | None:
    """MiB that one call needs beyond what was in use before it."""
    if options.device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        getattr(contest, way)()
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
        "| what | reference | ours | ratio | memory, reference | memory, ours | largest difference |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for result in results:
        memory = ["–" if value is None else f"{value:.0f} MiB" for value in (result.reference_mib, result.ours_mib)]
        times = [f"{1000 * value:.3g} ms/{result.unit}" for value in (result.reference_s, result.ours_s)]
        cells = [result.contest, *times, f"{result.ratio:.2f}", *memory, f"{result.difference:.1e}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--scale", choices=tuple(CONTESTS), default="small")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on the CPU")
    parser.add_argument("--repeats", type=int, default=3)
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
    for name in CONTESTS[options.scale]:
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
