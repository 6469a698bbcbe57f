"""Loss landscapes against loops over grid points in float64."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poisonlab.attacks.matching import Matcher, target_gradient
from poisonlab.config.figures import Landscape
from poisonlab.errors import SettingsError
from poisonlab.landscapes.around_poison import around_poison, most_effective
from poisonlab.landscapes.around_victims import around_victim
from poisonlab.landscapes.surfaces import (
    directions_through,
    filter_directions,
    grid,
    matching_loss_surface,
    random_directions,
    training_loss_surface,
    weight_loss_surface,
)
from poisonlab.randomness import generator


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.Tanh(), nn.Flatten(), nn.Linear(48, 3)]
    return nn.Sequential(*layers).double().eval()


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rms(x: Tensor) -> Tensor:
    return x.double().pow(2).flatten(1).mean(1).sqrt()


def test_random_directions_have_unit_length_per_image() -> None:
    first, second = random_directions((5, 3, 8, 8), torch.Generator().manual_seed(0))
    assert torch.allclose(rms(first), torch.ones(5).double(), atol=1e-6)
    assert torch.allclose(rms(second), torch.ones(5).double(), atol=1e-6)
    cosines = (first * second).flatten(1).mean(1)
    # Independent normal vectors of 192 values: standard deviation 1 / sqrt(192).
    assert cosines.abs().max() < 5 / 192**0.5
    assert not torch.allclose(first[0], first[1])


@pytest.mark.parametrize("size", [0.3, 16.0])
def test_directions_through_span_a_plane_with_the_perturbation(size: float) -> None:
    perturbation = (pictures(1, 4) - 0.5) * size
    first, second, (a, b) = directions_through(perturbation, torch.Generator().manual_seed(2))
    assert rms(first).item() == pytest.approx(1)
    assert rms(second).item() == pytest.approx(1)
    assert (first * second).mean().item() == pytest.approx(0, abs=1e-9)
    assert torch.allclose(a * first + b * second, perturbation, atol=1e-9)
    other, _, _ = directions_through(perturbation, torch.Generator().manual_seed(3))
    assert not torch.allclose(first, other)
    with pytest.raises(ValueError, match="zero"):
        directions_through(torch.zeros(1, 2, 6, 6), torch.Generator())


def test_grid() -> None:
    assert grid(12, 5).tolist() == [-12, -6, 0, 6, 12]


def in_parts(monkeypatch: pytest.MonkeyPatch, most: int | None) -> None:
    """At most so many images, or sets of weights, at once."""
    for limit in ("_images_at_once", "_networks_at_once") if most else ():
        monkeypatch.setattr(f"poisonlab.landscapes.surfaces.{limit}", lambda *_: most)


@pytest.mark.parametrize("chunk", [1, 10, 2048, None])
def test_training_loss_surface_is_the_loop(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, chunk)
    model, images, labels = network(), pictures(4), torch.tensor([0, 1, 2, 1])
    first, second = (d.double() for d in random_directions((4, 2, 6, 6), torch.Generator().manual_seed(1)))
    coordinates = torch.tensor([-40.0, -5.0, 0.0, 30.0])
    surface = training_loss_surface(model, images, labels, (first, second), coordinates)
    for row, b in enumerate(coordinates.tolist()):
        for column, a in enumerate(coordinates.tolist()):
            total = 0.0
            for place in range(4):
                moved = images[place] + (a * first[place] + b * second[place]) / 255
                total -= model(moved[None]).log_softmax(1)[0, labels[place]].item()
            assert surface[row, column].item() == pytest.approx(total / 4, abs=1e-9)
    assert surface[2, 2].item() == pytest.approx(F.cross_entropy(model(images), labels).item(), abs=1e-12)
    assert surface.shape == (4, 4)


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_every_filter_of_a_direction_is_as_long_as_the_weights() -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[1] = 0  # type: ignore[index]
    for direction in filter_directions(model, drawn(1)):
        # Biases and batch norm stay.
        assert sorted(direction) == ["0.weight", "4.weight"]
        for name, weight in model.named_parameters():
            for place in range(len(weight) if name in direction else 0):
                assert direction[name][place].norm().item() == pytest.approx(weight[place].norm().item(), abs=1e-12)
    first, second = filter_directions(model, drawn(1))
    assert not torch.allclose(first["4.weight"], second["4.weight"])


def test_networks_of_one_architecture_get_the_same_draw() -> None:
    one, other = network(), network()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(-3)
    for mine, theirs in zip(filter_directions(one, drawn(1)), filter_directions(other, drawn(1)), strict=True):
        assert all(torch.allclose(3 * mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize("chunk", [1, 10, 256, None])
def test_weight_loss_surface_is_the_loop(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, chunk)
    model, images, labels = network(), pictures(4), torch.tensor([0, 1, 2, 1])
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, second = filter_directions(model, drawn(1))
    coordinates = torch.tensor([-1.0, 0.0, 0.25, 0.5], dtype=torch.float64)
    surface = weight_loss_surface(model, images, labels, (first, second), coordinates)
    assert surface[1, 1].item() == pytest.approx(F.cross_entropy(model(images), labels).item(), abs=1e-12)
    for row, b in enumerate(coordinates.tolist()):
        for column, a in enumerate(coordinates.tolist()):
            moved = network()
            with torch.no_grad():
                for name, parameter in moved.named_parameters():
                    if name in first:
                        parameter += a * first[name] + b * second[name]
                expected = F.cross_entropy(moved(images), labels).item()
            assert surface[row, column].item() == pytest.approx(expected, abs=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("chunk", [1, 5, 64, None])
def test_matching_loss_surface_is_the_loop(chunk: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    in_parts(monkeypatch, chunk)
    model, image, label = network(), pictures(1), torch.tensor([1])
    model[0].bias.requires_grad_(False)
    weights = [p for p in model.parameters() if p.requires_grad]
    target = F.cross_entropy(model(pictures(1, 9)), torch.tensor([2]))
    goal = torch.autograd.grad(target, weights)
    first, second, _ = directions_through(pictures(1, 3) - 0.5, torch.Generator().manual_seed(1))
    coordinates = torch.tensor([-20.0, 0.0, 10.0])
    surface = matching_loss_surface(model, image, label, goal, (first, second), coordinates)
    flat = torch.cat([part.flatten() for part in goal])
    for row, b in enumerate(coordinates.tolist()):
        for column, a in enumerate(coordinates.tolist()):
            loss = F.cross_entropy(model(image + (a * first + b * second) / 255), label)
            ours = torch.cat([g.flatten() for g in torch.autograd.grad(loss, weights)])
            expected = 1 - F.cosine_similarity(ours, flat, dim=0).item()
            assert surface[row, column].item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [1.0, 400.0, 2400.0])
def test_the_matching_loss_of_an_image_that_the_network_is_sure_of(scale: float) -> None:
    """In float32 the loss of such an image has no gradient, or one without the part of its own label."""
    torch.manual_seed(0)
    double = nn.Sequential(nn.Flatten(), nn.Linear(72, 8), nn.Tanh(), nn.Linear(8, 3)).double().eval()
    with torch.no_grad():
        double[3].weight *= scale  # type: ignore[operator]
    image, target = pictures(1), pictures(1, 9)
    label, adversarial = double(image).argmax(1), double(target).argmin(1)
    weights = list(double.parameters())
    goal = torch.autograd.grad(F.cross_entropy(double(target), adversarial), weights)
    # The gradient of cross-entropy by the logits is the softmax less the label, here without the rounding of 1 - 1.
    logits = double(image)[0]
    slope = (logits - logits[label]).detach().exp()
    slope[label] = 0
    slope[label] = -slope.sum()
    ours = torch.cat([part.flatten() for part in torch.autograd.grad(logits @ (slope / slope.abs().max()), weights)])
    expected = 1 - F.cosine_similarity(ours, torch.cat([part.flatten() for part in goal]), dim=0).item()
    single = double.float()
    surface = matching_loss_surface(
        single, image.float(), label, tuple(part.float() for part in goal), (image, image), torch.zeros(1)
    )
    assert surface.item() == pytest.approx(expected, abs=1e-4)


def test_the_matching_loss_of_the_target_itself_is_zero() -> None:
    model, image, label = network(), pictures(1), torch.tensor([1])
    goal = torch.autograd.grad(F.cross_entropy(model(image), label), list(model.parameters()))
    directions = random_directions((1, 2, 6, 6), torch.Generator().manual_seed(1))
    surface = matching_loss_surface(model, image, label, goal, directions, torch.tensor([-9.0, 0.0, 9.0]))
    assert surface[1, 1].item() == pytest.approx(0, abs=1e-12)
    assert surface.flatten().argmin() == 4
    assert surface.min() > -1e-12
    assert surface.max() <= 2


@pytest.mark.parametrize("directions", ["plain", "filter-normalised"])
def test_draws_differ_and_the_first_is_that_of_a_single_draw(directions: str) -> None:
    images, labels, model = pictures(4).float(), torch.tensor([0, 1, 2, 1]), network().float()

    def around(draws: int) -> tuple[Tensor, Tensor]:
        told = {"points": 3, "radius": 9.0, "weight_radius": 0.5, "draws": draws, "directions": directions}
        landscape = Landscape.model_validate(told)
        return around_victim(model, images, labels, landscape, seed=3)

    (three, itself), (one, _) = around(3), around(1)
    assert three.shape == (3, 3, 3)
    assert torch.equal(three[:1], one)
    assert not torch.allclose(three[0], three[1], atol=1e-4)
    # The origin is no matter of directions.
    assert torch.allclose(three[:, 1, 1], F.cross_entropy(model(images), labels).expand(3), atol=1e-6)
    assert itself.item() == pytest.approx(three[0, 1, 1].item(), abs=1e-6)
    # Planes of images extend as far as ``radius`` says, those of weights as ``weight_radius`` does.
    stream, steps = generator("cpu", 3, "landscape"), torch.tensor([-1.0, 0.0, 1.0])
    if directions == "plain":
        drawn = random_directions(images.shape, stream)
        expected = training_loss_surface(model, images, labels, drawn, 9 * steps)
    else:
        expected = weight_loss_surface(model, images, labels, filter_directions(model, stream), 0.5 * steps)
    assert torch.equal(one[0], expected)


def test_what_is_around_a_poison_holds_base_and_poison() -> None:
    """The second of three poisons is the target itself, so that its gradient matches best."""
    model, images, labels = network().float(), pictures(3).float(), torch.tensor([0, 1, 2])
    goal = target_gradient(model, images[1:2], labels[1:2], "cross-entropy")
    assert most_effective(Matcher(model, goal), images, labels) == 1
    base, poison, label = pictures(1, seed=5).float(), images[1:2], labels[1:2]
    drawn = around_poison(model, base, poison, label, goal, Landscape(points=5, draws=2, radius=200), seed=3)
    losses = [F.cross_entropy(model(image), label).item() for image in (base, poison)]
    assert drawn["training_at"].tolist() == pytest.approx(losses, rel=1e-4)
    assert drawn["matching_at"][1].item() == pytest.approx(0, abs=1e-4)
    # The grid's middle is the base image, whatever the plane.
    assert drawn["training_loss"].shape == drawn["matching_loss"].shape == (2, 5, 5)
    assert drawn["training_loss"][:, 2, 2].tolist() == pytest.approx([losses[0]] * 2, rel=1e-4)
    # Both directions are at 45 degrees to the perturbation: its root mean square in levels is sqrt(2) times the place.
    change = 255 * (poison - base).square().mean().sqrt().item()
    assert drawn["poison"].tolist() == pytest.approx([change / 2**0.5] * 2, rel=1e-4)
    with pytest.raises(SettingsError, match=rf"radius: 2 levels .* raise it to {math.ceil(change / 2**0.5)} or more$"):
        around_poison(model, base, poison, label, goal, Landscape(radius=2), seed=3)
