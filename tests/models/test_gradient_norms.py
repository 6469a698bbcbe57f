"""Per-example gradient norms against one backward pass per image."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tiny import state
from torch import Tensor, nn

from poisonlab.models import gradient_norms, lenet, small_resnet
from poisonlab.models.gradient_norms import per_sample_gradient_norms


def examples(count: int, shape: tuple[int, int, int], classes: int = 10) -> tuple[Tensor, Tensor]:
    stream = torch.Generator().manual_seed(3)
    images = torch.randn(count, *shape, generator=stream, dtype=torch.float64)
    return images, torch.randint(classes, (count,), generator=stream)


def shaken(model: nn.Module) -> nn.Module:
    """In float64, with biases, batch norm weights and running statistics away from 0 and 1."""
    torch.manual_seed(1)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data = 0.5 + torch.rand_like(tensor)
    return model.double()


def one_at_a_time(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    weights = [p for p in model.parameters() if p.requires_grad]
    norms = []
    for image, label in zip(images, labels, strict=True):
        loss = F.cross_entropy(model(image[None]), label[None])
        gradients = torch.autograd.grad(loss, weights, allow_unused=True)
        norms.append(sum(float(g.square().sum()) for g in gradients if g is not None) ** 0.5)
    for module, training in modes:
        module.training = training
    return torch.tensor(norms)


def agree(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    ours = per_sample_gradient_norms(model, images, labels)
    assert ours.dtype == torch.float32
    expected = one_at_a_time(model, images, labels)
    assert ours.shape == expected.shape
    # Computed in float64, returned in float32.
    torch.testing.assert_close(ours, expected, rtol=2e-7, atol=0)


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> Tensor:
        raise AssertionError("the closed form does not cover this model")

    monkeypatch.setattr(gradient_norms, "_explicit", refuse)


@pytest.fixture
def fallbacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each fallback."""
    calls: list[int] = []
    explicit = gradient_norms._explicit

    def counted(model: nn.Module, images: Tensor, labels: Tensor, chunk: int) -> Tensor:
        calls.append(chunk)
        return explicit(model, images, labels, chunk)

    monkeypatch.setattr(gradient_norms, "_explicit", counted)
    return calls


# --- the closed form -------------------------------------------------------------------------------------------------


def test_float32_is_close_to_float64() -> None:
    model = shaken(small_resnet.build(10, (3, 16, 16), width=8))
    images, labels = examples(20, (3, 16, 16))
    exact = per_sample_gradient_norms(model, images, labels)
    torch.testing.assert_close(
        per_sample_gradient_norms(model.float(), images.float(), labels), exact, rtol=1e-4, atol=0
    )


CONVOLUTIONS = {
    "plain": {"kernel_size": 3},
    "one pixel": {"kernel_size": 1},
    "strided one pixel": {"kernel_size": 1, "stride": (2, 3)},
    "stride that leaves a rest": {"kernel_size": 3, "stride": 2, "padding": 1},
    "uneven": {"kernel_size": (2, 5), "stride": (3, 1), "padding": (0, 2), "dilation": (2, 1)},
    "dilated": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "grouped": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 6, "stride": 2, "bias": False},
    "everything": {"kernel_size": (3, 2), "groups": 3, "stride": (2, 1), "padding": (1, 2), "dilation": (1, 3)},
    "whole image": {"kernel_size": (9, 10)},
}


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("options", CONVOLUTIONS.values(), ids=CONVOLUTIONS.keys())
@pytest.mark.parametrize("temporary", [1, 1 << 28])
def test_convolutions(options: dict[str, int], temporary: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_norms, "_TEMPORARY_BYTES", temporary)
    torch.manual_seed(0)
    layer = nn.Conv2d(6, 12, **options)
    # The pooling has one output per channel, whose output gradient is an expanded tensor.
    model = nn.Sequential(layer, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 4)).double()
    agree(model, *examples(5, (6, 9, 10), 4))


@pytest.mark.parametrize(("places", "wide", "high"), [(2, 9, 7), (60, 3, 2), (1, 1, 1)])
def test_both_forms_of_the_norm_agree(places: int, wide: int, high: int) -> None:
    inputs, gradients = torch.randn(4, places, wide).double(), torch.randn(4, high, places).double()
    expected = torch.einsum("nld,nkl->nkd", inputs, gradients).square().sum((1, 2))
    torch.testing.assert_close(gradient_norms._summed_products(inputs, gradients), expected)


@pytest.mark.usefixtures("no_fallback")
def test_channels_last() -> None:
    model = shaken(small_resnet.build(10, (3, 9, 9), width=4)).to(memory_format=torch.channels_last)
    images, labels = examples(3, (3, 9, 9))
    agree(model, images.contiguous(memory_format=torch.channels_last), labels)


class Tokens(nn.Module):
    """Linear layers over patches: an output has several rows per example."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(3, 5), nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.embed(images.permute(0, 2, 3, 1)).relu_()
        return self.head(self.mix(tokens.flatten(1, 2)).tanh().mean(1))


@pytest.mark.usefixtures("no_fallback")
def test_linear_layers_over_positions() -> None:
    torch.manual_seed(0)
    agree(Tokens().double(), *examples(5, (3, 4, 3), 4))


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize("chunk", [1, 3, 7, 1000])
def test_chunks_do_not_matter(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gradient_norms, "images_at_once", lambda *_: chunk)
    model = shaken(small_resnet.build(10, (3, 9, 9), width=4))
    agree(model, *examples(7, (3, 9, 9)))


def test_no_examples() -> None:
    model = lenet.build(10, (3, 16, 16))
    assert per_sample_gradient_norms(model, torch.zeros(0, 3, 16, 16), torch.zeros(0, dtype=torch.int64)).shape == (0,)


# --- frozen parameters -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize(
    "trainable", ["head", "extract.0", "extract.1", "extract.3.conv1", "bias", "bn", "weight", "shortcut"]
)
def test_frozen_parameters_are_left_out(trainable: str) -> None:
    model = shaken(small_resnet.build(10, (3, 9, 9), width=4))
    everything = per_sample_gradient_norms(model, *examples(4, (3, 9, 9)))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable in name)
    agree(model, *examples(4, (3, 9, 9)))
    assert (per_sample_gradient_norms(model, *examples(4, (3, 9, 9))) < everything).all()


def test_frozen_model() -> None:
    model = lenet.build(10, (3, 16, 16)).double().requires_grad_(False)
    assert torch.equal(per_sample_gradient_norms(model, *examples(4, (3, 16, 16))), torch.zeros(4))


def test_nothing_below_the_lowest_trainable_layer_is_differentiated() -> None:
    model = shaken(small_resnet.build(10, (3, 9, 9), width=4))
    model.extract.requires_grad_(False)
    passed: list[bool] = []
    model.extract.register_forward_hook(lambda _module, _inputs, output: passed.append(output.requires_grad))
    agree(model, *examples(4, (3, 9, 9)))
    assert not any(passed)


# --- what the closed form does not cover -----------------------------------------------------------------------------


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.conv(self.conv(images).tanh()).flatten(1))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(48, 48), nn.Linear(48, 48), nn.Linear(48, 4)
        self.second.weight = self.first.weight

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.second(self.first(images.flatten(1)).tanh()))


class Folded(nn.Module):
    """Rows of the images become the batch, so that a layer sees several rows per example."""

    def __init__(self) -> None:
        super().__init__()
        self.row, self.head = nn.Linear(12, 5), nn.Linear(20, 4)

    def forward(self, images: Tensor) -> Tensor:
        rows = self.row(images.transpose(1, 2).flatten(2).flatten(0, 1)).tanh()
        return self.head(rows.reshape(len(images), -1))


class Borrowed(nn.Module):
    """Uses a layer's weight without calling the layer, and has another that is never used."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.idle = nn.Linear(48, 4), nn.Linear(2, 2)

    def forward(self, images: Tensor) -> Tensor:
        return F.linear(images.flatten(1), self.first.weight)


class Scaled(nn.Linear):
    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images.flatten(1)) * 3


class Named(nn.Module):
    """Calls its layer by keyword, which a forward hook does not see."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(48, 4)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(input=images.flatten(1))


OTHERS: dict[str, Callable[[], nn.Module]] = {
    "layer called twice": Twice,
    "tied weights": Tied,
    "batch folded": Folded,
    "weight used elsewhere": Borrowed,
    "subclass": lambda: Scaled(48, 4),
    "called by keyword": Named,
    "group norm": lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 4)),
    "reflection": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.Flatten(), nn.Linear(64, 4)
    ),
    "same": lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding="same"), nn.Flatten(), nn.Linear(64, 4)),
    "spectral norm": lambda: nn.Sequential(
        nn.Flatten(), nn.utils.parametrizations.spectral_norm(nn.Linear(48, 9)), nn.Linear(9, 4)
    ),
}


@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS.keys())
def test_other_models_fall_back(build: Callable[[], nn.Module], fallbacks: list[int]) -> None:
    torch.manual_seed(0)
    agree(build().double(), *examples(5, (3, 4, 4), 4))
    assert len(fallbacks) == 1


def test_the_fallback_bounds_its_memory(monkeypatch: pytest.MonkeyPatch, fallbacks: list[int]) -> None:
    monkeypatch.setattr(gradient_norms, "_TEMPORARY_BYTES", 1)
    monkeypatch.setattr(gradient_norms, "images_at_once", lambda *_: 2)
    agree(Twice().double(), *examples(5, (3, 4, 4), 4))
    assert fallbacks == [2]


# --- the model is left as it was -------------------------------------------------------------------------------------


def test_the_models_own_hooks_still_act() -> None:
    model = small_resnet.build(10, (3, 9, 9), width=4).double()
    model.head.register_forward_hook(lambda _module, _inputs, output: output * 2)
    agree(model, *examples(4, (3, 9, 9)))
    assert len(model.head._forward_hooks) == 1


@pytest.mark.parametrize("build", [lambda: small_resnet.build(10, (3, 4, 4), width=4), lambda: Twice()])
@pytest.mark.parametrize("spoil", ["nothing", "labels", "images"])
def test_the_model_is_left_as_it_was(build: Callable[[], nn.Module], spoil: str) -> None:
    """By the closed form and by the fallback, with and without an error."""
    model = build().double().train()
    next(iter(model.children())).eval()
    for number, parameter in enumerate(model.parameters()):
        parameter.grad = torch.full_like(parameter, 2.0) if number % 2 else None
    before = state(model)
    images, labels = examples(4, (3, 4, 4), 4)
    with torch.set_grad_enabled(spoil == "images"):
        if spoil == "nothing":
            assert not per_sample_gradient_norms(model, images.requires_grad_(), labels).requires_grad
            assert images.grad is None
        else:
            with pytest.raises((RuntimeError, IndexError)):
                per_sample_gradient_norms(model, images[:, :2] if spoil == "images" else images, labels + 10)
        assert torch.is_grad_enabled() is (spoil == "images")
    assert state(model) == before


def test_a_linear_layer_in_closed_form() -> None:
    """One linear layer: the norm is |softmax - onehot| |x, 1|."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 3)).double()
    model[1].weight.data, model[1].bias.data = torch.eye(3).double(), torch.zeros(3).double()
    images = torch.tensor([[4.0, 0.0, 0.0]]).double()[:, :, None, None].expand(3, 3, 1, 1)
    norms = per_sample_gradient_norms(model, images, torch.tensor([0, 1, 2]))
    p = torch.tensor([4.0, 0, 0]).double().softmax(0)
    lengths = [((p - F.one_hot(torch.tensor(label), 3)).norm() * 17**0.5).item() for label in range(3)]
    assert norms.tolist() == pytest.approx(lengths, rel=1e-6)
    assert all(a <= b for a, b in pairwise(norms.tolist()))


def test_inputs_that_are_not_images_and_not_contiguous() -> None:
    torch.manual_seed(2)
    agree(nn.Linear(4, 3).double(), torch.randn(4, 6).double().T, torch.randint(3, (6,)))
