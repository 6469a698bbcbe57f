"""Recorded steps, with a stand-in for CUDA graphs: the bits of plain steps, or a fall back to them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from recording import replayed_on_the_cpu
from tiny import MEAN, STD, KilledError, data_set, grouped, network, trained
from torch import Tensor

from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.determinism import demand_determinism
from poisonlab.errors import DivergedError
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.training import capture as recorded_steps
from poisonlab.training.capture import WARM_UP, Capture
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Batch, Defense, EpochRecord
from poisonlab.training.loop import train


def run(
    capture: bool,
    model: Classifier | None = None,
    defenses: tuple[Defense, ...] = (),
    device: torch.device | str = "cpu",
    **changes: Any,
) -> tuple[Tensor, list[EpochRecord]]:
    """Four epochs of batches of 8, 8 and 6."""
    model = (model or network()).to(device)
    whole = {"epochs": 4, "batch_size": 8, "milestones": (2,), "augmentation": Augmentation(pixels=1), **changes}
    normalize, data = Normalize(MEAN, STD).to(device), data_set(22).to(torch.device(device))
    ended = train(model, normalize, data, Recipe(**whole), seed=0, defenses=defenses, capture=capture)
    return torch.cat([value.double().flatten() for value in model.state_dict().values()]), ended.history


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"momentum": 0.0, "augmentation": Augmentation(kind="none")},
        {"bias_lr": 3.0, "label_smoothing": 0.1, "schedule": "linear", "milestones": None, "warmup_epochs": 1.5},
        {"augmentation": Augmentation(kind="crop", pixels=2, flip="alternating")},
        {"precision": "bfloat16", "channels_last": True, "decay_norm_and_bias": False},
        {
            "optimizer": "adam",
            "lr": 0.01,
            "bias_lr": 3.0,
            "schedule": "linear",
            "milestones": None,
            "warmup_epochs": 1.5,
        },
        {"optimizer": "adamw", "lr": 0.01, "betas": (0.8, 0.9), "eps": 1e-4, "decay_norm_and_bias": False},
    ],
)
def test_recorded_steps_have_the_bits_of_plain_ones(changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    plain, history = run(False, **changes)
    recordings = replayed_on_the_cpu(monkeypatch)
    recorded, same_history = run(True, **changes)
    assert torch.equal(recorded, plain)
    assert same_history == history
    # The first three full batches warm up, and the last batch of an epoch is smaller.
    assert [made.replays for made in recordings] == [1, 2, 2]


def test_a_head_on_fixed_features_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    def frozen() -> Classifier:
        start = network()
        return FrozenFeatures(start.extract, start.head)

    still = {"augmentation": Augmentation(kind="none")}
    plain, _ = run(False, frozen(), **still)
    recordings = replayed_on_the_cpu(monkeypatch)
    assert torch.equal(run(True, frozen(), **still)[0], plain)
    assert len(recordings) == 3


@pytest.mark.parametrize("by", [{}, {"optimizer": "adam", "lr": 0.01}])
def test_a_killed_run_of_recorded_steps_ends_in_the_same_bits(
    by: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"method": "random-noise", "distribution": "bernoulli", "mu": 8}]
    whole = trained(rows, **by)
    assert replayed_on_the_cpu(monkeypatch) == []
    for epoch in (1, 2):
        with pytest.raises(KilledError):
            trained(rows, saved=tmp_path / f"{epoch}", kill_at=epoch + 1, capture=True, **by)
        resumed = trained(rows, model=network(seed=9), saved=tmp_path / f"{epoch}", capture=True, **by)
        assert torch.equal(resumed.weights, whole.weights)
        assert resumed.history == whole.history


def test_nothing_is_repeated_on_a_cpu() -> None:
    assert torch.equal(run(True)[0], run(False)[0])


@dataclass(frozen=True)
class Looks(Defense):
    """Looks at a value, though it says that its steps may be recorded; draws before that."""

    captured = True

    def change_batch(self, batch: Batch) -> Tensor:
        noisy = batch.images + torch.rand(batch.images.shape, generator=batch.generator, device=batch.images.device) / 9
        return noisy if noisy.mean().item() > 0 else batch.images


def test_a_step_that_cannot_be_recorded_is_taken_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, history = run(False, defenses=(Looks(),))
    recordings = replayed_on_the_cpu(monkeypatch)
    fallen, same_history = run(True, defenses=(Looks(),))
    assert torch.equal(fallen, plain)
    assert same_history == history
    assert recordings == []
    (line,) = capsys.readouterr().err.splitlines()
    assert "kernel by kernel" in line
    assert "_local_scalar_dense" in line


@pytest.mark.elsewhere
def test_it_looks_on_every_device(device: torch.device) -> None:
    """So that the test of a broken recording on a GPU fails for no other reason."""
    assert len(run(False, defenses=(Looks(),), device=device)[1]) == 4


@dataclass(frozen=True)
class Counts(Defense):
    """Depends on how often Python called it."""

    says: bool
    calls: list[int] = field(default_factory=list)

    @property
    def captured(self) -> bool:
        return self.says

    def change_batch(self, batch: Batch) -> Tensor:
        self.calls.append(1)
        return batch.images * (1 + 0.01 * len(self.calls))


def test_a_recording_runs_no_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the tests above would notice a step that needs it."""
    plain, _ = run(False, defenses=(Counts(says=False),))
    recordings = replayed_on_the_cpu(monkeypatch)
    assert torch.equal(run(True, defenses=(Counts(says=False),))[0], plain)
    assert recordings == []
    frozen = Counts(says=True)
    assert not torch.equal(run(True, defenses=(frozen,))[0], plain)
    # Four smaller batches, three warming up, three recordings.
    assert len(frozen.calls) == 10


def test_what_a_defense_does_within_a_step_is_repeated_only_if_it_says_so() -> None:
    assert Defense().captured

    @dataclass(frozen=True)
    class Shifts(Defense):
        def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
            return batch.images + 1, batch.labels

    assert not Shifts().captured


def test_a_recorded_step_that_diverges_names_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rate explodes in the third epoch, whose steps are repeated."""

    @dataclass(frozen=True)
    class Explodes(Defense):
        def learning_rate(self, recipe: Recipe, at: float) -> float:
            return 1e30 if at > 2 else 0.01

    with pytest.raises(DivergedError) as plain:
        run(False, grouped(), defenses=(Explodes(),))
    recordings = replayed_on_the_cpu(monkeypatch)
    with pytest.raises(DivergedError) as recorded:
        run(True, grouped(), defenses=(Explodes(),))
    assert recorded.value.facts() == plain.value.facts()
    assert len(recordings) == 2


class Gpus:
    """Stands in for the calls of ``torch.cuda`` on a machine with two GPUs, of which the first is the current one.

    Attributes:
        current: number of the current GPU.
        repeated_on: of every repetition of a graph the GPU that was current.
        recording_to: the pools of memory, with their GPUs, that the allocator takes recordings to go on in; as in torch
            2.11, those of recordings that broke off stay.
        kept: pools that are in use, likewise.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.current = 0
        self.repeated_on: list[int] = []
        self.recording_to: list[tuple[int, str]] = []
        self.kept: list[tuple[int, str]] = []
        stand_in = {
            "CUDAGraph": lambda: SimpleNamespace(replay=lambda: self.repeated_on.append(self.current)),
            "Stream": self.stream,
            "current_stream": self.stream,
            "default_generators": [torch.Generator(), torch.Generator()],
            "device_of": lambda found: self.on(found.device.index),
            "graph": self.graph,
            "graph_pool_handle": lambda: "pool",
            "stream": lambda stream: self.on(stream.gpu),
        }
        for name, value in stand_in.items():
            monkeypatch.setattr(torch.cuda, name, value)
        for name, pools in (("endAllocateTo", self.recording_to), ("release", self.kept)):
            monkeypatch.setattr(torch._C, f"_cuda_{name}Pool", lambda gpu, pool, pools=pools: pools.remove((gpu, pool)))
        # Not that of an earlier test.
        monkeypatch.setattr(recorded_steps, "side_stream", cache(recorded_steps.side_stream.__wrapped__))

    def stream(self, device: torch.device | None = None) -> SimpleNamespace:
        gpu = self.current if device is None else device.index
        return SimpleNamespace(gpu=gpu, wait_stream=lambda other: None)

    @contextmanager
    def graph(self, graph: object, pool: str, stream: SimpleNamespace) -> Iterator[None]:
        with self.on(stream.gpu):
            for pools in (self.recording_to, self.kept):
                pools.append((stream.gpu, pool))
            yield
            self.recording_to.remove((stream.gpu, pool))

    @contextmanager
    def on(self, gpu: int) -> Iterator[None]:
        before, self.current = self.current, gpu
        try:
            yield
        finally:
            self.current = before


@dataclass
class Positions:
    """Of a batch, on the second GPU."""

    device = torch.device("cuda", 1)
    is_cuda = True

    def __len__(self) -> int:
        return 8

    def clone(self) -> Positions:
        return self

    def copy_(self, other: Positions) -> None:
        pass


def test_steps_are_repeated_on_the_network_s_gpu_whichever_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording on another GPU's stream is empty: its repetitions do nothing."""
    gpus = Gpus(monkeypatch)
    steps: list[int] = []
    chosen: Any = Positions()

    def step(chosen: Tensor) -> Tensor:
        steps.append(gpus.current)
        return torch.zeros(())

    taken = Capture(True).steps(step, 8, [])
    for _ in range(WARM_UP + 2):
        taken(chosen)
    assert steps == [1] * (WARM_UP + 1)
    assert gpus.repeated_on == [1, 1]
    assert gpus.current == 0
    assert gpus.recording_to == []
    assert gpus.kept == [(1, "pool")]


def test_a_recording_that_broke_off_leaves_the_allocator_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else ``torch.cuda.empty_cache``, and with it every other recording and a chunk that is halved, would fail."""
    gpus, chosen = Gpus(monkeypatch), Positions()

    def step(chosen: Tensor) -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing")

    with pytest.raises(RuntimeError, match="not permitted"):
        recorded_steps.record(step, chosen, [])  # type: ignore[arg-type]
    assert gpus.recording_to == gpus.kept == []


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """A GPU that repeats its bits, so that only the recording makes a difference."""
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    demand_determinism(True)
    yield torch.device("cuda")
    demand_determinism(False)


def test_on_a_gpu_a_broken_recording_leaves_a_training_that_goes_on(
    gpu: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = run(False, defenses=(Looks(),), device=gpu)
    fallen, _ = run(True, defenses=(Looks(),), device=gpu)
    torch.testing.assert_close(fallen, plain, rtol=1e-3, atol=1e-4)
    assert "kernel by kernel" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_on_a_gpu_recorded_steps_are_near_plain_ones(
    optimizer: str, gpu: torch.device, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, rate = [{"method": "random-noise", "distribution": "bernoulli", "mu": 8}], 0.1 if optimizer == "sgd" else 1e-3
    plain, recorded = (
        trained(rows, gpu, model=network(dropout=0.3), capture=how, optimizer=optimizer, lr=rate).weights
        for how in (False, True)
    )
    torch.testing.assert_close(recorded, plain, rtol=1e-3, atol=1e-4)
    assert "kernel by kernel" not in capsys.readouterr().err


def test_saves_do_not_tell_how_steps_were_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed without recordings goes on with them."""
    rows = [{"method": "random-noise", "distribution": "uniform", "mu": 8}]
    with pytest.raises(KilledError):
        trained(rows, saved=tmp_path / "state", kill_at=2)
    assert Checkpoint(tmp_path / "state", "the same run").load() is not None
    recordings = replayed_on_the_cpu(monkeypatch)
    resumed = trained(rows, model=network(seed=9), saved=tmp_path / "state", capture=True)
    assert torch.equal(resumed.weights, trained(rows).weights)
    assert recordings
