"""The larger architectures: what the image is at each stage, where dropout acts, and parts against torchvision's."""

from __future__ import annotations

import math

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.mobilenetv2 import InvertedResidual

from poisonlab import modules
from poisonlab.config.defenses.dp_sgd import DpSgd
from poisonlab.config.recipe import Recipe
from poisonlab.data.training_set import TrainingSet
from poisonlab.defenses import dp_sgd
from poisonlab.models import dpn92, googlenet, mobilenet_v2, senet18
from poisonlab.models.alexnet_lrn import ResponseNorm
from poisonlab.models.blocks import blocks_of
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.training.adam import optimizer_of
from poisonlab.training.defense import Defense
from poisonlab.training.loop import train


def built(name: str, **options: float) -> Classifier:
    torch.manual_seed(0)
    network: Classifier = modules.load("models", name).build(10, (3, 32, 32), **options)
    return network.eval()


def unrolled(module: nn.Module) -> list[nn.Module]:
    """The parts of a sequence, and of sequences in it."""
    if not isinstance(module, nn.Sequential):
        return [module]
    return [part for child in module for part in unrolled(child)]


def stages(parts: list[nn.Module], image: Tensor) -> list[tuple[int, int]]:
    """Channels and side of the last map of each side."""
    found: list[tuple[int, int]] = []
    with torch.no_grad():
        for part in parts:
            image = part(image)
            if image.ndim < 4 or image.shape[-1] == 1:
                break
            now = image.shape[1], image.shape[-1]
            found[-1 if found and found[-1][1] == now[1] else len(found) :] = [now]
    return found


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("alexnet-lrn", [(64, 32), (64, 16), (64, 8)]),
        ("densenet121", [(128, 32), (256, 16), (512, 8), (1024, 4)]),
        ("dpn92", [(256 + 4 * 16, 32), (512 + 5 * 32, 16), (1024 + 21 * 24, 8), (2048 + 4 * 128, 4)]),
        ("googlenet", [(480, 32), (832, 16), (1024, 8)]),
        ("mobilenet-v1", [(64, 32), (128, 16), (256, 8), (512, 4), (1024, 2)]),
        ("mobilenet-v2", [(24, 32), (32, 16), (96, 8), (1280, 4)]),
        ("resnext29", [(256, 32), (512, 16), (1024, 8)]),
        ("senet18", [(64, 32), (128, 16), (256, 8), (512, 4)]),
        ("vgg19", [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]),
    ],
)
def test_the_maps_of_each_side(name: str, expected: list[tuple[int, int]]) -> None:
    parts = [part for child in built(name).extract.children() for part in unrolled(child)]
    assert stages(parts, torch.randn(1, 3, 32, 32)) == expected


@pytest.mark.parametrize("name", ["dpn92", "mobilenet-v2", "resnet18", "resnet50", "resnext29", "senet18"])
def test_dropout_acts_before_the_last_convolution_of_each_block(name: str) -> None:
    network = built(name, dropout=0.5)
    called: list[nn.Module] = []
    for module in network.modules():
        if not [*module.children()] and not isinstance(module, nn.Identity):
            module.register_forward_hook(lambda module, _inputs, _output: called.append(module))
    images = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        # In eval mode it does nothing, and it draws no weight.
        assert torch.equal(network(images), built(name)(images))
    places = [place for place, module in enumerate(called) if isinstance(module, nn.Dropout)]
    blocks = {"dpn92": 30, "mobilenet-v2": 17, "resnet18": 8, "resnet50": 16, "resnext29": 9, "senet18": 8}
    assert len(places) == blocks[name]
    kernel = 3 if name in ("resnet18", "senet18") else 1
    for place in places:
        convolution = called[place + 1]
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.kernel_size == (kernel, kernel)
        assert convolution.stride == (1, 1)


def test_dropout_of_googlenet_acts_on_the_output_of_each_block() -> None:
    network, images = built("googlenet", dropout=0.5), torch.rand(1, 3, 8, 8)
    blocks = [block for block in network.extract if hasattr(block, "one")]
    assert len(blocks) == 9
    zeros: list[float] = []
    for block in blocks:
        block.dropout.train()
        block.register_forward_hook(lambda _block, _inputs, output: zeros.append(float((output == 0).float().mean())))
    with torch.no_grad():
        network(images)
        kept = built("googlenet")(images)
        for block in blocks:
            block.dropout.eval()
        assert torch.equal(network(images), kept)
    # ReLU alone leaves about a half of zeros.
    assert min(zeros[:9]) > 0.6


def test_response_normalisation_by_loops() -> None:
    x = torch.randn(2, 12, 3, 2, dtype=torch.float64)
    expected = torch.empty_like(x)
    for channel in range(12):
        near = x[:, max(0, channel - 4) : channel + 5]
        expected[:, channel] = x[:, channel] / (1 + 1e-3 / 9 * near.square().sum(1)) ** 0.75
    torch.testing.assert_close(ResponseNorm()(x), expected)
    torch.testing.assert_close(ResponseNorm()(x), nn.LocalResponseNorm(9, alpha=1e-3, beta=0.75, k=1.0)(x))


@pytest.mark.parametrize("side", [8, 9, 32, 3])
def test_pooling_pads_as_same_does(side: int) -> None:
    """TensorFlow: ceil(side / 2) outputs; the padding that they need is shared out, the odd pixel at the end."""
    network: Classifier = modules.load("models", "alexnet-lrn").build(10, (1, side, side))
    pool, x = network.extract[2], torch.rand(side)
    outputs = math.ceil(side / 2)
    before = max((outputs - 1) * 2 + 3 - side, 0) // 2
    expected = [x[max(0, 2 * at - before) : 2 * at - before + 3].max() for at in range(outputs)]
    assert pool(x.expand(1, 1, side, side))[0, 0, 0].tolist() == torch.stack(expected).tolist()


def test_training_takes_the_penalty_of_the_hidden_layers() -> None:
    """It is Adam on the loss with the penalty written out."""
    trained = []
    for penalty in (0.004, 0.0):
        torch.manual_seed(3)
        network = modules.load("models", "alexnet-lrn").build(4, (3, 8, 8), penalty=penalty)
        hidden = [layer.weight for layer in network.extract if isinstance(layer, nn.Linear)]
        assert [tuple(weight.shape) for weight in hidden] == [(384, 256), (192, 384)]
        optimizer = optimizer_of(network, Recipe(optimizer="adam", lr=1e-3, weight_decay=0.0))
        for _ in range(3):
            loss = nn.functional.cross_entropy(network(torch.randn(5, 3, 8, 8)), torch.arange(5) % 4)
            optimizer.zero_grad()
            (loss if penalty else loss + 0.004 * sum(weight.square().sum() / 2 for weight in hidden)).backward()
            optimizer.step()
        trained.append(network.state_dict())
    ours, written_out = trained
    for name, weight in written_out.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=2e-5, msg=name)


@pytest.mark.parametrize("defense", [None, dp_sgd.build(DpSgd(clip=1e6, noise_multiplier=0.0))])
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_a_penalty_pulls_the_weights_towards_zero_beside_any_defense(defense: Defense | None, optimizer: str) -> None:
    """One step on the same batch: by SGD the weights differ by rate times penalty times themselves."""
    moved = {}
    for penalty in (0.0, 0.004):
        torch.manual_seed(3)
        network = modules.load("models", "alexnet-lrn").build(4, (3, 8, 8), penalty=penalty)
        before = network.extract[9].weight.detach().clone()
        images = torch.randint(256, (8, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
        data = TrainingSet(images, torch.arange(8) % 4, torch.arange(8))
        told = {"lr": 0.1, "schedule": "linear", "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
        recipe = Recipe(epochs=1, batch_size=8, optimizer=optimizer, **told)
        train(network, Normalize((0.5,) * 3, (0.25,) * 3), data, recipe, seed=0, defenses=[defense] if defense else [])
        moved[penalty] = network.extract[9].weight.detach()
    difference = moved[0.004] - moved[0.0]
    if optimizer == "sgd":
        torch.testing.assert_close(difference, -0.1 * 0.004 * before, rtol=1e-2, atol=1e-7)
    assert float((difference * before).sum()) < 0


def test_a_penalty_is_in_no_gradient_that_an_attack_takes() -> None:
    gradients = []
    for penalty in (0.0, 0.004):
        torch.manual_seed(3)
        network = modules.load("models", "alexnet-lrn").build(4, (3, 8, 8), penalty=penalty)
        loss = nn.functional.cross_entropy(network(torch.ones(2, 3, 8, 8)), torch.arange(2))
        gradients.append(torch.autograd.grad(loss, list(network.parameters())))
    for plain, penalised in zip(*gradients, strict=True):
        assert torch.equal(plain, penalised)


class Written:
    """The layers of a block as functions of its weights, which are drawn anew, batch norm's statistics too.

    Every call takes the next weights in the order of their registration. Kernel, stride, padding and groups are said by
    the test.
    """

    def __init__(self, block: nn.Module) -> None:
        draw = torch.Generator().manual_seed(0)
        for name, value in block.double().eval().state_dict().items():
            if value.is_floating_point():
                positive = name.endswith("running_var")
                value.copy_(torch.randn(value.shape, generator=draw, dtype=torch.float64))
                value.copy_(value.abs() + 0.5 if positive else value)
        layers = (nn.Conv2d, nn.BatchNorm2d)
        self.left = [layer for layer in block.modules() if isinstance(layer, layers)]

    def convolved(
        self, x: Tensor, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1, bias: bool = False
    ) -> Tensor:
        """The next convolution, padded to keep the size at stride 1."""
        layer = self.left.pop(0)
        assert isinstance(layer, nn.Conv2d)
        assert layer.weight.shape == (outputs, x.shape[1] // groups, kernel, kernel)
        assert (layer.bias is not None) == bias
        return F.conv2d(x, layer.weight, layer.bias, stride=stride, padding=(kernel - 1) // 2, groups=groups)

    def normed(self, x: Tensor) -> Tensor:
        """The next batch norm, at its statistics."""
        layer = self.left.pop(0)
        assert isinstance(layer, nn.BatchNorm2d)
        return F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias, eps=1e-5)


def small_maps(channels: int, side: int) -> Tensor:
    return torch.randn(2, channels, side, side, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_the_four_branches_of_googlenet_written_out() -> None:
    """Szegedy et al. 2015, figure 2 (b), with batch norm and biases; two 3x3 convolutions in place of the 5x5 one."""
    block = googlenet.Inception(6, (2, 3, 4, 5, 3, 2), 0.0)
    x, layers = small_maps(6, 5), Written(block)

    def step(maps: Tensor, outputs: int, kernel: int) -> Tensor:
        return layers.normed(layers.convolved(maps, outputs, kernel, bias=True)).relu()

    one = step(x, 2, 1)
    three = step(step(x, 3, 1), 4, 3)
    five = step(step(step(x, 5, 1), 3, 3), 3, 3)
    pool = step(F.max_pool2d(x, 3, stride=1, padding=1), 2, 1)
    torch.testing.assert_close(block(x), torch.cat([one, three, five, pool], 1))
    assert not layers.left


@torch.no_grad()
@pytest.mark.parametrize(("inputs", "stride"), [(16, 2), (16, 1), (32, 2), (32, 1)])
def test_a_block_of_senet_written_out(inputs: int, stride: int) -> None:
    """Batch norm and ReLU stand before each convolution (He et al. 2016b), the gate before the sum (Hu et al. 2018)."""
    block = senet18.Block(inputs, 32, stride, 0.0)
    x, layers = small_maps(inputs, 5), Written(block)
    active = layers.normed(x).relu()
    inner = layers.convolved(active, 32, 3, stride=stride)
    inner = layers.convolved(layers.normed(inner).relu(), 32, 3)
    squeezed = layers.convolved(inner.mean((2, 3), keepdim=True), 2, 1, bias=True).relu()
    inner = inner * layers.convolved(squeezed, 32, 1, bias=True).sigmoid()
    same = inputs == 32 and stride == 1
    # The activated input goes through the projection, which has no batch norm; where nothing changes, the input itself.
    torch.testing.assert_close(block(x), inner + (x if same else layers.convolved(active, 32, 1, stride=stride)))
    assert not layers.left


@torch.no_grad()
@pytest.mark.parametrize(("first", "stride"), [(True, 2), (True, 1), (False, 1)])
def test_a_block_of_dpn_written_out(first: bool, stride: int) -> None:
    """Chen et al. 2017, figure 2 (e), activations behind; the 3x3 convolution has 32 groups and the stride."""
    residual, dense = 10, 4
    inputs = 12 if first else residual + 3 * dense
    block = dpn92.Block(inputs, 64, residual, dense, stride, first, 0.0)
    x, layers = small_maps(inputs, 5), Written(block)
    inner = layers.normed(layers.convolved(x, 64, 1)).relu()
    inner = layers.normed(layers.convolved(inner, 64, 3, stride=stride, groups=32)).relu()
    inner = layers.normed(layers.convolved(inner, residual + dense, 1))
    kept = layers.normed(layers.convolved(x, residual + dense, 1, stride=stride)) if first else x
    added = (kept[:, :residual] + inner[:, :residual]).relu()
    appended = [kept[:, residual:].relu(), inner[:, residual:].relu()]
    torch.testing.assert_close(block(x), torch.cat([added, *appended], 1))
    assert not layers.left


def test_stages_of_dpn_begin_with_a_projection_and_halve_the_image_but_for_the_first() -> None:
    with torch.device("meta"):
        network = dpn92.build(10, (3, 32, 32))
    blocks = [module for module in network.extract if isinstance(module, dpn92.Block)]
    shortcuts = [(place, block.shortcut) for place, block in enumerate(blocks)]
    projections = [(place, shortcut) for place, shortcut in shortcuts if isinstance(shortcut, nn.Sequential)]
    halving = [place for place, block in enumerate(blocks) if block.filter[0].stride == (2, 2)]
    assert [place for place, _ in projections] == [0, 3, 7, 27]
    assert [shortcut[0].stride[0] for _, shortcut in projections] == [1, 2, 2, 2]
    assert halving == [3, 7, 27]


def test_the_two_paths_of_a_dual_path_block() -> None:
    block = dpn92.Block(48 + 2 * 8, 32, 48, 8, 1, False, 0.0).eval()
    norm = block.expand[1]
    nn.init.zeros_(norm.weight)
    nn.init.constant_(norm.bias, 2.0)
    x = torch.rand(1, 64, 4, 4)
    with torch.no_grad():
        out = block(x)
    # Added to the residual channels, appended to the dense ones.
    assert torch.equal(out, torch.cat([x[:, :48] + 2, x[:, 48:], torch.full((1, 8, 4, 4), 2.0)], 1))


def test_the_gate_of_senet_by_hand() -> None:
    torch.manual_seed(0)
    block = senet18.Block(64, 64, 1, 0.0).eval()
    inner: list[Tensor] = []
    block.conv2.register_forward_hook(lambda _module, _inputs, output: inner.append(output))
    x = torch.randn(2, 64, 5, 5)
    with torch.no_grad():
        out = block(x)
        squeeze, excite = (layer.weight.flatten(1) for layer in (block.gate.fc1, block.gate.fc2))
        assert squeeze.shape == (4, 64)
        hidden = (inner[0].mean((2, 3)) @ squeeze.T + block.gate.fc1.bias).relu()
        gate = 1 / (1 + (-(hidden @ excite.T + block.gate.fc2.bias)).exp())
        torch.testing.assert_close(out, x + inner[0] * gate[:, :, None, None])


def test_mobilenet_v1_is_timm_s() -> None:
    """With ReLU without a ceiling and a stem of stride 1."""
    ours = built("mobilenet-v1")
    theirs = timm.create_model("mobilenetv1_100", num_classes=10, act_layer=nn.ReLU).eval()
    theirs.conv_stem = nn.Conv2d(3, 32, 3, padding=1, bias=False)
    copy_in_order(ours, theirs)
    x = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x))


def test_a_block_of_mobilenet_v2_is_torchvision_s() -> None:
    torch.manual_seed(0)
    block, reference = mobilenet_v2.Block(24, 24, 6, 1, 0.0).eval(), InvertedResidual(24, 24, 1, 6).eval()
    copy_in_order(block, reference)
    x = torch.randn(2, 24, 7, 7)
    with torch.no_grad():
        # Far below 6, where torchvision's ReLU ends.
        torch.testing.assert_close(block(x), reference(x))
    projected = mobilenet_v2.Block(16, 24, 6, 1, 0.0)
    assert isinstance(projected.shortcut, nn.Sequential)
    assert mobilenet_v2.Block(24, 24, 6, 2, 0.0).shortcut is None


def copy_in_order(ours: nn.Module, theirs: nn.Module) -> None:
    """Weights and buffers of ``ours`` into ``theirs``, in the order of their registration."""
    values = list(ours.state_dict().values())
    theirs.load_state_dict(dict(zip(theirs.state_dict(), values, strict=True)))


@pytest.mark.parametrize(
    ("name", "count"),
    [("googlenet", 9), ("dpn92", 30), ("mobilenet-v2", 17), ("senet18", 8), ("densenet121", 4), ("resnext29", 9)],
)
def test_attacks_in_features_find_the_blocks(name: str, count: int) -> None:
    assert len(blocks_of(built(name).extract)) == count
