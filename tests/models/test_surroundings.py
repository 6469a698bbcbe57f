"""What a user has set for all of torch, and the network as it was handed over, outlast a call and do not hinder it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poisonlab import (
    ImageDataset,
    PoisonlabError,
    build_defenses,
    build_network,
    build_normalize,
    craft,
    deep_knn,
    friendly_noise,
    train,
    training_set,
    wrap,
)
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.detection.neural_cleanse import NeuralCleanse
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.detection.neural_cleanse import repair, reverse_trigger
from poisonlab.filters.activation_clustering import activation_clustering
from poisonlab.filters.epic import epic
from poisonlab.landscapes.layer_distances import by_layer
from poisonlab.models.classifier import Classifier
from poisonlab.models.outputs import accuracy, outputs_of

BYTES = torch.randint(0, 256, (30, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(30) % 3
DATA = ImageDataset(BYTES[:21], LABELS[:21], BYTES[21:], LABELS[21:], ("a", "b", "c"), (0.5,) * 3, (0.3,) * 3)
NORMALIZE = build_normalize(DATA)
RECIPE = Recipe(epochs=1, batch_size=7)
STEPS = FriendlyNoise(steps=2, lr=10)
SMALL = SmallResNet(width=4, stem_stride=1)
KEYS: dict[str, Any] = {"budget": 0.1, "steps": 1, "target": "random"}
ROUNDS: dict[str, Any] = {"batches": 2, "rounds": 1, "steps": 1, "stop_error": 0.99}


def network() -> Classifier:
    with torch.random.fork_rng([]):
        torch.manual_seed(1)
        parts = nn.Sequential(nn.Flatten(), nn.Dropout(), nn.Linear(192, 5), nn.ReLU())
        return Classifier(parts, nn.Linear(5, 3))


def trained() -> Tensor:
    model = network()
    train(model, NORMALIZE, training_set(DATA), RECIPE, seed=0)
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def repaired() -> Tensor:
    trigger = reverse_trigger(network(), NORMALIZE, BYTES, 0, NeuralCleanse(epochs=1), seed=0)
    return repair(network(), NORMALIZE, BYTES, LABELS.int(), [trigger], seed=0, epochs=1).head.weight  # type: ignore[return-value]


CALLS: dict[str, Callable[[], Tensor]] = {
    "friendly_noise": lambda: friendly_noise(network(), BYTES[:4], STEPS),
    "train": trained,
    "build_network": lambda: build_network(SMALL, DATA, seed=0).head.weight,
    "gradient-matching": lambda: craft("gradient-matching", DATA, network(), restarts=1, **KEYS).images,
    "bullseye-polytope": lambda: craft("bullseye-polytope", DATA, network(), dropout=True, **KEYS).images,
    "error-minimising": lambda: (
        craft("error-minimising", DATA, fresh=lambda _: network(), recipe=RECIPE, **ROUNDS).images
    ),
    "reverse_trigger": lambda: reverse_trigger(network(), NORMALIZE, BYTES, 0, NeuralCleanse(epochs=1), seed=0).mask,
    "repair": repaired,
}


@pytest.mark.parametrize("name", CALLS)
def test_gradients_that_are_switched_off_do_not_hinder(name: str) -> None:
    usual = CALLS[name]()
    with torch.no_grad():
        assert torch.equal(CALLS[name](), usual)
        assert not torch.is_grad_enabled()


def test_nor_does_inference_mode() -> None:
    model, usual = network(), friendly_noise(network(), BYTES[:4], STEPS)
    with torch.inference_mode():
        assert torch.equal(friendly_noise(model, BYTES[:4].clone(), STEPS), usual)
        assert torch.equal(friendly_noise(model, BYTES[:4] / 255, STEPS), usual)
        assert torch.is_inference_mode_enabled()


@pytest.mark.parametrize("name", CALLS)
def test_random_numbers_of_torch_go_on_as_they_were(name: str) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    CALLS[name]()
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("training", [True, False])
def test_a_network_that_is_looked_at_keeps_its_mode(training: bool) -> None:
    model = network().train(training)
    accuracy(model, NORMALIZE, BYTES, LABELS)
    outputs_of(model, NORMALIZE, BYTES)
    by_layer(model, NORMALIZE, BYTES, lambda _, output: output.norm(dim=1))
    assert all(module.training == training for module in model.modules())


class InPlace(nn.Module):
    """Normalises its input in place, as transforms of torchvision can."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sub_(0.5).div_(0.25)


class Apart(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x - 0.5) / 0.25


@pytest.mark.parametrize("convention", ["paper", "released"])
def test_a_first_layer_that_works_in_place_neither_changes_images_nor_noise(convention: Any) -> None:
    settings = FriendlyNoise(convention=convention, steps=3, lr=10)
    for images in (BYTES[:4], BYTES[:4] / 255):
        kept = images.clone()
        noise = friendly_noise(nn.Sequential(InPlace(), network()), images, settings)
        assert torch.equal(images, kept)
        assert torch.equal(noise, friendly_noise(nn.Sequential(Apart(), network()), images, settings))


class Masked(nn.Module):
    """Adds a mask of attention, infinite where nothing is to be seen."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        self.head = nn.Linear(192, 3)

    def forward(self, x: Tensor) -> Tensor:
        shares = self.mask.softmax(0)
        logits: Tensor = self.head(x.flatten(1)) * shares[0]
        return logits


def test_a_mask_that_was_infinite_from_the_start_is_no_divergence() -> None:
    assert len(train(Masked(), NORMALIZE, training_set(DATA), RECIPE, seed=0).history) == 1


def _tf32(backend: Any, value: str) -> Callable[[], None]:
    return lambda: setattr(backend, "fp32_precision", value)


@pytest.fixture
def precisions() -> Iterator[Callable[[], list[str]]]:
    mkldnn: Any = torch.backends.mkldnn
    places: list[Any] = [torch.backends, torch.backends.cuda.matmul, mkldnn.matmul]

    def now() -> list[str]:
        return [place.fp32_precision for place in places]

    before = now()
    yield now
    for place, value in zip(places, before, strict=True):
        place.fp32_precision = value


@pytest.mark.parametrize("choice", ["all", "cuda", "mkldnn", "old"])
def test_neighbours_are_exact_however_products_may_be_rounded(choice: str, precisions: Callable[[], list[str]]) -> None:
    features = torch.rand(12, 5, generator=torch.Generator().manual_seed(0))
    usual = deep_knn(features, torch.arange(12) % 2, k=3).keep
    if choice == "all":
        torch.backends.fp32_precision = "tf32"  # type: ignore[attr-defined]
    elif choice == "cuda":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    elif choice == "mkldnn":
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # type: ignore[attr-defined]
    else:
        torch.backends.cuda.matmul.allow_tf32 = True
    chosen = precisions()
    assert torch.equal(deep_knn(features, torch.arange(12) % 2, k=3).keep, usual)
    assert precisions() == chosen


def test_another_default_type_and_half_features_change_no_filter() -> None:
    features, labels = torch.rand(24, 6, generator=torch.Generator().manual_seed(0)), torch.arange(24) % 2
    usual = epic(features, labels, fraction=0.2).keep
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(epic(features, labels, fraction=0.2).keep, usual)
        assert torch.equal(epic(features, labels, fraction=0.2, cache=0).keep, usual)
    finally:
        torch.set_default_dtype(torch.float32)
    half = features.half()
    for reduce in ("pca", "ica"):
        halves = activation_clustering(half, labels, reduce=reduce).keep
        assert torch.equal(halves, activation_clustering(half.float(), labels, reduce=reduce).keep)


def test_a_compiled_network_is_wrapped_as_the_one_within() -> None:
    plain = nn.Sequential(nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 3))
    inputs = NORMALIZE(BYTES / 255)
    assert torch.equal(wrap(torch.compile(plain))(inputs), plain(inputs))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "call",
    [
        lambda model: friendly_noise(model, BYTES[:4], STEPS),
        lambda model: train(model, NORMALIZE, training_set(DATA), RECIPE, seed=0),
        lambda model: craft("gradient-matching", DATA, model, restarts=1, **KEYS),
    ],
    ids=["friendly_noise", "train", "craft"],
)
def test_weights_of_another_type_are_told_of(call: Callable[[nn.Module], object], kind: torch.dtype) -> None:
    with pytest.raises(PoisonlabError, match=r"weights are b?float\d+, but images are float32: pass network.float"):
        call(network().to(kind))


def test_a_network_that_widens_its_input_by_itself_may_have_such_weights() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network().double()

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.network(x.double())
            return logits

    assert friendly_noise(Wide(), BYTES[:4], STEPS).dtype == torch.float32


@pytest.mark.parametrize(
    ("noise", "words"),
    [
        (torch.full((21, 3, 8, 8), 16.0), "divide levels by 255"),
        (torch.zeros(21, 3, 8, 8, dtype=torch.int8), "noise must be float"),
        (torch.zeros(21, 1, 8, 8), "fit|shape"),
        (torch.zeros(5, 3, 8, 8), "fit|shape"),
        ("noise.safetensors", r"noise is a str: give a tensor, for example load_noise\(file\)\.values"),
    ],
)
def test_noise_of_another_unit_or_shape_is_refused(noise: Any, words: str) -> None:
    defenses = build_defenses([{"method": "friendly-noise", "def_epoch": 0}], noise=noise)
    with pytest.raises(PoisonlabError, match=words):
        train(network(), NORMALIZE, training_set(DATA), RECIPE, seed=0, defenses=defenses)
    with pytest.raises(PoisonlabError, match=words):
        craft("gradient-matching", DATA, network(), restarts=1, friendly_noise=noise, **KEYS)


ROWS = torch.arange(21)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (DATA.train_labels.int(), r"labels of a training set are torch.int32: give torch.as_tensor\(labels\).long"),
        (DATA.train_labels.numpy(), "labels of a training set are a ndarray"),
        (DATA.train_labels + 1, "a label of the training set is 3, but the network gives 3 logits, for labels 0 to 2"),
    ],
)
def test_labels_of_another_kind_are_refused(labels: Any, words: str) -> None:
    with pytest.raises(PoisonlabError, match=words):
        train(network(), NORMALIZE, TrainingSet(DATA.train_images, labels, ROWS), RECIPE, seed=0)


def test_a_recipe_is_no_dict() -> None:
    for call in (
        lambda recipe: train(network(), NORMALIZE, training_set(DATA), recipe, seed=0),
        lambda recipe: craft("gradient-matching", DATA, network(), recipe=recipe, **KEYS),
    ):
        with pytest.raises(PoisonlabError, match=r"recipe is a dict: pass Recipe\(...\) of poisonlab.config.recipe"):
            call({"epochs": 1})


def test_a_lazy_network_is_left_as_it_was() -> None:
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(3))
    with pytest.raises(ValueError, match="ninitialized"):
        friendly_noise(lazy, BYTES[:4], STEPS)
    assert lazy.training
    assert all(weight.requires_grad for weight in lazy.parameters())


@pytest.mark.parametrize(
    "methods", [("dp-sgd", "strong-augmentation"), ("abl", "early-stopping"), ("dp-sgd", "dp-sgd")]
)
def test_defenses_that_a_study_may_not_join_are_refused(methods: tuple[str, ...]) -> None:
    with pytest.raises(PoisonlabError, match="these defenses cannot share a training"):
        build_defenses([{"method": method} for method in methods], noise=None)


def test_dropout_without_a_layer_of_it_is_refused() -> None:
    plain = Classifier(nn.Sequential(nn.Flatten(), nn.Dropout(0), nn.Linear(192, 5)), nn.Linear(5, 3))
    with pytest.raises(PoisonlabError, match="dropout is true, but no surrogate has a dropout layer"):
        craft("bullseye-polytope", DATA, plain, dropout=True, **KEYS)
