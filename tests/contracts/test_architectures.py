"""What every architecture promises, in each of the forms that its settings offer."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from deterministic import Watched
from registry import architecture_settings, architectures, case_of, or_refusal
from tiny import state
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from poisonlab.data.dataset import ImageDataset
from poisonlab.models.classifier import Classifier
from poisonlab.models.gradient_norms import per_sample_gradient_norms
from poisonlab.models.networks import build_network

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Case:
    """An architecture.

    Attributes:
        parameters: of the network with default settings, for ten classes of 3 x 32 x 32 images, counted by hand.
        forms: settings beside the default ones under which it must work, too.
        smallest: side of the smallest images that it is tested with.
        needed: settings without a default, in every form.
    """

    parameters: int
    forms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    smallest: int = 8
    needed: Mapping[str, Any] = field(default_factory=dict)


GROUP, DROPOUT = {"norm": "group"}, {"dropout": 0.25}
CASES: dict[str, Case] = {
    # Convolutions 1792, 110784, 663936, 884992, 590080; linear layers 4198400, 16781312, 40970.
    "alexnet": Case(23_272_266, smallest=16),
    # Convolutions 4864, 102464; linear layers 1573248, 73920, 1930.
    "alexnet-lrn": Case(1_756_426),
    # Stem 1728; blocks 335040, 919680, 2837760, 2158080 with transitions 33280, 132096, 526336; norm 2048, head 10250.
    "densenet121": Case(6_956_298),
    # Stem 1856; stages 169824, 1053504, 19312368, 13673472; head 25610.
    "dpn92": Case(34_236_634),
    # Convolutions 288, 6912, 9216, 36864, 147456, 294912, 589824; norms 128, 512, 1024; head 2570.
    "fast-cifar": Case(
        1_089_706,
        {"group": GROUP, "whitened": {"whiten": True, "stem_stride": 1}, "narrow": {"widths": (8, 4, 16)}},
    ),
    # Stem 5760; blocks 589648, 2936640, 2623952; head 10250.
    "googlenet": Case(6_166_250),
    # 450 + 6, 2400 + 16, 48000 + 120, 10080 + 84, 840 + 10.
    "lenet": Case(62_006, smallest=16),
    # Stem 928; pairs 2528, 9152, 18048, 34688, 68864, 134912, five of 268800, 531968, 1061888; head 10250.
    "mobilenet-v1": Case(3_217_226),
    # Stem 928; stages 2528, 14400, 39696, 183872, 309504, 795264, 525760; last 412160, head 12810.
    "mobilenet-v2": Case(2_296_922),
    # The usual ResNet-18 for CIFAR-10.
    "resnet18": Case(11_173_962, {"group": GROUP, "dropout": DROPOUT}),
    # The usual ResNet-50 for CIFAR-10.
    "resnet50": Case(23_520_842, {"group": GROUP, "dropout": DROPOUT}),
    # Stem 320; stages 413184, 1743872, 6961152; head 10250.
    "resnext29": Case(9_128_778),
    # Stem 1856; stages 149128, 529552, 2115872, 8458816; head 5130.
    "senet18": Case(11_260_354),
    # Stem 464, blocks 4672, 14528 and 57728, head 650.
    "small-resnet": Case(
        78_042, {"group": GROUP, "dropout": DROPOUT, "narrow": {"width": 4, "stem_stride": 1}, "wide": {"width": 40}}
    ),
    # Of its test_resnet: stem 7472, blocks 18560, 36384, 42432, 267840, head 970.
    "timm": Case(
        373_658,
        {
            "another": {"model": "test_efficientnet", "options": {}},
            "dropout": {"options": {"drop_rate": 0.25, "zero_init_last": False}},
        },
        # By default a block's last norm begins at 0, and its convolutions do not learn in the first step.
        needed={"model": "test_resnet", "options": {"zero_init_last": False}},
    ),
    # Of its smallest ShuffleNet: stem 696, stages 6936, 45552, 89952, last convolution 198656, head 10250.
    "torchvision": Case(352_042, needed={"model": "shufflenet_v2_x0_5"}),
    # Convolutions 20018880 and 5504 biases, norms 11008, head 5130.
    "vgg19": Case(20_040_522),
}
NAMES = architectures()
FORMS = [(name, form) for name in NAMES for form in ("default", *(CASES[name].forms if name in CASES else ()))]
every_form = pytest.mark.parametrize(("name", "form"), FORMS)
# In eval mode there is no dropout, as test_eval_mode_... proves.
every_form_in_eval_mode = pytest.mark.parametrize(("name", "form"), [each for each in FORMS if each[1] != "dropout"])
every_architecture = pytest.mark.parametrize("name", NAMES)


def case(name: str) -> Case:
    return case_of(name, CASES, "CASES of tests/contracts/test_architectures.py")


def dataset(shape: Shape, classes: int) -> ImageDataset:
    images, labels = torch.zeros(classes, *shape, dtype=torch.uint8), torch.arange(classes)
    names = tuple(map(str, range(classes)))
    return ImageDataset(images, labels, images, labels, names, (0.5,) * shape[0], (0.25,) * shape[0])


def built(name: str, form: str = "default", shape: Shape | None = None, classes: int = 5, seed: int = 0) -> Classifier:
    """The network for small images, in eval mode."""
    options = {} if form == "default" else case(name).forms[form]
    settings = architecture_settings(name).model_validate({"name": name, **case(name).needed, **options})
    chosen = shape or (3, case(name).smallest, case(name).smallest)
    return build_network(settings, dataset(chosen, classes), seed=seed).eval()  # type: ignore[arg-type]


@cache
def _shared(name: str, form: str) -> Classifier:
    return built(name, form)


def shared(name: str, form: str, device: torch.device) -> Classifier:
    """A copy of the network for small images."""
    return copy.deepcopy(_shared(name, form)).to(device)


def images_for(name: str, count: int = 4, device: torch.device | str = "cpu", side: int | None = None) -> Tensor:
    side = side or case(name).smallest
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1)).to(device)


def near(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether they differ by less than this share of the values' spread."""
    return float((found - expected).float().norm()) < tolerance * float(expected.float().norm())


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@every_architecture
def test_its_settings_say_whether_batch_norm_stays(name: str) -> None:
    settings = architecture_settings(name)
    if {"norm", "model"} & set(settings.model_fields):  # a choice, or a network of another library
        assert not settings.batch_normed
    else:
        assert settings.batch_normed == any(isinstance(module, _BatchNorm) for module in built(name).modules())


@every_architecture
def test_its_parameters_are_those_counted_by_hand(name: str) -> None:
    assert size(built(name, shape=(3, 32, 32), classes=10)) == case(name).parameters


@every_architecture
@pytest.mark.parametrize(("shape", "classes"), [((1, 28, 28), 7), ((3, 48, 48), 2), ((4, 17, 23), 3)])
def test_other_shapes_and_numbers_of_classes(name: str, shape: Shape, classes: int) -> None:
    logits = built(name, shape=shape, classes=classes)(torch.randn(2, *shape))
    assert logits.shape == (2, classes)
    assert bool(torch.isfinite(logits).all())


@every_architecture
@pytest.mark.parametrize("shape", [(3, 15, 32), (3, 32, 15), (1, 8, 8), (3, 1, 1)])
def test_images_that_are_too_small_are_one_line(name: str, shape: Shape) -> None:
    model = or_refusal(lambda: built(name, shape=shape))
    if isinstance(model, str):
        assert name in model
        assert f"{shape[1]} x {shape[2]}" in model
    else:
        assert model(torch.zeros(2, *shape)).shape == (2, 5)


@every_architecture
def test_the_seed_fixes_every_weight(name: str) -> None:
    torch.manual_seed(5)
    first = built(name, seed=1).state_dict()
    torch.manual_seed(6)
    again, other = (built(name, seed=seed).state_dict() for seed in (1, 2))
    assert all(torch.equal(first[key], again[key]) for key in first)
    # But for what is taken from the images.
    drawn = [key for key, weight in built(name).named_parameters() if weight.ndim > 1]
    assert drawn
    assert not any(torch.equal(first[key], other[key]) for key in drawn)


@every_form_in_eval_mode
def test_logits_are_the_head_s_of_the_features(name: str, form: str, device: torch.device) -> None:
    model, images = shared(name, form, device), images_for(name, device=device)
    with torch.no_grad():
        features, logits = model.extract(images), model(images)
        assert features.shape == (4, model.head.in_features)
        torch.testing.assert_close(logits, model.head(features))
        by_hand = features.double() @ model.head.weight.double().T + model.head.bias.double()
        assert near(logits, by_hand, 1e-4)


@every_form
def test_eval_mode_repeats_itself_and_keeps_examples_apart(name: str, form: str, device: torch.device) -> None:
    model, images = shared(name, form, device), images_for(name, device=device)
    before = state(model)
    with torch.no_grad():
        logits = model(images)
        assert torch.equal(logits, model(images))
        assert near(model(images[:1]), logits[:1], 1e-4)
    assert state(model) == before


@every_form_in_eval_mode
def test_mixed_precision_and_memory_layout_change_little(name: str, form: str, device: torch.device) -> None:
    model, images = shared(name, form, device), images_for(name, device=device)
    with torch.no_grad():
        logits = model(images)
        with torch.autocast(device.type, torch.bfloat16):
            half = model(images)
        model.to(memory_format=torch.channels_last)
        other = model(images.contiguous(memory_format=torch.channels_last))
    assert half.dtype == torch.bfloat16
    assert near(half, logits, 0.05)
    assert near(other, logits, 1e-4)


@every_form
def test_every_parameter_learns(name: str, form: str, device: torch.device) -> None:
    """In training mode a gradient reaches each, and the input; so the loss of a batch can be brought down."""
    model, images = shared(name, form, device).train(), images_for(name, 8, device).requires_grad_(True)
    labels = torch.arange(8, device=device) % 5
    with Watched() as watched:
        F.cross_entropy(model(images), labels).backward()  # type: ignore[no-untyped-call]
    assert watched.found == set(), "on a GPU bits do not repeat"
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert bool(torch.isfinite(parameter.grad).all()), key
        assert bool(parameter.grad.any()), key
    assert images.grad is not None
    assert bool(images.grad.flatten(1).any(1).all())


@every_form_in_eval_mode
def test_the_norm_of_each_example_s_gradient(name: str, form: str, device: torch.device) -> None:
    """Against one backward pass per image, in float64, with normalisation that is not the initial one."""
    # At 16 x 16: torch cannot do group norm's in float64 where the last feature maps are single pixels.
    model = built(name, form, (3, 16, 16)).to(device).double()
    torch.manual_seed(1)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data = 0.5 + torch.rand(tensor.shape, dtype=torch.float64).to(device)
    images, labels = images_for(name, 2, device, side=16).double(), torch.arange(2, device=device)
    slow = []
    for image, label in zip(images, labels, strict=True):
        gradients = torch.autograd.grad(F.cross_entropy(model(image[None]), label[None]), list(model.parameters()))
        slow.append(sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5)
    before = state(model)
    ours = per_sample_gradient_norms(model, images, labels)
    assert state(model) == before
    torch.testing.assert_close(ours.cpu(), torch.tensor(slow), rtol=1e-6, atol=0)
