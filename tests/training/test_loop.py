"""The training loop against a plain one, its bits under interruption, and every hook of a defense."""

from __future__ import annotations

import errno
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.config.defenses.random_noise import RandomNoise as RandomNoiseSettings
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.errors import DivergedError, PoisonlabError, SettingsError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Batch, Defense, EpochEnd, EpochRecord
from poisonlab.training.loop import Observe, Trained, train

MEAN, STD = (0.4, 0.5), (0.2, 0.3)
STILL = Augmentation(kind="none")


def network(seed: int = 0, dropout: bool = False) -> Classifier:
    torch.manual_seed(seed)
    layers: list[nn.Module] = [nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()]
    return Classifier(nn.Sequential(*layers, *([nn.Dropout(0.3)] if dropout else [])), nn.Linear(144, 3))


def examples(count: int = 22) -> TrainingSet:
    stream = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 2, 6, 6), generator=stream, dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % 3, torch.arange(count))


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 4, "batch_size": 8, "lr": 0.05, "milestones": (2,), "augmentation": STILL, **changes})


def run(
    model: nn.Module, *, chosen: Recipe, data: TrainingSet | None = None, seed: int = 0, **more: Any
) -> list[EpochRecord]:
    return train(model, Normalize(MEAN, STD), data or examples(), chosen, seed=seed, **more).history


def bits(model: nn.Module) -> bytes:
    return b"".join(value.contiguous().numpy().tobytes() for value in model.state_dict().values())


@dataclass(frozen=True)
class Recorder(Defense):
    """Keeps what the loop shows it."""

    batches: list[Batch] = field(default_factory=list)

    def change_batch(self, batch: Batch) -> Tensor:
        self.batches.append(batch)
        return batch.images


@dataclass(frozen=True)
class DropsOne(Defense):
    """Drops the first example left, after every epoch."""

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        return end.data.keep(torch.arange(len(end.data)) > 0)


# --- the plain loop -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("decay_all", [True, False])
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.9, True), (0.9, False), (0.0, True)])
def test_it_is_the_plain_loop(decay_all: bool, momentum: float, nesterov: bool) -> None:
    chosen = recipe(decay_norm_and_bias=decay_all, momentum=momentum, nesterov=nesterov, weight_decay=0.01)
    ours, recorder = network(), Recorder()
    history = run(ours, chosen=chosen, defenses=[recorder])

    data, slow = examples(), network().train()
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    velocity = {name: torch.zeros_like(p) for name, p in slow.named_parameters()}
    shown = iter(recorder.batches)
    for epoch in range(4):
        total, seen = 0.0, []
        for size in (8, 8, 6):
            rows = next(shown).rows
            assert len(rows) == size
            seen += rows.tolist()
            x = (data.images[rows].float() / 255 - mean) / std
            loss = F.cross_entropy(slow(x), data.labels[rows])
            slow.zero_grad()
            loss.backward()
            rate = 0.05 if epoch < 2 else 0.005
            with torch.no_grad():
                for name, p in slow.named_parameters():
                    free = not decay_all and ("bias" in name or name == "extract.1.weight")
                    gradient = p.grad + (0 if free else 0.01) * p
                    velocity[name] = momentum * velocity[name] + gradient
                    p -= rate * (gradient + momentum * velocity[name] if nesterov else velocity[name])
            total += loss.item() * size
        assert sorted(seen) == list(range(22))
        assert history[epoch]["train_loss"] == pytest.approx(total / 22, rel=1e-5)
        assert history[epoch]["lr"] == pytest.approx(rate)
        assert (history[epoch]["epoch"], history[epoch]["examples"]) == (epoch, 22)
    for name, value in slow.state_dict().items():
        assert torch.allclose(ours.state_dict()[name].double(), value.double(), atol=2e-5), name
    assert not ours.training


def test_padding_is_mean_or_black_as_the_recipe_says() -> None:
    """White images moved about: around them is each channel's mean, 0 after normalisation, or black."""
    white = TrainingSet(torch.full((22, 2, 6, 6), 255, dtype=torch.uint8), torch.arange(22) % 3, torch.arange(22))
    for padding, outside in (("mean", (0.0, 0.0)), ("black", (-0.4 / 0.2, -0.5 / 0.3))):
        seen: list[Tensor] = []
        model = network()
        model.extract[0].register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0].detach().clone()))
        run(
            model, chosen=recipe(epochs=1, milestones=(), augmentation={"kind": "crop", "padding": padding}), data=white
        )
        shown = torch.cat(seen)
        for channel, around in enumerate(outside):
            colours = shown[:, channel].unique().tolist()
            assert colours == pytest.approx([around, (1 - MEAN[channel]) / STD[channel]])


def test_alternating_flips_mirror_each_image_in_every_other_epoch(tmp_path: Path) -> None:
    """Columns of the images rise, so that a mirrored one shows it; also when rows were dropped and the run resumed."""
    rising = torch.arange(6, dtype=torch.uint8).expand(22, 2, 6, 6).contiguous()
    data = TrainingSet(rising, torch.arange(22) % 3, torch.arange(22))
    chosen = recipe(epochs=4, augmentation={"kind": "crop", "pixels": 0, "flip": "alternating"})

    def mirrored(data: TrainingSet, **more: Any) -> list[dict[int, bool]]:
        seen: list[Tensor] = []
        model, recorder = network(), Recorder()
        model.extract[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().clone()))
        run(model, chosen=chosen, data=data, defenses=[recorder], **more)
        epochs: list[dict[int, bool]] = [{} for _ in range(4)]
        for batch, inputs in zip(recorder.batches, seen, strict=True):
            epochs[batch.epoch] |= zip(
                batch.rows.tolist(), (inputs[:, 0, 0, 0] > inputs[:, 0, 0, 5]).tolist(), strict=True
            )
        return epochs

    first, *later = mirrored(data)
    assert 0 < sum(first.values()) < 22
    others = {row: not flip for row, flip in first.items()}
    assert later == [others, first, others]
    part = mirrored(data.keep(torch.arange(3, 18)))
    assert part == [{row: flip for row, flip in epoch.items() if 3 <= row < 18} for epoch in (first, *later)]
    assert mirrored(data, seed=1)[0] != first

    def killing(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        ended.append(1)
        if len(ended) == 2:
            raise KilledError
        return {}

    ended: list[int] = []
    checkpoint = Checkpoint(tmp_path / "state", "f", interval=0)
    with pytest.raises(KilledError):
        mirrored(data, checkpoint=checkpoint, observe=killing)
    assert mirrored(data, checkpoint=checkpoint) == [{}, *later]


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_label_smoothing_spreads_a_share_of_each_label(smoothing: float) -> None:
    """The first loss in closed form: the mean of -(1 - s) log p_y - s / K * sum of log p."""
    recorder = Recorder()
    chosen = recipe(epochs=1, milestones=(), batch_size=22, label_smoothing=smoothing)
    (record,) = run(network(), chosen=chosen, defenses=[recorder])
    (batch,) = recorder.batches
    with torch.no_grad():
        logarithms = network().train()(Normalize(MEAN, STD)(batch.images)).double().log_softmax(1)
    own = logarithms[torch.arange(22), batch.labels]
    expected = -((1 - smoothing) * own + smoothing * logarithms.sum(1) / 3).mean()
    assert record["train_loss"] == pytest.approx(float(expected), rel=1e-6)


def test_every_epoch_has_an_order_of_its_own() -> None:
    orders = []
    for seed in (0, 1):
        recorder = Recorder()
        run(network(), chosen=recipe(), defenses=[recorder], seed=seed)
        rows = torch.cat([batch.rows for batch in recorder.batches]).view(4, 22)
        orders += [tuple(order) for order in rows.tolist()]
    assert len(set(orders)) == 8


def test_every_epoch_augments_and_drops_anew() -> None:
    """Of equal images, so that only the draws tell epochs apart; none of their pixels is 0 before dropout."""
    white = TrainingSet(torch.full((22, 2, 6, 6), 255, dtype=torch.uint8), torch.arange(22) % 3, torch.arange(22))
    model = Classifier(nn.Sequential(nn.Dropout(0.5), nn.Flatten()), nn.Linear(72, 3))
    seen: list[Tensor] = []
    kept: list[Tensor] = []

    def watch(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.append(inputs[0].detach().clone())
        kept.append(output.detach() != 0)

    model.extract[0].register_forward_hook(watch)
    run(model, chosen=recipe(augmentation=Augmentation(pixels=2, padding="black")), data=white)
    for shown in (seen, kept):
        assert len(torch.cat(shown).reshape(4, -1).unique(dim=0)) == 4


def test_same_seed_same_bits() -> None:
    chosen = recipe(augmentation=Augmentation(pixels=1))
    first, again, other = network(dropout=True), network(dropout=True), network(dropout=True)
    history = run(first, chosen=chosen, seed=5)
    torch.manual_seed(77)
    assert run(again, chosen=chosen, seed=5) == history
    assert bits(first) == bits(again)
    run(other, chosen=chosen, seed=6)
    assert bits(first) != bits(other)


def test_bfloat16_trains_to_about_the_same() -> None:
    full, half = network(), network()
    losses = [run(model, chosen=recipe(precision=p))[-1]["train_loss"] for model, p in
              ((full, "float32"), (half, "bfloat16"))]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], abs=0.1)
    assert half.head.weight.dtype == torch.float32


# --- interruption ---------------------------------------------------------------------------------------------


class KilledError(Exception):
    pass


def defended() -> list[Defense]:
    noise = (torch.rand(22, 2, 6, 6, generator=torch.Generator().manual_seed(1)) - 0.5) / 8
    random = RandomNoise(RandomNoiseSettings(distribution="bernoulli"))
    return [FriendlyNoise(noise, start=2), random, DropsOne()]


def observed(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
    assert not model.training
    return {"norm": float(sum(p.detach().square().sum() for p in model.parameters()))} | (
        {"costly": 1.0} if costly else {}
    )


LONG = {"epochs": 6, "augmentation": Augmentation(pixels=1), "evaluate_every": 4, "warmup_epochs": 1.5}


@pytest.mark.parametrize("last_epoch", [0, 1, 3, 4, 5])
def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path, last_epoch: int) -> None:
    chosen = recipe(**LONG)
    whole = network(dropout=True)
    history = run(whole, chosen=chosen, defenses=defended(), observe=observed)
    assert [record["examples"] for record in history] == [22, 21, 20, 19, 18, 17]
    assert ["costly" in record for record in history] == [False, False, False, True, False, True]

    epochs = []

    def killing(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == last_epoch + 1:
            raise KilledError
        return observed(model, data, costly)

    path = tmp_path / "state"
    with pytest.raises(KilledError):
        run(
            network(dropout=True), chosen=chosen, defenses=defended(), observe=killing,
            checkpoint=Checkpoint(path, "f", interval=0),
        )  # fmt: skip
    assert path.exists() == (last_epoch > 0)
    resumed, recorder = network(seed=9, dropout=True) if last_epoch else network(dropout=True), Recorder()
    again = run(
        resumed, chosen=chosen, defenses=[*defended(), recorder], observe=observed,
        checkpoint=Checkpoint(path, "f", interval=0),
    )  # fmt: skip
    assert again == history
    assert bits(resumed) == bits(whole)
    assert recorder.batches[0].epoch == last_epoch


def test_until_stops_on_the_schedule_of_the_whole_run() -> None:
    chosen = recipe(schedule="linear", milestones=None)
    part, whole, seen = network(), network(), []

    def watch(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        seen.append(bits(model))
        return {}

    history = run(whole, chosen=chosen, observe=watch)
    assert run(part, chosen=chosen, until=2) == history[:2]
    assert bits(part) == seen[1]
    fresh = network()
    assert run(fresh, chosen=chosen, until=0) == []
    assert bits(fresh) == bits(network())


@pytest.mark.parametrize("damage", ["fingerprint", "truncated", "flipped", "empty", "other kind"])
def test_a_checkpoint_that_is_not_this_runs_is_ignored(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state"
    run(network(3), chosen=recipe(), until=3, checkpoint=Checkpoint(path, "mine", interval=0), seed=8)
    assert path.exists()
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-9])
    elif damage == "flipped":
        content[-5] ^= 16
        path.write_bytes(content)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "other kind":
        path.write_bytes(bytes(content).replace(b"checkpoint", b"chockpoint"))
    checkpoint = Checkpoint(path, "theirs" if damage == "fingerprint" else "mine", interval=1000)
    assert checkpoint.load() is None
    first, second = network(), network()
    assert run(first, chosen=recipe(), checkpoint=checkpoint) == run(second, chosen=recipe())
    assert bits(first) == bits(second)
    checkpoint.clear()
    checkpoint.clear()
    assert not path.exists()


def test_a_run_saves_at_most_every_interval(tmp_path: Path) -> None:
    path = tmp_path / "state"
    run(network(), chosen=recipe(), checkpoint=Checkpoint(path, "f", interval=1000))
    assert not path.exists()


@dataclass(frozen=True)
class KeepsReversed(Defense):
    """Keeps all but one example, by decreasing row: as a choice by ``topk`` of a score would."""

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        return end.data.keep(end.data.rows.argsort(descending=True)[:-1])


def test_a_killed_run_keeps_the_order_of_the_kept_examples(tmp_path: Path) -> None:
    whole, path = network(), tmp_path / "state"
    history = run(whole, chosen=recipe(), defenses=[KeepsReversed()])

    def killing(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        if path.exists():
            raise KilledError
        return {}

    options: dict[str, Any] = {"defenses": [KeepsReversed()], "checkpoint": Checkpoint(path, "f", interval=0)}
    with pytest.raises(KilledError):
        run(network(), chosen=recipe(), observe=killing, **options)
    resumed = network()
    assert run(resumed, chosen=recipe(), **options) == history
    assert bits(resumed) == bits(whole)


# --- stopping ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Whim(Defense):
    """Stops after an epoch, keeps the weights of another, and drops one example after every epoch."""

    stop: int
    best: tuple[int, ...] = ()
    seen: list[EpochRecord] = field(default_factory=list)

    def stops(self, history: Sequence[EpochRecord]) -> bool:
        self.seen.append(dict(history[-1]))
        return len(history) == self.stop + 1

    def best_epoch(self, history: Sequence[EpochRecord]) -> int | None:
        return max((epoch for epoch in self.best if epoch < len(history)), default=None)

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        return end.data.keep(torch.arange(len(end.data)) > 0)


def watched(seen: dict[int, bytes]) -> Observe:
    """Takes down the weights after each epoch, by the number of examples it was trained on."""

    def observe(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        seen.setdefault(22 - len(data), bits(model))
        return {"costly": float(costly), "weight": float(next(iter(model.parameters())).detach().flatten()[0])}

    return observe


def ended(model: nn.Module, **more: Any) -> Trained:
    return train(model, Normalize(MEAN, STD), examples(), recipe(**LONG), **{"seed": 0, **more})


def test_a_defense_stops_the_training_as_it_was() -> None:
    after: dict[int, bytes] = {}
    whole = ended(network(), defenses=[Whim(99)], observe=watched(after))
    model = network()
    part = ended(model, defenses=[Whim(2)], observe=watched({}))
    assert bits(model) == after[2]
    # The last epoch is measured in full, whenever it comes.
    assert [record["costly"] for record in part.history] == [0, 0, 1]
    assert [record["train_loss"] for record in part.history] == [record["train_loss"] for record in whole.history[:3]]
    assert part.observed == {name: part.history[-1][name] for name in ("costly", "weight")}


@pytest.mark.parametrize(("stop", "epochs", "changes"), [(99, 6, 6), (3, 4, 3)])
def test_observing_comes_before_a_defense_changes_the_data_and_the_end_shows_all_changes(
    stop: int, epochs: int, changes: int
) -> None:
    """A training that stops early ends with the data of its last epoch: no next one follows."""
    lengths = []
    result = ended(
        network(),
        defenses=[Whim(stop)],
        observe=lambda model, data, costly: lengths.append(len(data)) or {},  # type: ignore[func-returns-value]
    )
    assert lengths == [record["examples"] for record in result.history] == list(range(22, 22 - epochs, -1))
    assert result.data.rows.tolist() == list(range(changes, 22))


@pytest.mark.parametrize("best", [(0,), (1, 3), (5,)])
def test_the_weights_of_the_best_epoch_are_kept_and_measured(best: tuple[int, ...]) -> None:
    after: dict[int, bytes] = {}
    model = network(dropout=True)
    result = ended(model, defenses=[Whim(99, best)], observe=watched(after))
    assert bits(model) == after[best[-1]]
    assert len(result.history) == 6
    assert result.observed == {"costly": 1.0, "weight": result.history[best[-1]]["weight"]}


@pytest.mark.parametrize("killed", range(1, 6))
def test_a_killed_run_keeps_the_best_weights(tmp_path: Path, killed: int) -> None:
    whole = network(dropout=True)
    defenses = [Whim(5, (0, 2)), *defended()]
    expected = ended(whole, defenses=defenses, observe=observed)
    epochs = []

    def killing(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        epochs.append(1)
        if len(epochs) == killed + 1:
            raise KilledError
        return observed(model, data, costly)

    checkpoint = Checkpoint(tmp_path / "state", "f", interval=0)
    with pytest.raises(KilledError):
        ended(network(dropout=True), defenses=defenses, observe=killing, checkpoint=checkpoint)
    resumed = network(seed=9, dropout=True)
    again = ended(resumed, defenses=defenses, observe=observed, checkpoint=checkpoint)
    assert bits(resumed) == bits(whole)
    assert (again.history, again.observed) == (expected.history, expected.observed)


def test_a_run_until_an_epoch_keeps_no_earlier_weights() -> None:
    """The network that makes friendly noise is the victim itself at that epoch."""
    after: dict[int, bytes] = {}
    ended(network(), defenses=[Whim(99)], observe=watched(after))
    model = network()
    ended(model, defenses=[Whim(99, (0,))], until=2)
    assert bits(model) == after[1]


def test_validation_is_recorded_before_a_defense_decides_and_changes_nothing() -> None:
    held = TrainingSet(examples(31).images[22:], torch.arange(9) % 3, torch.full((9,), -1))
    plain, model, whim = network(), network(), Whim(99)
    without = ended(plain, defenses=[Whim(99)])
    result = ended(model, defenses=[whim], validation=held)
    assert bits(plain) == bits(model)
    assert "validation_loss" not in without.history[0]
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        logits = model.eval()((held.images / 255 - mean) / std).double()
    last = result.history[-1]
    right = [int(row.argmax()) == int(label) for row, label in zip(logits, held.labels, strict=True)]
    assert last["validation_accuracy"] == pytest.approx(sum(right) / 9)
    losses = [-math.log(row.softmax(0)[label].item()) for row, label in zip(logits, held.labels, strict=True)]
    assert last["validation_loss"] == pytest.approx(sum(losses) / 9, rel=1e-5)
    # Whether to go on is not asked after the last epoch.
    assert [record["validation_loss"] for record in whim.seen] == [r["validation_loss"] for r in result.history[:-1]]


# --- divergence -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Poisonous(Defense):
    epoch: int
    row: int

    def change_batch(self, batch: Batch) -> Tensor:
        hit = (batch.rows == self.row) & (batch.epoch == self.epoch)
        return batch.images.masked_fill(hit.view(-1, 1, 1, 1), math.nan)


def test_a_nan_names_its_epoch_and_batch() -> None:
    recorder = Recorder()
    run(network(), chosen=recipe(), defenses=[recorder])
    place = next(n for n, batch in enumerate(recorder.batches) if batch.epoch == 2 and 7 in batch.rows)
    with pytest.raises(PoisonlabError, match=f"epoch 2, batch {place % 3};") as caught:
        run(network(), chosen=recipe(), defenses=[Poisonous(2, 7)])
    assert "nan" in str(caught.value)
    assert "\n" not in str(caught.value)


@dataclass(frozen=True)
class Ruinous(Defense):
    """Makes the gradients of one step infinite, which no loss of that epoch tells of if it is the last."""

    epoch: int
    calls: list[int] = field(default_factory=list)

    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        self.calls.append(1)
        if len(self.calls) == 3 * (self.epoch + 1):
            for parameter in parameters:
                assert parameter.grad is not None
                parameter.grad.fill_(math.inf)


def test_weights_that_the_last_step_ruins_are_no_outcome() -> None:
    """Their logits are nan, and the largest of these is class 0: an attack on it would count as a success."""
    with pytest.raises(DivergedError, match="a weight is not finite at epoch 1, batch 2;") as caught:
        run(network(), chosen=recipe(epochs=2, milestones=()), defenses=[Ruinous(1)])
    assert (caught.value.epoch, caught.value.batch) == (1, 2)


class Unwilling(Checkpoint):
    """Due after every epoch."""

    def due(self) -> bool:
        return True


def test_a_save_that_fails_costs_no_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = network()
    history = run(whole, chosen=recipe())
    checkpoint = Unwilling(tmp_path / "saved", "same")
    saves = []

    def fsync(handle: int) -> None:
        saves.append(handle)
        if len(saves) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", fsync)
    trained = network()
    assert run(trained, chosen=recipe(), checkpoint=checkpoint) == history
    assert bits(trained) == bits(whole)
    assert len(saves) > 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == len(saves) - 1
    assert all(line.startswith("warning: disk full while writing") and str(tmp_path) in line for line in lines)
    # The first save stands whole, and nothing half-written beside it.
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    saved = checkpoint.load()
    assert saved is not None
    assert len(saved[1]["history"]) == 1


def small(norm: Callable[[int], nn.Module]) -> Classifier:
    """Its features are one pixel large, so that a batch of one has nothing to normalise by."""
    return Classifier(nn.Sequential(nn.Conv2d(2, 4, 6), norm(4), nn.Flatten()), nn.Linear(4, 3))


def test_a_last_batch_that_batch_norm_cannot_normalise_is_one_line() -> None:
    with pytest.raises(SettingsError, match=r"last batch of an epoch has one example.*another batch_size") as caught:
        run(small(nn.BatchNorm2d), chosen=recipe(), data=examples(17))
    assert "\n" not in str(caught.value)
    run(small(nn.BatchNorm2d), chosen=recipe(), data=examples(18))
    run(small(nn.Identity), chosen=recipe(), data=examples(17))


def test_an_exploding_rate_is_one_line() -> None:
    with pytest.raises(PoisonlabError, match="diverged"):
        run(network(), chosen=recipe(lr=1e30, epochs=4))


# --- hooks ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meddler(Defense):
    """Uses every hook; ``calls`` says when."""

    calls: list[str] = field(default_factory=list)

    def prepare(self, data: TrainingSet) -> TrainingSet:
        self.calls.append("prepare")
        return data.keep(torch.arange(10))

    def change_batch(self, batch: Batch) -> Tensor:
        self.calls.append("batch")
        assert batch.model.training
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
        return torch.zeros_like(batch.images)

    def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
        self.calls.append(f"loss {epoch}")
        return logits.square().mean()

    def change_inputs(self, batch: Batch) -> tuple[Tensor, Tensor]:
        self.calls.append("inputs")
        # Normalised black, shifted in from outside 0 at most.
        assert batch.images.max() <= 0
        return batch.images, batch.labels

    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        self.calls.append("gradients")
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.zero_()

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        self.calls.append(f"end {end.epoch}")
        assert not end.model.training
        assert end.full.rows.tolist() == list(range(10))
        return end.data.keep(end.data.rows != end.epoch)


def test_every_hook_is_honoured_in_order() -> None:
    meddler, model = Meddler(), network()
    before = {name: p.clone() for name, p in model.named_parameters()}
    history = run(model, chosen=recipe(epochs=2, milestones=None, weight_decay=0), defenses=[meddler])
    steps = [["batch", "inputs", f"loss {epoch}", "gradients"] * 2 + [f"end {epoch}"] for epoch in (0, 1)]
    assert meddler.calls == ["prepare", *steps[0], *steps[1]]
    assert [record["examples"] for record in history] == [10, 9]
    # Gradients were taken away and there is no decay: nothing moved.
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())


def test_the_first_loss_wins_and_none_leaves_cross_entropy() -> None:
    @dataclass(frozen=True)
    class Fixed(Defense):
        value: float | None

        def loss(self, logits: Tensor, labels: Tensor, epoch: int) -> Tensor | None:
            return None if self.value is None else logits.sum() * 0 + self.value

    def first_loss(*values: float | None) -> float:
        return run(network(), chosen=recipe(epochs=1, milestones=None), defenses=list(map(Fixed, values)))[0][
            "train_loss"
        ]

    assert first_loss(None, 2.0, 5.0) == pytest.approx(2)
    assert first_loss(None, None) == first_loss()


def test_batches_pass_from_defense_to_defense() -> None:
    @dataclass(frozen=True)
    class Affine(Defense):
        scale: float
        shift: float

        def change_batch(self, batch: Batch) -> Tensor:
            return batch.images * self.scale + self.shift

    recorders = [Recorder(), Recorder(), Recorder()]
    run(
        network(), chosen=recipe(epochs=1, milestones=None),
        defenses=[recorders[0], Affine(0.5, 0), recorders[1], Affine(1, 3), recorders[2]],
    )  # fmt: skip
    for first, second, third in zip(*(recorder.batches for recorder in recorders), strict=True):
        assert torch.equal(second.images, first.images * 0.5)
        assert torch.equal(third.images, second.images + 3)
        assert torch.equal(first.labels, first.rows % 3)
        assert torch.equal(first.images, examples().images[first.rows].float() / 255)


def test_each_defense_has_a_stream_of_its_own_per_epoch() -> None:
    recorders = [Recorder(), Recorder()]
    run(network(), chosen=recipe(epochs=2, milestones=None), defenses=recorders)
    seeds = {batch.generator.initial_seed() for recorder in recorders for batch in recorder.batches}
    assert len(seeds) == 4


def test_dropping_everything_is_one_line() -> None:
    @dataclass(frozen=True)
    class DropsAll(Defense):
        def end_epoch(self, end: EpochEnd) -> TrainingSet:
            return end.data.keep(end.data.rows < 0)

    with pytest.raises(PoisonlabError, match="no example is left to train on by the end of epoch"):
        run(network(), chosen=recipe(), defenses=[DropsAll()])
