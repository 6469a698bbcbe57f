"""Poisons of whole training sets against slow loops in float64, scipy, and changes worked out by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from scipy.fft import dct, idctn
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks import error_maximising, error_minimising, functional, low_frequency
from poisonlab.attacks.attacker import Attacker
from poisonlab.attacks.color import Palette, luv_to_rgb, rgb_to_luv
from poisonlab.attacks.functional import Displacement, cut_to_gamut, margins
from poisonlab.config.attacks.error_maximising import ErrorMaximising
from poisonlab.config.attacks.error_minimising import ErrorMinimising
from poisonlab.config.attacks.functional import Flow, Functional
from poisonlab.config.attacks.low_frequency import LowFrequency
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.augmentation import translate
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.randomness import generator

CLASSES, SIZE = 3, 6
RECIPE = Recipe(epochs=1, batch_size=10, lr=0.05, augmentation=Augmentation(kind="shift", pixels=1.5))
ROWS = range(12)


def dataset(count: int = 12, size: int = SIZE) -> ImageDataset:
    stream = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=stream, dtype=torch.uint8)
    images[0], images[1] = 0, 255  # at the edges of the range
    labels = torch.arange(count) % CLASSES
    return ImageDataset(images, labels, images[:3], labels[:3], ("a", "b", "c"), (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def inner(size: int = SIZE) -> ImageDataset:
    """The same images far from the ends of the range, where nothing is cut."""
    data = dataset(size=size)
    return replace(data, train_images=data.train_images.clamp(40, 215))


def network(seed: int, kind: torch.dtype = torch.float64, size: int = SIZE) -> Classifier:
    torch.manual_seed(seed)
    extract = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Softplus(), nn.Dropout(0.5), nn.Flatten())
    made = Classifier(extract, nn.Linear(4 * (size - 2) ** 2, CLASSES)).to(kind)
    made.extract.get_submodule("1").running_mean = torch.randn(4, dtype=kind) * 0.2
    return made


def attacker(*networks: Classifier, recipe: Recipe = RECIPE) -> Attacker:
    data = dataset()
    kind = networks[0].head.weight.dtype
    return Attacker(networks, Normalize(data.mean, data.std).to(kind), recipe, fresh=lambda seed: network(seed % 100))


def bound_of(delta: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Cut to the bound, and to valid pixels, entry by entry."""
    flat = [
        min(max(x + min(max(d, -eps / 255), eps / 255), 0.0), 1.0) - x
        for d, x in zip(delta.flatten().tolist(), clean.flatten().tolist(), strict=True)
    ]
    return torch.tensor(flat, dtype=torch.float64).view_as(delta)


# --- error-maximising -------------------------------------------------------------------------------------------------


def maximising(**changes: Any) -> ErrorMaximising:
    return ErrorMaximising(**{"name": "p", "surrogate": "s", "steps": 4, "batch_size": 5, **changes})


def slow_maximising(settings: ErrorMaximising, networks: list[Classifier], restart: int) -> tuple[Tensor, list[float]]:
    """(N, C, H, W) uint8 and the mean loss before each step: one image and one network after another, in float64."""
    data, made, losses = dataset(), [], [0.0] * settings.steps
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (data.mean, data.std))
    for row in ROWS:
        # A batch draws its random numbers at once, named by its first row.
        first, place = row // 5 * 5, row % 5
        size = min(5, 12 - first)
        clean = data.train_images[row].double() / 255
        own = int(data.train_labels[row])
        label = torch.tensor([(own + 1) % CLASSES if settings.aim == "next-class" else own])
        delta, momentum = torch.zeros_like(clean), torch.zeros_like(clean)
        if settings.starts == "gaussian":
            stream = generator("cpu", 7, "error-maximising", "start", restart, first)
            drawn = torch.randn(size, 3, SIZE, SIZE, generator=stream)[place].double()
            delta = bound_of(drawn * settings.eps / 255, clean, settings.eps)
        for step in range(settings.steps):
            moved = delta.clone().requires_grad_(True)
            inputs = (clean + moved - mean) / std
            if settings.augments:
                stream = generator("cpu", 7, "error-maximising", "augment", restart, first, step)
                offsets = (torch.rand(size, 2, generator=stream) * 2 - 1) * 1.5
                flips = torch.rand(size, generator=stream) < 0.5
                inputs = translate(inputs[None], offsets[place : place + 1], flips[place : place + 1])[0]
            logits = [network.eval()(inputs[None]) for network in networks]
            loss = sum(-F.log_softmax(each, 1)[0, label[0]] for each in logits) / len(networks)
            loss = loss if settings.aim == "next-class" else -loss
            losses[step] += loss.item() / 12
            (gradient,) = torch.autograd.grad(loss, [moved])
            momentum = settings.decay * momentum + gradient / sum(abs(g) for g in gradient.flatten().tolist())
            followed = momentum if (settings.algorithm, settings.momentum) == ("mi-fgsm", "textbook") else gradient
            delta = bound_of(delta - settings.step_length / 255 * followed.sign(), clean, settings.eps)
        made.append((data.train_images[row] + (delta * 255).round()).clamp(0, 255).to(torch.uint8))
    return torch.stack(made), losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"restarts": 3},
        {"aim": "away", "start": "zero", "step": 3},
        {"algorithm": "mi-fgsm", "decay": 0.7},
        {"algorithm": "mi-fgsm", "momentum": "as_run"},
        {"algorithm": "mi-fgsm", "start": "gaussian", "augment": True, "eps": 5.3},
    ],
)
def test_error_maximising_is_the_slow_loop(changes: dict[str, Any]) -> None:
    settings, networks = maximising(**changes), [network(1), network(2)]
    poisons = error_maximising.craft(dataset(), attacker(*networks), settings, seed=7)
    slow = [slow_maximising(settings, networks, restart) for restart in range(settings.restarts)]
    losses = torch.tensor([each[1] for each in slow], dtype=torch.float64)
    assert torch.allclose(poisons.diagnostics["losses"], losses, rtol=1e-9)
    best = int(losses[:, -1].argmin())
    assert torch.equal(poisons.images, slow[best][0])
    if settings.restarts > 1:
        assert not torch.equal(slow[0][0], slow[1][0])
    assert poisons.goal is None
    assert torch.equal(poisons.labels, dataset().train_labels)


def test_momentum_changes_the_steps() -> None:
    networks = [network(1)]
    crafted = [
        error_maximising.craft(
            dataset(), attacker(*networks), maximising(algorithm="mi-fgsm", momentum=kind, steps=10), seed=0
        ).images
        for kind in ("textbook", "as_run")
    ]
    assert not torch.equal(*crafted)


def test_ten_steps_of_pgd_do_not_travel_the_bound() -> None:
    """P10 stays within 4 levels of its start, a third of which lies on the bound."""
    data = dataset()
    poisons = error_maximising.craft(data, attacker(network(1)), maximising(steps=10, batch_size=12), seed=3)
    drawn = torch.randn(12, 3, SIZE, SIZE, generator=generator("cpu", 3, "error-maximising", "start", 0, 0))
    start = (drawn.double() * 8).clamp(-8, 8)
    assert float((start.abs() == 8).double().mean()) == pytest.approx(0.317, abs=0.05)
    change = poisons.images.double() - data.train_images.double()
    inside = (data.train_images >= 8) & (data.train_images <= 247)
    assert float((change - start)[inside].abs().max()) <= 4 + 0.5 + 1e-6


def test_defaults_follow_the_algorithm() -> None:
    pgd, momentum = maximising(steps=10), maximising(algorithm="mi-fgsm", steps=10)
    assert (pgd.step_length, pgd.starts, pgd.augments) == (0.4, "gaussian", True)
    assert (momentum.step_length, momentum.starts, momentum.augments) == (0.8, "zero", False)
    with pytest.raises(ValidationError, match="all the same"):
        maximising(algorithm="mi-fgsm", restarts=2)


def test_poisons_are_taken_for_the_next_class() -> None:
    model = network(3)
    poisons = error_maximising.craft(
        dataset(), attacker(model), maximising(steps=40, eps=60, step=3, augment=False), seed=0
    )
    losses = poisons.diagnostics["losses"][0]
    assert losses[-1] < 0.7 * losses[0]


def slopes(networks: list[Classifier], data: ImageDataset, losses: Callable[[Tensor], Tensor]) -> Tensor:
    """(N, C, H, W) float64: the gradient in the images of losses of logits (N, K), averaged over networks."""
    images = (data.train_images.double() / 255).requires_grad_(True)
    normalize = attacker(*networks).normalize
    total = sum(losses(each.eval()(normalize(images))).sum() for each in networks) / len(networks)
    (gradient,) = torch.autograd.grad(total, [images])
    return gradient


def agree_where_they_are_steep(change: Tensor, slope: Tensor) -> None:
    """Every pixel whose slope is more than a fiftieth of its image's steepest moved against it."""
    steep = slope.abs() > slope.abs().amax((1, 2, 3), keepdim=True) / 50
    assert float(steep.double().mean()) > 0.8
    assert torch.equal(change.sign()[steep], -slope.sign()[steep])


def test_error_maximising_in_bfloat16_descends_as_float64_does() -> None:
    data, exact = inner(), [network(1), network(2)]
    reduced = [network(1, torch.float32), network(2, torch.float32)]
    plain = {"start": "zero", "augment": False, "step": 3}
    aims = (data.train_labels + 1) % CLASSES
    slope = slopes(exact, data, lambda logits: F.cross_entropy(logits, aims, reduction="none"))
    one = error_maximising.craft(
        data, attacker(*reduced), maximising(**plain, steps=1, crafting_precision="bfloat16"), seed=7
    )
    agree_where_they_are_steep(one.images.double() - data.train_images.double(), slope)
    several = [
        error_maximising.craft(data, attacker(*networks), maximising(**plain, crafting_precision=kind), seed=7)
        for networks, kind in ((exact, "float32"), (reduced, "bfloat16"))
    ]
    in_float, in_bfloat = (each.diagnostics["losses"] for each in several)
    assert torch.allclose(in_bfloat, in_float, rtol=0.01)  # bfloat16 rounds to 2^-9, 0.2 %
    assert not torch.allclose(in_bfloat, in_float, rtol=1e-5)
    assert several[1].largest_change() == 8


# --- low frequency ----------------------------------------------------------------------------------------------------


def test_the_basis_is_scipys() -> None:
    for size in (1, 2, 5, 32):
        assert np.allclose(low_frequency.cosines(size), dct(np.eye(size), norm="ortho", axis=0), atol=1e-14)


@pytest.mark.parametrize("frequencies", [2, 4, 8])
def test_low_frequency_noise_is_an_inverse_transform(frequencies: int) -> None:
    settings = LowFrequency(name="lf", frequencies=frequencies)
    noise = low_frequency.class_noise(10, (3, 32, 32), settings, 5)
    stream = generator("cpu", 5, "low-frequency", "coefficients")
    plane = torch.zeros(10, 3, 32, 32, dtype=torch.float64)
    drawn = torch.randn(10, 3, frequencies, frequencies, generator=stream, dtype=torch.float64)
    plane[:, :, :frequencies, :frequencies] = drawn
    waves = idctn(plane.numpy(), axes=(2, 3), norm="ortho")
    for label in range(10):
        expected = np.round(8 * waves[label] / np.abs(waves[label]).max())
        assert np.array_equal(noise[label].numpy(), expected)
        assert int(noise[label].abs().max()) == 8


def test_each_channel_may_reach_the_bound() -> None:
    noise = low_frequency.class_noise(4, (3, 8, 12), LowFrequency(name="lf", scaling="channel", eps=5), 0)
    assert noise.shape == (4, 3, 8, 12)
    assert bool((noise.abs().amax((2, 3)) == 5).all())


# --- error-minimising -------------------------------------------------------------------------------------------------


def minimising(**changes: Any) -> ErrorMinimising:
    return ErrorMinimising(**{"name": "u", "surrogate": "s", "batch_size": 5, **changes})


def slow_descent(
    logits_of: Callable[[Tensor], Tensor], clean: Tensor, noise: Tensor, label: int, settings: ErrorMinimising
) -> Tensor:
    """The noise (C, H, W) of one image after its steps: each begins at a valid image, and may lead out of the range."""
    bound = settings.eps / 255
    for _ in range(settings.steps_each):
        poison = (clean + noise).detach().clamp(0, 1).requires_grad_(True)
        loss = -F.log_softmax(logits_of(poison[None]), 1)[0, label]
        (gradient,) = torch.autograd.grad(loss, [poison])
        moved = poison.detach() - settings.step / 255 * gradient.sign() - clean
        noise = torch.where(moved.abs() > bound, moved.sign() * bound, moved)
    return noise


@pytest.mark.parametrize("changes", [{}, {"steps": 3, "step": 4}])
def test_noise_descends_image_by_image(changes: dict[str, Any]) -> None:
    settings, model, data = minimising(**changes), network(4).eval(), dataset()
    clean = data.train_images.double() / 255
    noise = ((torch.rand(clean.shape, generator=torch.Generator().manual_seed(1)).double() * 2 - 1) * 8) / 255
    noise = (clean + noise).clamp(0, 1) - clean
    found = error_minimising.descend(model, clean, noise, data.train_labels, settings)
    for row in ROWS:
        expected = slow_descent(model, clean[row], noise[row], int(data.train_labels[row]), settings)
        assert torch.allclose(found[row], expected, atol=1e-12)


def test_the_noise_of_a_class_keeps_what_single_images_cannot_show() -> None:
    """Of black and grey images: cut in each image before the mean, noise that darkens would be halved."""
    clean = torch.cat([torch.zeros(5, 2, 6, 6), torch.full((5, 2, 6, 6), 0.5)]).double()
    shown = []

    def darkness(images: Tensor) -> Tensor:
        shown.append(images.detach())
        return torch.stack([-images.flatten(1).sum(1), images.flatten(1).sum(1)], 1)

    settings = minimising(noise="class-wise", subset=1.0, steps=3, step=2)
    found = error_minimising.descend(darkness, clean, torch.zeros_like(clean), torch.zeros(10).long(), settings)
    # Steps begin at a valid image: only the last one leads a black one out of the range.
    assert torch.allclose(found[:5], torch.tensor(-2 / 255).double())
    assert torch.allclose(found[5:], torch.tensor(-6 / 255).double())
    assert all(bool(((images >= 0) & (images <= 1)).all()) for images in shown)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_one_round_of_class_wise_noise_by_hand(smoothing: float) -> None:
    """A round with one batch of training, on the whole set in one batch: the class's noise is the mean of its
    images'."""
    given = {"noise": "class-wise", "subset": 1.0, "batches": 1, "batch_size": 12, "stop_error": 0.99}
    settings = minimising(**given, step=2.9, clip_norm=0.2)
    told = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "label_smoothing": smoothing}
    recipe = Recipe(epochs=1, batch_size=12, lr=0.05, **told)
    plain = attacker(network(1), recipe=recipe)
    made = {}

    def fresh(seed: int) -> Classifier:
        made["network"] = without_dropout(5)
        return made["network"]

    poisons = error_minimising.craft(dataset(), Attacker((), plain.normalize, recipe, fresh=fresh), settings, seed=1)
    data, model = dataset(), without_dropout(5)
    clean, normalize = data.train_images.double() / 255, plain.normalize
    wanted = F.one_hot(data.train_labels, CLASSES) * (1 - smoothing) + smoothing / CLASSES
    loss = -(wanted * F.log_softmax(model.train()(normalize(clean)), 1)).sum(1).mean()
    loss.backward()
    norm = math.sqrt(sum(float(weight.grad.square().sum()) for weight in model.parameters() if weight.grad is not None))
    assert norm > 0.4, "the gradient is not clipped"
    with torch.no_grad():
        for weight in model.parameters():
            assert weight.grad is not None
            weight -= 0.05 * weight.grad * 0.2 / (norm + 1e-6)
    model.eval()
    assert all(
        torch.allclose(mine, theirs, atol=1e-9)
        for mine, theirs in zip(model.state_dict().values(), made["network"].state_dict().values(), strict=True)
    )
    single = [
        slow_descent(lambda x: model(normalize(x)), clean[row], torch.zeros_like(clean[row]), row % CLASSES, settings)
        for row in ROWS
    ]
    for label in range(CLASSES):
        mean = torch.stack(single[label::CLASSES]).mean(0) * 255
        assert torch.equal(poisons.diagnostics["class_noise"][label], mean.round().to(torch.int16))
    errors = poisons.diagnostics["errors"]
    assert len(errors) == 1
    wrong = model(
        normalize(torch.stack([clean[r] + torch.stack(single[r % 3 :: 3]).mean(0) for r in ROWS]).clamp(0, 1))
    )
    assert float(errors[0]) == float((wrong.argmax(1) != data.train_labels).double().mean())
    # An error of exactly ``stop_error`` ends the rounds.
    met = settings.model_copy(update={"stop_error": float(errors[0])})
    again = error_minimising.craft(dataset(), Attacker((), plain.normalize, recipe, fresh=fresh), met, seed=1)
    assert torch.equal(again.diagnostics["errors"], errors)


def test_the_network_sees_all_images_and_a_part_of_them_makes_the_noise_of_classes() -> None:
    """Unlearnable Examples' perturbation.py: batches of the whole set train, ``train_subset`` makes and stops."""
    seen: dict[bool, list[Tensor]] = {True: [], False: []}
    said: list[Tensor] = []

    def fresh(seed: int) -> Classifier:
        made = network(1)
        made.register_forward_pre_hook(lambda model, inputs: seen[model.training].append(inputs[0].detach()))
        made.register_forward_hook(lambda model, inputs, logits: said.append(logits.argmax(1)))
        return made

    recipe = Recipe(epochs=1, batch_size=12, lr=0.05)
    normalize = attacker(network(1)).normalize
    settings = minimising(noise="class-wise", subset=0.5, batches=1, batch_size=12, stop_error=0.99)
    poisons = error_minimising.craft(dataset(), Attacker((), normalize, recipe, fresh=fresh), settings, seed=1)
    clean = normalize(dataset().train_images.double() / 255)
    (trained,), (moved, judged) = ([rows_of(clean, images) for images in seen[mode]] for mode in (True, False))
    assert sorted(trained) == list(ROWS)
    assert [sum(row % CLASSES == label for row in moved) for label in range(CLASSES)] == [2, 2, 2]
    assert sorted(judged) == sorted(moved)
    wrong = said[-1] != torch.tensor(judged) % CLASSES
    assert poisons.diagnostics["errors"].tolist() == [int(wrong.sum()) / 6]


def rows_of(clean: Tensor, images: Tensor) -> list[int]:
    """The row of ``clean`` that each image is nearest to."""
    return [int((clean - image).flatten(1).norm(dim=1).argmin()) for image in images]


def test_the_network_is_trained_on_shuffled_epochs_and_each_round_moves_noise_in_another_order() -> None:
    """Of twelve images two batches of five are an epoch, wherever the rounds of three batches begin."""
    trained: list[list[int]] = []
    moved: list[list[int]] = []
    seeds: list[int] = []
    normalize, rounds = attacker(network(1)).normalize, 4
    clean = normalize(dataset().train_images.double() / 255)

    def watch(model: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (trained if model.training else moved).append(rows_of(clean, inputs[0]))
        seeds.extend([torch.initial_seed()] * model.training)

    def fresh(seed: int) -> Classifier:
        made = network(1)
        made.register_forward_pre_hook(watch)
        return made

    settings = minimising(noise="class-wise", subset=1.0, batches=3, rounds=rounds, stop_error=0, steps=1)
    recipe = Recipe(epochs=1, batch_size=5, lr=1e-6)
    with pytest.raises(PoisonlabError, match="after 4 rounds"):
        error_minimising.craft(dataset(), Attacker((), normalize, recipe, fresh=fresh), settings, seed=1)
    epochs = [first + second for first, second in zip(trained[::2], trained[1::2], strict=True)]
    assert len(epochs) == len({tuple(epoch) for epoch in epochs}) == rounds * 3 // 2
    assert all(len(set(epoch)) == 10 for epoch in epochs)
    assert len(set(seeds)) == rounds * 3, "dropout draws anew in each step"
    # Three batches move, then three are judged.
    orders = [[*moved[at], *moved[at + 1], *moved[at + 2]] for at in range(0, len(moved), 6)]
    assert len(orders) == len({tuple(order) for order in orders}) == rounds
    assert all(sorted(order) == list(ROWS) for order in orders)


def without_dropout(seed: int) -> Classifier:
    model = network(seed)
    model.extract.get_submodule("3").p = 0.0  # type: ignore[assignment]
    return model


@pytest.mark.parametrize("noise", ["sample-wise", "class-wise"])
def test_the_error_of_the_network_trained_along_falls(noise: str) -> None:
    """On pure noise with random labels, which no network of this size learns by heart so soon."""
    data = dataset(120)
    settings = minimising(noise=noise, eps=30, step=3, batch_size=60, subset=0.5, stop_error=0.01)
    poisons = error_minimising.craft(data, attacker(network(1), recipe=RECIPE), settings, seed=2)
    errors = poisons.diagnostics["errors"]
    assert float(errors[-1]) <= 0.01
    assert bool((errors[:-1] > 0.01).all())
    assert poisons.largest_change() <= 30
    if noise == "sample-wise":
        changes = (poisons.images.int() - data.train_images.int())[2:]
        assert len({tuple(change.flatten().tolist()) for change in changes}) == len(changes)
    else:
        added = data.train_images.int() + poisons.diagnostics["class_noise"][data.train_labels]
        assert torch.equal(poisons.images.int(), added.clamp(0, 255))


@pytest.mark.parametrize("noise", ["sample-wise", "class-wise"])
def test_the_released_loader_drops_what_darkens(noise: str) -> None:
    common = {"noise": noise, "eps": 30, "step": 3, "stop_error": 0.5}
    signed, dropped = (
        error_minimising.craft(dataset(60), attacker(network(1)), minimising(**common, application=application), seed=2)
        for application in ("signed", "drop_negative")
    )
    change = signed.images.int() - signed.base_images.int()
    assert int(change.min()) < 0
    assert torch.equal(dropped.images.int() - dropped.base_images.int(), change.clamp(min=0))


# --- functional -------------------------------------------------------------------------------------------------------


def changing(**changes: Any) -> Functional:
    return Functional(
        **{"name": "fc", "surrogate": "s", "steps": 3, "batch_size": 5, "color": {"grid": [4, 5, 6]}, **changes}
    )


def crafted(**changes: Any) -> PoisonSet:
    return functional.craft(dataset(), attacker(network(1), network(2)), changing(**changes), seed=0)


def test_margins_by_hand() -> None:
    logits = torch.tensor([[1.0, 4.0, 2.0], [7.0, 3.0, 5.0], [-3.0, -1.0, -2.0]])
    assert margins(logits, torch.tensor([2, 0, 0])).tolist() == [-2.0, 2.0, -2.0]


def hats(places: Tensor, size: int) -> Tensor:
    """(..., size): linear interpolation's weights of the points 0, 1, ...; on a point its slope is that to the next."""
    low, points = places.detach().floor()[..., None], torch.arange(size)
    share = places[..., None] - low
    return (points == low) * (1 - share) + (points == low + 1) * share


def slow_colours(clean: Tensor, grid: Tensor) -> Tensor:
    """An image (3, H, W) whose colours (L, u, v) moved by a grid (3, v, u, L), point by point."""
    luv = rgb_to_luv(clean[None])[0]
    weights = [hats(luv[axis].clamp(0, 1) * (size - 1), size) for axis, size in enumerate(reversed(grid.shape[1:]))]
    moved = torch.einsum("hwl,hwu,hwv,cvul->chw", *weights, grid)
    return luv_to_rgb((luv + moved)[None])[0]


def slow_flow(image: Tensor, flow: Tensor) -> Tensor:
    """An image (3, H, W) whose pixels are fetched from places nearby; a side of the image is 2 long."""
    size = image.shape[-1]
    columns = hats(torch.arange(size) + flow[0] * size / 2, size)
    rows = hats(torch.arange(size)[:, None] + flow[1] * size / 2, size)
    return torch.einsum("hwi,hwj,cij->chw", rows, columns, image)


def lengths(displacements: Tensor) -> Tensor:
    """Of the differences (C, ...) between neighbours, from either side, added up."""
    points = list(itertools.product(*map(range, displacements.shape[1:])))
    pairs = [(a, b) for a, b in itertools.permutations(range(len(points)), 2) if math.dist(points[a], points[b]) == 1]
    first, second = torch.tensor(pairs).T
    flat = displacements.flatten(1)
    return ((flat[:, first] - flat[:, second]).square().sum(0) + 1e-10).sqrt().sum()


def slow_functional(
    settings: Functional, networks: list[Classifier], clean: Tensor, label: int
) -> tuple[Tensor, list[float]]:
    """One image (3, H, W) after its steps, and the objective before each, with Adam written out."""
    normalize, size = attacker(*networks).normalize, clean.shape[-1]
    shapes = {"color": (3, *reversed(settings.color.grid)), "flow": (2, size, size), "additive": (3, size, size)}
    own = {name: torch.zeros(shapes[name], dtype=torch.float64) for name in settings.changes}
    first, second = ({name: torch.zeros_like(each) for name, each in own.items()} for _ in range(2))
    bounds = {"color": settings.color.bound, "flow": settings.flow.bound, "additive": settings.eps / 255}
    centre = (2 * torch.arange(size, dtype=torch.float64) + 1) / size - 1

    def project() -> None:
        if "color" in own and settings.color.gamut:
            cut_to_gamut(own["color"][None])
        if "flow" in own:  # no pixel is fetched from outside
            edges = torch.stack([centre.expand(size, size), centre[:, None].expand(size, size)])
            own["flow"] = torch.minimum(torch.maximum(own["flow"], -1 - edges), 1 - edges)
        for name, each in own.items():
            own[name] = each.clamp(-bounds[name], bounds[name])

    def changed(own: dict[str, Tensor]) -> Tensor:
        image = slow_colours(clean, own["color"]) if "color" in own else clean
        image = slow_flow(image, own["flow"]) if "flow" in own else image
        if "additive" not in own:
            return image
        # As released, the noise is made valid before each step, and the image has a gradient at its ends.
        valid = (image + own["additive"]).clamp(0, 1) - image
        own["additive"].data.copy_(valid.detach())
        return image + own["additive"]

    objectives = []
    project()
    for step in range(1, settings.steps + 1):
        moved = {name: each.clone().requires_grad_(True) for name, each in own.items()}
        logits = [each.eval()(normalize(changed(moved)[None]))[0] for each in networks]
        others = [[z[j] for j in range(CLASSES) if j != label] for z in logits]
        loss = sum(z[label] - max(rest) for z, rest in zip(logits, others, strict=True)) / len(networks)
        for name, weight in (("color", settings.color.smoothness), ("flow", settings.flow.smoothness)):
            loss = loss + (weight * lengths(moved[name]) if name in moved else 0)
        objectives.append(loss.item())
        for name, gradient in zip(own, torch.autograd.grad(loss, list(moved.values())), strict=True):
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            root = (second[name] / (1 - 0.999**step)).sqrt() + 1e-8
            own[name] = moved[name].detach() - settings.lr * first[name] / (1 - 0.9**step) / root
        project()
    return (changed(own).clamp(0, 1) * 255).round().to(torch.uint8), objectives


@pytest.mark.parametrize(
    "changes", [["additive"], ["color"], ["flow"], ["color", "flow"], ["color", "flow", "additive"]], ids="-".join
)
def test_functional_poisons_are_adam_on_margin_and_smoothness(changes: list[str]) -> None:
    """Image by image. Pixels of images of 4 x 4 have exact places, so that both sides interpolate alike."""
    data = dataset(size=4) if changes == ["additive"] else inner(size=4)
    networks = [network(1, size=4), network(2, size=4)]
    settings = changing(
        changes=changes,
        lr=0.02,  # so that bounds are reached
        steps=5,
        color={"grid": [2, 3, 4], "smoothness": 0.07, "gamut": changes != ["color", "flow"]},
        flow={"smoothness": 0.03},
    )
    poisons = functional.craft(data, attacker(*networks), settings, seed=0)
    slow = [
        slow_functional(settings, networks, data.train_images[row].double() / 255, int(data.train_labels[row]))
        for row in ROWS
    ]
    mean = torch.tensor([each[1] for each in slow], dtype=torch.float64).mean(0)
    # Pixels are scaled to [0, 1] in float32.
    assert torch.allclose(poisons.diagnostics["losses"][0], mean, rtol=0, atol=2e-8)
    assert torch.equal(poisons.images, torch.stack([image for image, _ in slow]))


def test_functional_poisons_in_bfloat16_descend_as_float64_does() -> None:
    data, exact = inner(), [network(1), network(2)]
    reduced = [network(1, torch.float32), network(2, torch.float32)]
    slope = slopes(exact, data, lambda logits: margins(logits, data.train_labels))
    # Adam's first step is lr against the sign.
    noise = changing(changes=["additive"], steps=1, lr=0.01, crafting_precision="bfloat16")
    one = functional.craft(data, attacker(*reduced), noise, seed=0)
    agree_where_they_are_steep(one.images.double() - data.train_images.double(), slope)
    several = [
        functional.craft(data, attacker(*networks), changing(lr=0.01, steps=6, crafting_precision=kind), seed=0)
        for networks, kind in ((exact, "float32"), (reduced, "bfloat16"))
    ]
    in_float, in_bfloat = (each.diagnostics["losses"] for each in several)
    assert torch.allclose(in_bfloat, in_float, rtol=0, atol=0.02)
    assert not torch.allclose(in_bfloat, in_float, rtol=1e-5)
    additive = functional.craft(
        data, attacker(*reduced), changing(changes=["additive"], lr=0.05, crafting_precision="bfloat16"), seed=0
    )
    assert additive.largest_change() == 8


def test_noise_comes_back_from_the_ends_of_the_range() -> None:
    """White pixels that the first step would brighten can still be darkened by the next one."""
    data, networks = dataset(), [network(1)]
    settings = changing(changes=["additive"], lr=0.01)
    batch = functional._Batch(data.train_images, data.train_labels, networks, attacker(*networks), settings)
    assert batch.delta is not None
    with torch.no_grad():
        batch.delta.fill_(8 / 255)
    white = data.train_images == 255
    batch._changed().sum().backward()
    assert batch.delta.grad is not None
    assert bool((batch.delta.grad == 1).all())
    assert float(batch.delta.detach()[white].abs().max()) == 0


def test_a_displacement_of_a_pixel_moves_the_image_by_one() -> None:
    images = torch.rand(2, 3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    moving = Displacement(Flow(bound=1.0), images)
    assert torch.allclose(moving(images), images, atol=1e-12)
    with torch.no_grad():
        moving.flow[:, 0] = 2 / 8  # one of eight pixels to the right
    assert torch.allclose(moving(images)[..., :-1], images[..., 1:], atol=1e-12)
    assert float(moving(images)[..., -1].detach().abs().max()) < 1e-12  # black lies outside
    with torch.no_grad():
        moving.flow[:, 0], moving.flow[:, 1] = 0, -1 / 5  # half a pixel up
    middle = (images[..., 1:, :] + images[..., :-1, :]) / 2
    assert torch.allclose(moving(images)[..., 1:, :], middle, atol=1e-12)


def test_displacements_are_cut_at_the_bound_and_at_the_edge() -> None:
    images = torch.zeros(1, 3, 4, 4, dtype=torch.float64)
    moving = Displacement(Flow(bound=0.3), images)
    with torch.no_grad():
        moving.flow[:] = 1.0
    moving.project()
    centres = [-0.75, -0.25, 0.25, 0.75]
    expected = [min(0.3, 1 - centre) for centre in centres]
    assert torch.allclose(moving.flow[0, 0, 2].detach(), torch.tensor(expected, dtype=torch.float64))
    assert torch.allclose(moving.flow[0, 1, :, 1].detach(), torch.tensor(expected, dtype=torch.float64))


def test_the_roughness_of_a_flow_by_hand() -> None:
    moving = Displacement(Flow(), torch.zeros(1, 3, 2, 2, dtype=torch.float64))
    with torch.no_grad():
        moving.flow[0, :, 0, 1] = torch.tensor([3.0, 4.0])
    # The corner differs by 5 from its two neighbours; the other two pairs agree.
    assert moving.roughness().item() == pytest.approx(2 * 5 + 2 * 1e-5)


def test_each_change_keeps_its_bound() -> None:
    data = dataset()
    networks = [network(1), network(2)]
    settings = changing(steps=30, lr=0.05)
    batch = functional._Batch(data.train_images, data.train_labels, networks, attacker(*networks), settings)
    losses = [float(batch.step(number)) for number in range(30)]
    assert batch.palette is not None
    assert batch.displacement is not None
    assert batch.delta is not None
    assert float(batch.palette.grid.detach().abs().max()) == pytest.approx(0.06)
    assert batch.palette.grid.shape == (12, 3, 6, 5, 4)
    assert float(batch.displacement.flow.detach().abs().max()) == pytest.approx(0.05)
    assert float(batch.delta.detach().abs().max()) == pytest.approx(8 / 255)
    assert losses[-1] < losses[0]


def test_the_order_of_changes_is_colour_flow_noise() -> None:
    data, networks = dataset(), [network(1)]
    batch = functional._Batch(data.train_images, data.train_labels, networks, attacker(*networks), changing())
    with torch.no_grad():
        for name, parameter in batch._parameters().items():
            parameter.copy_(torch.rand(parameter.shape, generator=torch.Generator().manual_seed(len(name))) * 0.05)
    assert batch.palette is not None
    assert batch.displacement is not None
    assert batch.delta is not None
    expected = (batch.displacement(batch.palette(batch.clean)) + batch.delta).clamp(0, 1)
    assert torch.allclose(batch._changed(), expected, rtol=0, atol=1e-12)
    assert torch.equal(batch.images(), (expected.detach() * 255).round().to(torch.uint8))


def test_the_grid_is_cut_to_the_colours_of_srgb() -> None:
    grid = (torch.rand(2, 3, 5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 0.2
    before = grid.clone()
    cut_to_gamut(grid)
    kept = 0
    for image, v, u, lightness in itertools.product(range(2), range(5), range(4), range(3)):
        point = torch.tensor([lightness / 2, u / 3, v / 4], dtype=torch.float64)
        luv = (point + before[image, :, v, u, lightness]).clamp(0, 1)
        colour = luv_to_rgb(luv.view(1, 3, 1, 1))
        arrived = (point + grid[image, :, v, u, lightness]).view(1, 3, 1, 1)
        assert torch.allclose(arrived, rgb_to_luv(colour), atol=1e-12)
        if float(colour.min()) > 0.01 and float(colour.max()) < 0.99:  # inside, where nothing is cut
            assert torch.allclose(arrived.flatten(), luv, atol=1e-3)
            kept += 1
    assert kept > 5


def test_colours_close_to_black_do_not_become_bright() -> None:
    """A slightly darker black of another tint is a bright colour, unless the grid is cut to what sRGB has."""
    dark = torch.tensor([[0, 1, 5], [0, 1, 1], [0, 0, 12], [1, 1, 12]], dtype=torch.float64).T[None, :, None] / 255
    palette = Palette(Functional(name="fc", surrogate="s").color, 1, torch.device("cpu"))
    palette.grid = palette.grid.detach().double()
    palette.grid[:, 0], palette.grid[:, 1] = -0.003, -0.03
    assert float((palette(dark) - dark).abs().max()) * 255 > 100
    cut_to_gamut(palette.grid)
    palette.project()
    assert float((palette(dark) - dark).abs().max()) * 255 < 40


def test_changes_of_colour_move_equal_pixels_alike() -> None:
    poisons = crafted(changes=["color"], lr=0.05, steps=5)
    # Black and white have one colour each.
    for row in (0, 1):
        assert bool((poisons.images[row] == poisons.images[row][:, :1, :1]).all())
    assert poisons.largest_change() > 0


def test_changes_out_of_order_are_refused() -> None:
    for changes in (["flow", "color"], ["color", "color"], []):
        with pytest.raises(ValidationError):
            changing(changes=changes)
    assert changing(changes=["additive"]).bound == 8
    assert changing(changes=["color", "additive"]).bound is None
