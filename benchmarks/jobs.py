"""The overhead of a training job of the default study, and how much two jobs at once slow each other down.

The jobs are the workflow's own program on config.yaml's dataset, network and recipe, with poisons that change nothing;
they run on the CPU as the workflow runs them. Shares are of processor time, which other programs on the machine hardly
change.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from types import ModuleType

import torch
import yaml
from contest import markdown
from torch.profiler import ProfilerActivity, profile

from poisonlab.artifacts.dataset import read_dataset
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.config.start import Start
from poisonlab.config.study import Study, read_study
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ROOT / "workflow" / "scripts"
TARGETS = {"kernels": 0.85, "kept": 0.9}
"""Aims: the share of a job's processor time inside torch's operators, and the share of speed that two jobs keep when
they run at once."""

PROFILED_EPOCHS = 2
PARTS = ("wall", "cpu")


@dataclass(frozen=True)
class Spent:
    """Seconds of a process: clock time and processor time."""

    wall: float
    cpu: float


@dataclass(frozen=True)
class Jobs:
    """Medians, and the values of each repeat.

    Attributes:
        interpreter: Python that does nothing.
        start: the training program with ``--help``: the interpreter, imports and exit.
        single: a job of one epoch.
        whole: a job of all ``epochs``.
        in_loop: share of a job's processor time after its start that is spent inside torch's operators.
        kernels: the same share of a whole job, by repeat.
        one_after_another, at_once: clock time of two whole jobs, by repeat.
    """

    epochs: int
    interpreter: Spent
    start: Spent
    single: Spent
    whole: Spent
    in_loop: float
    kernels: tuple[float, ...]
    one_after_another: tuple[float, ...]
    at_once: tuple[float, ...]

    @property
    def kept(self) -> tuple[float, ...]:
        """Share of speed that two jobs keep when they run at once on two cores; 1 is no loss."""
        return tuple(first / (2 * second) for first, second in zip(self.one_after_another, self.at_once, strict=True))

    def as_json(self) -> dict[str, object]:
        return asdict(self) | {"kept": self.kept}


@dataclass(frozen=True)
class Workplace:
    """A folder with a dataset and poisons, and the study whose jobs run there."""

    folder: Path
    config: Path
    epochs: int | None = None

    def prepare(self) -> None:
        study = self._study()
        make = ["--spec", *spec(dataset=study.dataset.model_dump(mode="json")), "--dataset", str(self.dataset)]
        subprocess.run([sys.executable, SCRIPTS / "dataset.py", *make], check=True, env=environment(), cwd=ROOT)
        dataset = read_dataset(self.dataset)
        rows = torch.arange(max(1, len(dataset.train_labels) // 20))
        images, labels = dataset.train_images[rows], dataset.train_labels[rows]
        target, label = dataset.test_images[:1], dataset.test_labels[:1]
        goal = Goal(target, label, (label + 1) % dataset.num_classes)
        PoisonSet(rows, images, labels, images, goal).save(self.poisons)

    @property
    def dataset(self) -> Path:
        return self.folder / "dataset.safetensors"

    @property
    def poisons(self) -> Path:
        return self.folder / "poisons.safetensors"

    @property
    def all_epochs(self) -> int:
        return self.epochs or self._study().victims[0].recipe.epochs

    def arguments(self, epochs: int, name: str = "job") -> list[str]:
        """Arguments of the training program."""
        victim = self._study().victims[0]
        assert victim.model is not None  # from scratch
        warmup = min(victim.recipe.warmup_epochs, epochs)
        recipe = victim.recipe.model_copy(update={"epochs": epochs, "warmup_epochs": warmup})
        told = spec(
            attack="benchmark",
            victim="victim",
            defense="none",
            poisoned=True,
            defenses=[],
            model=victim.model.model_dump(mode="json"),
            recipe=recipe.model_dump(mode="json", exclude={"base"}),
            start=Start().model_dump(mode="json"),
            seed=0,
        )
        files = {"dataset": self.dataset, "poisons": self.poisons}
        files |= {part: self.folder / f"{name}.{part}" for part in ("weights", "metrics", "card", "checkpoint")}
        named = [word for part, path in files.items() for word in (f"--{part}", str(path))]
        return ["--spec", *told, "--device", "cpu", "--threads", "1", *named]

    def job(self, epochs: int, name: str = "job") -> list[str]:
        return [sys.executable, str(SCRIPTS / "train.py"), *self.arguments(epochs, name)]

    def _study(self) -> Study:
        return read_study(yaml.safe_load(self.config.read_text(encoding="utf-8")))


def environment() -> dict[str, str]:
    """The environment that the Snakefile sets for jobs."""
    return {**os.environ, "PYTHONPATH": str(ROOT / "src"), "KMP_BLOCKTIME": "0", "OMP_NUM_THREADS": "1"}


def measure_jobs(repeats: int, config: Path = ROOT / "config.yaml", epochs: int | None = None) -> Jobs:
    """Run the jobs; ``epochs`` replaces the recipe's."""
    with TemporaryDirectory() as folder:
        place = Workplace(Path(folder), config, epochs)
        place.prepare()
        length = place.all_epochs
        interpreter = [spend([[sys.executable, "-c", "pass"]]) for _ in range(repeats)]
        start = [spend([[sys.executable, str(SCRIPTS / "train.py"), "--help"]]) for _ in range(repeats)]
        single = [spend([place.job(1)]) for _ in range(repeats)]
        alone, both = [], []
        for _ in range(repeats):
            alone.append([spend([place.job(length, name)]) for name in ("first", "second")])
            both.append(spend([place.job(length, name) for name in ("first", "second")]))
        in_loop = profiled_share(place)
    opened = median(start)
    kernels = [in_loop * (1 - opened.cpu / job.cpu) for pair in alone for job in pair]
    return Jobs(
        length,
        median(interpreter),
        opened,
        median(single),
        median([job for pair in alone for job in pair]),
        in_loop,
        tuple(kernels),
        tuple(sum(job.wall for job in pair) for pair in alone),
        tuple(pair.wall for pair in both),
    )


def spend(commands: Sequence[Sequence[str]]) -> Spent:
    """Run the commands at once, wait for all, and add up their processor time.

    Raises:
        RuntimeError: a command failed.
    """
    begin = time.perf_counter()
    cpu = 0.0
    with TemporaryFile("w+") as said:
        running = [
            subprocess.Popen(command, env=environment(), cwd=ROOT, stdout=said, stderr=said) for command in commands
        ]
        for process in running:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            cpu += used.ru_utime + used.ru_stime
        if any(process.returncode for process in running):
            said.seek(0)
            raise RuntimeError(f"a job failed: {said.read()}")
    return Spent(time.perf_counter() - begin, cpu)


def median(runs: Sequence[Spent]) -> Spent:
    return Spent(statistics.median(run.wall for run in runs), statistics.median(run.cpu for run in runs))


def profiled_share(place: Workplace) -> float:
    """``operator_share`` of a short job, in a separate process."""
    command = [sys.executable, __file__, str(place.folder), str(place.config)]
    done = subprocess.run(command, env=environment(), cwd=ROOT, check=True, capture_output=True, text=True)
    share: float = json.loads(done.stdout)
    return share


def operator_share(program: ModuleType, arguments: Sequence[str]) -> float:
    """Lower bound of the share of a program's processor time that is spent inside torch's operators.

    The program runs three times: to warm up, as it is, and profiled. The whole cost of profiling is attributed to the
    operators and subtracted there.
    """
    run_quietly(program, arguments)
    plain = run_quietly(program, arguments)
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        begin = time.perf_counter()
        profiled = run_quietly(program, arguments)
        wall = time.perf_counter() - begin
    inside = covered(
        [
            (event.start_ns(), event.start_ns() + event.duration_ns(), event.start_thread_id())
            for event in profiler.profiler.kineto_results.events()
            if event.name().startswith("aten::")
        ]
    )
    # The profiler measures clock time, which goes on while the program waits for other work on the machine.
    return (inside / 1e9 * min(1.0, profiled / wall) - (profiled - plain)) / plain


def run_quietly(program: ModuleType, arguments: Sequence[str]) -> float:
    """Processor time of ``main`` in seconds."""
    begin = time.process_time()
    with contextlib.redirect_stderr(io.StringIO()):
        program.main(arguments)
    return time.process_time() - begin


def covered(intervals: Sequence[tuple[int, int, int]]) -> int:
    """Length that the intervals (begin, end, thread) cover, thread by thread; nested intervals count once."""
    total = 0
    reached: dict[int, int] = {}
    for begin, end, thread in sorted(intervals):
        fresh = max(begin, reached.get(thread, begin))
        total += max(0, end - fresh)
        reached[thread] = max(end, reached.get(thread, end))
    return total


def training_program() -> ModuleType:
    found = importlib.util.spec_from_file_location("train_program", SCRIPTS / "train.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def jobs_table(jobs: Jobs) -> str:
    """Where a job's time goes, and how much two jobs at once lose, as Markdown."""
    start, whole = jobs.start, jobs.whole
    each = Spent(*((getattr(whole, part) - getattr(jobs.single, part)) / max(1, jobs.epochs - 1) for part in PARTS))
    rest = Spent(*(getattr(jobs.single, part) - getattr(start, part) - getattr(each, part) for part in PARTS))
    imports = Spent(*(getattr(start, part) - getattr(jobs.interpreter, part) for part in PARTS))
    epochs = Spent(each.wall * jobs.epochs, each.cpu * jobs.epochs)
    phases = {
        "interpreter": jobs.interpreter,
        "imports and exit": imports,
        "dataset, poisons, outputs": rest,
        f"{jobs.epochs} epochs": epochs,
        "whole job": whole,
        "job of one epoch": jobs.single,
    }
    rows = [
        [name, f"{spent.wall:.2f} s", f"{spent.cpu:.2f} s", f"{spent.cpu / whole.cpu:.0%}"]
        for name, spent in phases.items()
    ]
    return "\n".join(
        [
            markdown(["a training job of the default study", "clock", "processor", "share"], rows),
            "",
            f"Inside torch's operators: at least {statistics.median(jobs.kernels):.0%} of a job's processor time "
            f"(aim: {TARGETS['kernels']:.0%}), {jobs.in_loop:.0%} of what follows its start.",
            f"Two jobs one after another: {statistics.median(jobs.one_after_another):.1f} s; at once: "
            f"{statistics.median(jobs.at_once):.1f} s, a loss of {1 - statistics.median(jobs.kept):.0%} "
            f"(aim: below {1 - TARGETS['kept']:.0%}).",
        ]
    )


def main() -> None:
    """Print the share: ``profiled_share`` starts a process that calls this."""
    torch.set_num_threads(1)
    place = Workplace(*map(Path, sys.argv[1:]))
    print(json.dumps(operator_share(training_program(), place.arguments(PROFILED_EPOCHS, "profiled"))))


if __name__ == "__main__":
    main()
