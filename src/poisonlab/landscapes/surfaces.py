"""Loss landscapes around poisons: the numbers behind figures 2 and 3 of FRIENDS.

A landscape is a loss over the plane  base + a * d1 + b * d2  of one or many images, or of a network's weights.
Directions of images have a root mean square of one pixel level (1/255), so that the coordinates a and b are in levels.
Directions of weights have the filters' own norms, so that a and b are relative. The computation is in float32, or in
float64 if the network is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.func import grad as functional_grad

from poisonlab.attacks.matching import Gradients
from poisonlab.data.image_range import floats
from poisonlab.models.chunks import images_at_once, in_chunks


def random_directions(shape: Sequence[int], generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two random directions of ``shape`` (P, C, H, W): normal, scaled to root mean square 1 per image."""
    first = torch.randn(*shape, generator=generator)
    second = torch.randn(*shape, generator=generator)
    return _unit(first), _unit(second)


def directions_through(perturbation: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, tuple[float, float]]:
    """Two random directions whose plane contains ``perturbation`` (1, C, H, W), given in levels.

    A random vector, orthogonal to the perturbation and of the same length, is added to it and subtracted from it. The
    resulting directions are orthogonal to each other and at 45 degrees to the perturbation.

    Returns:
        Both directions, and the perturbation's coordinates in levels.

    Raises:
        ValueError: the perturbation is zero.
    """
    length = perturbation.square().mean().sqrt()
    if length == 0:
        raise ValueError("the perturbation is zero: there is no plane through it")
    random = torch.randn(perturbation.shape, generator=generator).to(perturbation)
    across = random - (random * perturbation).sum() / perturbation.square().sum() * perturbation
    across = across * (length / across.square().mean().sqrt())
    place = float(length) / 2**0.5
    return _unit(perturbation + across), _unit(perturbation - across), (place, place)


def _unit(direction: Tensor) -> Tensor:
    return direction / direction.square().flatten(1).mean(1).sqrt().view(-1, 1, 1, 1)


def filter_directions(model: nn.Module, generator: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Two random directions of the weights, every filter with the norm of the model's (Li et al. 2018, section 4).

    A filter is one output channel of a convolution or one row of a linear layer. Biases and the parameters of norms do
    not move. The draw depends only on the shapes, so networks of one architecture get the same random numbers.

    Returns:
        Both directions, by the names of the moved parameters.
    """
    weights = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.ndim > 1}
    first, second = (
        {
            name: _as_long(torch.randn(weight.shape, generator=generator).to(weight), weight)
            for name, weight in weights.items()
        }
        for _ in range(2)
    )
    return first, second


def _as_long(direction: Tensor, weight: Tensor) -> Tensor:
    """The direction scaled to the length of ``weight``, filter by filter."""
    long, drawn = (filters.flatten(1).square().sum(1).sqrt() for filters in (weight, direction))
    return direction * (long / drawn).view(-1, *[1] * (weight.ndim - 1))


def grid(radius: float, points: int) -> Tensor:
    """``points`` coordinates from -radius to radius."""
    return torch.linspace(-radius, radius, points)


@torch.no_grad()
def training_loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directions: tuple[Tensor, Tensor],
    coordinates: Tensor,
) -> Tensor:
    """Mean cross-entropy of the images over the plane.

    Args:
        model: [0, 1] pixels to logits, in eval mode.
        images: (P, C, H, W) uint8 or float in [0, 1], the plane's origin.
        labels: (P,) int64.
        directions: two of (P, C, H, W), in levels.
        coordinates: (G,) in levels.

    Returns:
        (G, G) on the CPU; axis 0 is the second direction, axis 1 the first.
    """
    images = floats(images)
    places = _places(coordinates)

    def losses(part: slice) -> Tensor:
        moved = _move(images, directions, places[part])
        logits = model(moved.flatten(0, 1))
        each = F.cross_entropy(logits, labels.repeat(len(moved)), reduction="none")
        return each.view(len(moved), len(images)).mean(1).cpu()

    return _surface(losses, coordinates, max(1, _images_at_once(images) // len(images)))


@torch.no_grad()
def weight_loss_surface(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    directions: tuple[Mapping[str, Tensor], Mapping[str, Tensor]],
    coordinates: Tensor,
) -> Tensor:
    """Mean cross-entropy of the images over a plane of weights.

    Args:
        model: [0, 1] pixels to logits, in eval mode; its weights are the plane's origin.
        images: (P, C, H, W) uint8 or float in [0, 1].
        labels: (P,) int64.
        directions: two, by parameter name.
        coordinates: (G,) multiples of the directions.

    Returns:
        (G, G) on the CPU; axis 0 is the second direction, axis 1 the first.
    """
    images = floats(images)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters() if name in directions[0]}

    def loss(place: Tensor) -> Tensor:
        first, second = directions
        moved = {name: w + place[1] * first[name] + place[0] * second[name] for name, w in weights.items()}
        return F.cross_entropy(functional_call(model, moved, (images,)), labels)

    together = max(1, min(_images_at_once(images) // len(images), _networks_at_once(model, images.device)))
    places = _places(coordinates).to(images)
    return _surface(lambda part: vmap(loss)(places[part]).cpu(), coordinates, together)


def matching_loss_surface(
    model: nn.Module,
    image: Tensor,
    label: Tensor,
    goal: Gradients,
    directions: tuple[Tensor, Tensor],
    coordinates: Tensor,
) -> Tensor:
    """1 - cos(grad L(x_t, y_adv), grad L(x_i + delta, y_i)) of one image over the plane (FRIENDS, figure 2a).

    Args:
        model: [0, 1] pixels to logits, in eval mode.
        image: (1, C, H, W) uint8 or float in [0, 1], the plane's origin.
        label: (1,) int64.
        goal: the target's gradient, in the order of the trainable parameters.
        directions: two of (1, C, H, W), in levels.
        coordinates: (G,) in levels.

    Returns:
        (G, G) on the CPU; axis 0 is the second direction, axis 1 the first.
    """
    image = floats(image, "the image")
    weights = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
    buffers = dict(model.named_buffers())

    def odds(weights: dict[str, Tensor], moved: Tensor) -> Tensor:
        # The gradient of cross-entropy is a positive multiple of this gradient, which does not vanish with the loss.
        logits: Tensor = functional_call(model, {**weights, **buffers}, (moved,))[0]
        return logits.index_fill(0, label, -torch.inf).logsumexp(0) - logits[label].sum()

    gradients_of = vmap(functional_grad(odds), in_dims=(None, 0))
    goal_length = torch.stack([part.square().sum() for part in goal]).sum().sqrt()
    places = _places(coordinates)

    def losses(part: slice) -> Tensor:
        moved = _move(image, directions, places[part])
        gradients = [gradient.flatten(1) for gradient in gradients_of(weights, moved).values()]
        product = torch.stack([g @ t.flatten() for g, t in zip(gradients, goal, strict=True)]).sum(0)
        length = torch.stack([g.square().sum(1) for g in gradients]).sum(0).sqrt()
        return (1 - product / (length * goal_length)).cpu()

    return _surface(losses, coordinates, _networks_at_once(model, image.device))


def _surface(losses: Callable[[slice], Tensor], coordinates: Tensor, at_once: int) -> Tensor:
    """(G, G): the results of ``losses`` for slices of the G * G places."""
    count = len(coordinates)
    return torch.cat(list(in_chunks(losses, count**2, at_once, "points of a landscape"))).view(count, count)


def _images_at_once(images: Tensor) -> int:
    """Images per pass, from benchmarks/landscapes.py: more exceed a CPU's cache, fewer leave a GPU idle."""
    return images_at_once(images, 2048 if images.device.type == "cuda" else 128)


def _networks_at_once(model: nn.Module, device: torch.device) -> int:
    """The number of sets of weights or gradients held at once: vmap is faster for small networks, slower for large."""
    values = sum(parameter.numel() for parameter in model.parameters())
    return max(1, min(64, (2**28 if device.type == "cuda" else 2**23) // values))


def _places(coordinates: Tensor) -> Tensor:
    """(G * G, 2) pairs (b, a), row by row."""
    return torch.cartesian_prod(coordinates, coordinates)


def _move(images: Tensor, directions: tuple[Tensor, Tensor], places: Tensor) -> Tensor:
    """The images at each place: (places, P, C, H, W)."""
    first, second = (direction.to(images) / 255 for direction in directions)
    b, a = (places.to(images)[:, axis].view(-1, 1, 1, 1, 1) for axis in (0, 1))
    return images + a * first + b * second
