"""Victims that begin from a pretrained network: frozen features against logistic regression written out by hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.config.defenses.random_noise import RandomNoise as RandomNoiseSettings
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.config.start import Start
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import (
    TrainingSet,
    fine_tuning_rows,
    last_of_each_class,
    training_set,
    without,
)
from poisonlab.defenses.friendly_noise import FriendlyNoise
from poisonlab.defenses.random_noise import RandomNoise
from poisonlab.errors import DataError, SettingsError
from poisonlab.models import resnet18, small_resnet
from poisonlab.models.classifier import Classifier, FrozenFeatures, Normalize
from poisonlab.models.networks import begin_from, build_network, build_victim, save_weights
from poisonlab.randomness import generator
from poisonlab.training import loop
from poisonlab.training.checkpoint import Checkpoint
from poisonlab.training.defense import Defense, EpochEnd
from poisonlab.training.loop import EpochRecord, train

MEAN, STD = (0.4, 0.5), (0.2, 0.3)
STILL = Augmentation(kind="none")
COUNT = 22


def network(seed: int = 0, dropout: float = 0.0) -> Classifier:
    """With running statistics that are not those of its data."""
    torch.manual_seed(seed)
    layers = nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(dropout), nn.Flatten()
    made = Classifier(nn.Sequential(*layers), nn.Linear(144, 3))
    made.extract[1].running_mean = torch.randn(4) * 0.3  # type: ignore[index]
    made.extract[1].running_var = torch.rand(4) + 0.5  # type: ignore[index]
    return made


def frozen(seed: int = 0, batch_norm: str = "eval", dropout: float = 0.0) -> FrozenFeatures:
    made = network(seed, dropout)
    return FrozenFeatures(made.extract, made.head, batch_norm)


def examples(count: int = COUNT) -> TrainingSet:
    stream = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (count, 2, 6, 6), generator=stream, dtype=torch.uint8)
    return TrainingSet(images, torch.arange(count) % 3, torch.arange(count))


def recipe(**changes: Any) -> Recipe:
    return Recipe(**{"epochs": 4, "batch_size": 8, "lr": 0.02, "milestones": (2,), "augmentation": STILL, **changes})


def run(
    model: nn.Module, chosen: Recipe | None = None, data: TrainingSet | None = None, **more: Any
) -> list[EpochRecord]:
    return train(model, Normalize(MEAN, STD), data or examples(), chosen or recipe(), **{"seed": 0, **more}).history


def noise(levels: float = 40) -> Tensor:
    return (torch.rand(COUNT, 2, 6, 6, generator=torch.Generator().manual_seed(5)) * 2 - 1) * levels / 255


RANDOM = RandomNoise(RandomNoiseSettings(distribution="uniform", mu=10))


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def features(model: Classifier, images: Tensor) -> Tensor:
    """Frozen features of pixels in [0, 1], layer by layer in float64."""
    mean, std = (torch.tensor(values).double().view(1, -1, 1, 1) for values in (MEAN, STD))
    conv, norm = model.extract[0], model.extract[1]  # type: ignore[index]
    x = torch.conv2d((images.double() - mean) / std, conv.weight.double(), conv.bias.double(), padding=1)
    x = (x - norm.running_mean.double().view(1, -1, 1, 1)) / (norm.running_var.double().view(1, -1, 1, 1) + 1e-5).sqrt()
    return x.clamp(min=0).flatten(1)


def logistic_regression(
    model: Classifier, shown: Callable[[int], Tensor], chosen: Recipe, data: TrainingSet
) -> tuple[Tensor, Tensor, list[float]]:
    """SGD with Nesterov momentum on softmax regression, its gradient in closed form: weight, bias, losses.

    Args:
        shown: features (N, D) by epoch.
    """
    weight, bias = model.head.weight.detach().double(), model.head.bias.detach().double()
    velocity = torch.zeros_like(weight), torch.zeros_like(bias)
    losses = []
    for epoch in range(chosen.epochs):
        order = torch.randperm(len(data), generator=generator("cpu", 0, "order", epoch))
        rate = chosen.lr * 0.1 ** sum(epoch >= milestone for milestone in chosen.milestones or ())
        total = 0.0
        for batch in torch.split(order, chosen.batch_size):
            x, y = shown(epoch)[batch], torch.eye(3, dtype=torch.float64)[data.labels[batch]]
            logits = x @ weight.T + bias
            p = logits.softmax(1)
            total -= float((p.log() * y).sum())
            gradients = (p - y).T @ x / len(batch), (p - y).mean(0)
            moved = []
            for place, (value, gradient) in enumerate(zip((weight, bias), gradients, strict=True)):
                decayed = gradient + chosen.weight_decay * value
                speed = velocity[place].mul_(chosen.momentum).add_(decayed)
                moved.append(value - rate * (decayed + chosen.momentum * speed))
            weight, bias = moved
        losses.append(total / len(data))
    return weight, bias, losses


# --- frozen features --------------------------------------------------------------------------------------------------


def test_only_the_head_is_trained_but_gradients_reach_the_input() -> None:
    model = frozen()
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]
    x = torch.randn(3, 2, 6, 6, requires_grad=True)
    model(x).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().max() > 0


@pytest.mark.parametrize(("batch_norm", "mode"), [("eval", False), ("train", True)])
def test_the_extractor_follows_train_mode_only_if_asked(batch_norm: str, mode: bool) -> None:
    model = frozen(batch_norm=batch_norm)
    assert model.train() is model
    assert model.training
    assert model.head.training
    assert all(module.training is mode for module in model.extract.modules())
    model.eval()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("friendly", [None, 0, 2])
def test_transfer_is_logistic_regression_on_fixed_features(
    monkeypatch: pytest.MonkeyPatch, cached: bool, friendly: int | None
) -> None:
    if not cached:
        monkeypatch.setattr(loop, "_fixed_features", lambda *_: None)
    model, data, chosen = frozen(), examples(), recipe(weight_decay=0.01)
    clean = features(model, data.images / 255)
    noisy = features(model, (data.images / 255 + noise()).clamp(0, 1))
    weight, bias, losses = logistic_regression(
        model, lambda epoch: clean if friendly is None or epoch < friendly else noisy, chosen, data
    )
    defenses = [] if friendly is None else [FriendlyNoise(noise(), friendly)]
    history = run(model, chosen, defenses=defenses)
    assert torch.allclose(model.head.weight.double(), weight, atol=1e-5)
    assert torch.allclose(model.head.bias.double(), bias, atol=1e-5)
    assert [record["train_loss"] for record in history] == pytest.approx(losses, rel=1e-4)


@dataclass(frozen=True)
class DropsTwo(Defense):
    """Drops the second and the last example left, after every epoch."""

    def end_epoch(self, end: EpochEnd) -> TrainingSet:
        kept = torch.ones(len(end.data), dtype=torch.bool)
        kept[[1, -1]] = False
        return end.data.keep(kept)


@pytest.mark.parametrize(
    "defenses",
    [
        [],
        [FriendlyNoise(noise())],
        [DropsTwo()],
        [DropsTwo(), FriendlyNoise(noise())],
        [FriendlyNoise(noise()), DropsTwo()],
    ],
)
@pytest.mark.parametrize("channels_last", [True, False])
def test_features_kept_are_features_computed_anew(
    monkeypatch: pytest.MonkeyPatch, defenses: list[Defense], channels_last: bool
) -> None:
    # Rows that do not count from 0, as after a drop before the first epoch.
    data = examples().keep(torch.tensor([20, 3, 4, 5, 6, 7, 1, 9, 10, 11, 12, 13, 14, 15, 16, 17]))
    chosen, kept, anew = recipe(channels_last=channels_last), frozen(dropout=0.5), frozen(dropout=0.5)
    history = run(kept, chosen, data, defenses=defenses)
    monkeypatch.setattr(loop, "_fixed_features", lambda *_: None)
    again = run(anew, chosen, data, defenses=defenses)
    for name, value in state(kept).items():
        assert torch.allclose(value.double(), anew.state_dict()[name].double(), atol=1e-6), name
    assert [r["train_loss"] for r in history] == pytest.approx([r["train_loss"] for r in again], rel=1e-5)
    assert [r["examples"] for r in history] == [r["examples"] for r in again]


def fixed(model: nn.Module, defenses: Sequence[Defense] = (), **changes: Any) -> Tensor | None:
    return loop._fixed_features(model, Normalize(MEAN, STD), examples(), recipe(**changes), defenses)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_features_are_kept_by_row_with_the_noise_that_stays(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "images_at_once", lambda _: chunk)
    model, data = frozen(), examples()
    clean, noisy = fixed(model), fixed(model, [FriendlyNoise(noise()), DropsTwo()])
    assert clean is not None
    assert noisy is not None
    for row in range(COUNT):
        image = data.images[row][None] / 255
        assert torch.allclose(clean[row].double(), features(model, image)[0], atol=1e-5)
        assert torch.allclose(noisy[row].double(), features(model, (image + noise()[row]).clamp(0, 1))[0], atol=1e-5)
    assert not clean.requires_grad


def test_features_that_change_are_not_kept() -> None:
    assert fixed(frozen(), [FriendlyNoise(noise(), 1)]) is None
    assert fixed(frozen(), [RANDOM]) is None
    assert fixed(frozen(), [FriendlyNoise(noise()), RANDOM]) is None
    assert fixed(frozen(batch_norm="train")) is None
    assert fixed(network()) is None
    for kind in ("shift", "crop"):
        assert fixed(frozen(), augmentation=Augmentation(kind=kind)) is None


def counted(model: Classifier) -> list[int]:
    """Grows by the size of every batch that the extractor sees."""
    sizes: list[int] = []
    model.extract.register_forward_hook(lambda _, args, __: sizes.append(len(args[0])))
    return sizes


def test_the_extractor_sees_every_example_once() -> None:
    for defenses in ([], [FriendlyNoise(noise())]):
        model = frozen()
        sizes = counted(model)
        run(model, defenses=defenses)
        assert sum(sizes) == COUNT
    for defense in (RANDOM, FriendlyNoise(noise(), 1)):
        model = frozen()
        sizes = counted(model)
        run(model, defenses=[defense])
        assert sum(sizes) == 4 * COUNT


def test_random_noise_in_transfer_is_new_in_every_epoch() -> None:
    """With no step to speak of, the loss changes from epoch to epoch only through the noise."""
    losses = [record["train_loss"] for record in run(frozen(), recipe(lr=1e-12), defenses=[RANDOM])]
    still = [record["train_loss"] for record in run(frozen(), recipe(lr=1e-12), defenses=[FriendlyNoise(noise())])]
    assert len({round(loss, 6) for loss in losses}) == 4
    assert still == pytest.approx([still[0]] * 4, rel=1e-5)


# --- batch norm and weights -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augmentation", [STILL, Augmentation(pixels=1)])
@pytest.mark.parametrize("defenses", [[], [RANDOM], [FriendlyNoise(noise())]])
def test_the_extractor_stays_bit_for_bit(augmentation: Augmentation, defenses: list[Defense]) -> None:
    model = frozen()
    before = state(model)
    run(model, recipe(augmentation=augmentation, weight_decay=0.1), defenses=defenses)
    for name, value in state(model).items():
        assert torch.equal(value, before[name]) is name.startswith("extract."), name


def test_batch_norm_in_train_mode_follows_the_batches_but_weights_stay() -> None:
    model, data = frozen(batch_norm="train"), examples()
    before = state(model)
    run(model, recipe(epochs=1, milestones=()), data)
    after = state(model)
    statistics = {"extract.1.running_mean", "extract.1.running_var", "extract.1.num_batches_tracked"}
    for name, value in after.items():
        moved = name in statistics or name.startswith("head.")
        assert torch.equal(value, before[name]) is not moved, name
    # The running mean by hand.
    mean, std = (torch.tensor(values).double().view(1, -1, 1, 1) for values in (MEAN, STD))
    inputs = (data.images.double() / 255 - mean) / std
    conv = torch.conv2d(inputs, before["extract.0.weight"].double(), before["extract.0.bias"].double(), padding=1)
    running = before["extract.1.running_mean"].double()
    for batch in torch.split(torch.randperm(COUNT, generator=generator("cpu", 0, "order", 0)), 8):
        running = 0.9 * running + 0.1 * conv[batch].mean((0, 2, 3))
    assert torch.allclose(after["extract.1.running_mean"].double(), running, atol=1e-6)


def test_fine_tuning_trains_everything() -> None:
    model = network()
    before = state(model)
    run(model)
    assert not any(torch.equal(value, before[name]) for name, value in state(model).items())


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
@pytest.mark.parametrize("defenses", [[], [FriendlyNoise(noise(), 2), RANDOM], [DropsTwo()]])
def test_an_interrupted_transfer_ends_in_the_same_bits(
    tmp_path: Path, batch_norm: str, defenses: list[Defense]
) -> None:
    whole = frozen(batch_norm=batch_norm)
    history = run(whole, defenses=defenses)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", "f", interval=0)

    def stop(model: nn.Module, data: TrainingSet, costly: bool) -> dict[str, float]:
        seen.append(costly)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return {}

    seen: list[bool] = []
    with pytest.raises(KeyboardInterrupt):
        run(frozen(batch_norm=batch_norm), defenses=defenses, observe=stop, checkpoint=checkpoint)
    # Begun from another network: all that counts comes from the checkpoint.
    resumed = frozen(seed=9, batch_norm=batch_norm)
    again = run(resumed, defenses=defenses, checkpoint=checkpoint)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in state(resumed).items())
    assert [r["train_loss"] for r in again] == [r["train_loss"] for r in history]
    assert [name for name, p in resumed.named_parameters() if p.requires_grad] == ["head.weight", "head.bias"]


# --- how a victim begins ----------------------------------------------------------------------------------------------


def dataset(count: int = 24, classes: int = 3) -> ImageDataset:
    stream = torch.Generator().manual_seed(1)

    def split(size: int) -> tuple[Tensor, Tensor]:
        images = torch.randint(0, 256, (size, 2, 8, 8), generator=stream, dtype=torch.uint8)
        return images, torch.arange(size) % classes

    return ImageDataset(*split(count), *split(6), tuple("abcdef"[:classes]), (0.4, 0.5), (0.25, 0.2))


SMALL = SmallResNet(width=2)


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    path = tmp_path / "pretrained.safetensors"
    save_weights(path, build_network(SMALL, dataset(), seed=77), {})
    return path


def victim(pretrained: Path | None, seed: int = 0, **start: Any) -> Classifier:
    return build_victim(SMALL, Start(**start), dataset(), pretrained, seed=seed)


@pytest.mark.parametrize("scenario", ["transfer", "fine-tune"])
@pytest.mark.parametrize("head", ["fresh", "kept"])
def test_a_victim_begins_as_its_pretrained_network(pretrained: Path, scenario: str, head: str) -> None:
    model, original = victim(pretrained, scenario=scenario, head=head), build_network(SMALL, dataset(), seed=77)
    for name, value in model.extract.state_dict().items():
        assert torch.equal(value, original.extract.state_dict()[name])
    assert torch.equal(model.head.weight, original.head.weight) is (head == "kept")
    assert torch.equal(model.head.bias, original.head.bias) is (head == "kept")
    assert isinstance(model, FrozenFeatures) is (scenario == "transfer")
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trained == ({"head.weight", "head.bias"} if scenario == "transfer" else set(dict(model.named_parameters())))


def test_a_fresh_head_is_drawn_from_the_seed_as_a_new_layer_is(pretrained: Path) -> None:
    heads = {}
    for seed in (0, 1):
        torch.manual_seed(123 + seed)
        heads[seed] = victim(pretrained, seed, scenario="transfer").head.weight
    torch.manual_seed(5)
    assert torch.equal(heads[0], victim(pretrained, 0, scenario="transfer").head.weight)
    assert not torch.equal(heads[0], heads[1])
    # nn.Linear's own: uniform within 1 / sqrt(inputs).
    bound = heads[0].shape[1] ** -0.5
    assert 0.5 * bound < heads[0].abs().max() <= bound
    assert torch.equal(heads[0], victim(pretrained, 0, scenario="fine-tune").head.weight)


@pytest.mark.parametrize("batch_norm", ["eval", "train"])
def test_the_batch_norm_setting_reaches_the_victim(pretrained: Path, batch_norm: str) -> None:
    model = victim(pretrained, scenario="transfer", batch_norm=batch_norm)
    assert isinstance(model, FrozenFeatures)
    assert model.batch_norm == batch_norm


def test_from_scratch_ignores_pretrained_weights(pretrained: Path) -> None:
    fresh = build_network(SMALL, dataset(), seed=4).state_dict()
    for given_weights in (None, pretrained):
        model = victim(given_weights, 4)
        assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())
        assert all(p.requires_grad for p in model.parameters())


def test_what_a_victim_lacks_is_one_line(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="scenario transfer needs --pretrained") as caught:
        victim(None, scenario="transfer")
    assert "\n" not in str(caught.value)
    wider = build_network(SmallResNet(width=3), dataset(), seed=0)
    with pytest.raises(DataError, match="another architecture") as other:
        begin_from(wider, pretrained, Start(scenario="transfer"), seed=0)
    assert "\n" not in str(other.value)
    with pytest.raises(DataError) as missing:
        victim(tmp_path / "none.safetensors", scenario="fine-tune")
    assert "\n" not in str(missing.value)


# --- fine-tuning sets -------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 6))
@effort(max_examples=150, deadline=None)
def test_the_last_of_each_class_are_those_of_a_loop(labels: list[int], count: int) -> None:
    by_class = {label: [row for row, own in enumerate(labels) if own == label] for label in set(labels)}
    fewest = min(map(len, by_class.values()))
    if fewest < count:
        first = min(label for label, rows in by_class.items() if len(rows) == fewest)
        with pytest.raises(
            DataError, match=f"class {first} .* only {fewest} training images, fewer than {count}"
        ) as caught:
            last_of_each_class(torch.tensor(labels), count)
        assert "\n" not in str(caught.value)
        return
    expected = sorted(row for rows in by_class.values() for row in rows[-count:])
    assert last_of_each_class(torch.tensor(labels), count).tolist() == expected


@given(st.integers(1, 30), st.data())
@effort(max_examples=60, deadline=None)
def test_without_is_the_difference_of_sets(size: int, data: st.DataObject) -> None:
    rows = data.draw(st.lists(st.integers(0, size - 1)))
    kept = without(size, torch.tensor(rows, dtype=torch.int64))
    assert kept.tolist() == sorted(set(range(size)) - set(rows))
    assert kept.dtype == torch.int64


def test_fine_tuning_rows_are_all_or_the_last_of_each_class() -> None:
    assert fine_tuning_rows(dataset(), Start(scenario="transfer")) is None
    rows = fine_tuning_rows(dataset(), Start(scenario="transfer", fine_tune_per_class=2))
    assert rows is not None
    assert rows.tolist() == [18, 19, 20, 21, 22, 23]
    with pytest.raises(DataError, match="only 8 training images"):
        fine_tuning_rows(dataset(), Start(scenario="fine-tune", fine_tune_per_class=9))


def poisons(indices: Sequence[int], label: int = 1, dtype: torch.dtype = torch.uint8) -> PoisonSet:
    bases = torch.stack([dataset().train_images[max(0, row)] for row in indices])
    images = torch.arange(len(indices)).add(100).view(-1, 1, 1, 1).expand_as(bases).to(torch.uint8)
    return PoisonSet(
        torch.tensor(indices), images.clone() if dtype == torch.uint8 else images / 255,
        torch.full((len(indices),), label), bases,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_training_set_of_some_rows_numbers_them_anew(dtype: torch.dtype) -> None:
    data, rows = dataset(), torch.tensor([2, 5, 7, 9, 20])
    made = training_set(data, poisons([7, -1, 20, -1], label=2, dtype=dtype), rows)
    assert made.rows.tolist() == list(range(7))
    expected: list[Any] = [data.train_images[2], data.train_images[5], 100, data.train_images[9], 102, 101, 103]
    levels = made.images.float() * (1 if dtype == torch.uint8 else 255)
    for image, truth in zip(levels, expected, strict=True):
        wanted = truth if isinstance(truth, Tensor) else torch.full((2, 8, 8), truth)
        assert torch.allclose(image, wanted.float(), atol=1e-3)
    assert made.labels.tolist() == [2 % 3, 5 % 3, 2, 9 % 3, 2, 2, 2]
    clean = training_set(data, rows=rows)
    assert torch.equal(clean.images, data.train_images[rows])
    assert torch.equal(clean.labels, data.train_labels[rows])


def test_all_rows_are_the_whole_set_and_the_dataset_stays() -> None:
    data = dataset()
    some, whole = training_set(data, poisons([3, -1]), torch.arange(24)), training_set(data, poisons([3, -1]))
    assert torch.equal(some.images, whole.images)
    assert torch.equal(some.labels, whole.labels)
    assert torch.equal(some.rows, whole.rows)
    assert torch.equal(data.train_images, dataset().train_images)


def test_a_poison_for_a_row_that_is_not_taken_is_one_line() -> None:
    with pytest.raises(DataError, match="not trained on") as caught:
        training_set(dataset(), poisons([7, 8]), torch.tensor([7, 9]))
    assert "\n" not in str(caught.value)
    # Appended ones replace nothing.
    assert len(training_set(dataset(), poisons([-1]), torch.tensor([7, 9]))) == 3


# --- dropout ----------------------------------------------------------------------------------------------------------


BUILDERS: dict[str, Callable[..., Classifier]] = {
    "small-resnet": lambda **given: small_resnet.build(3, (2, 8, 8), width=2, **given),
    "resnet18": lambda **given: resnet18.build(3, (3, 8, 8), **given),
}


@pytest.mark.parametrize("name", list(BUILDERS))
def test_no_dropout_is_the_network_without_it(name: str) -> None:
    torch.manual_seed(0)
    plain = BUILDERS[name]()
    torch.manual_seed(0)
    zero = BUILDERS[name](dropout=0.0)
    assert list(plain.state_dict()) == list(zero.state_dict())
    assert all(torch.equal(value, zero.state_dict()[key]) for key, value in plain.state_dict().items())
    assert not any(isinstance(module, nn.Dropout) for module in zero.modules())


@pytest.mark.parametrize(("name", "blocks"), [("small-resnet", 3), ("resnet18", 8)])
def test_dropout_is_in_every_block_and_active_in_training_only(name: str, blocks: int) -> None:
    torch.manual_seed(0)
    plain = BUILDERS[name]()
    torch.manual_seed(0)
    model = BUILDERS[name](dropout=0.4)
    dropouts = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    assert [module.p for module in dropouts] == [0.4] * blocks
    x = torch.randn(4, 2 if name == "small-resnet" else 3, 8, 8)
    # The same weights in the same order; dropout neither draws nor holds any.
    values = list(zip(plain.state_dict().values(), model.state_dict().values(), strict=True))
    assert all(torch.equal(first, second) for first, second in values)
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), plain.eval()(x), atol=1e-6)
        model.train()
        assert not torch.allclose(model(x), model(x))
