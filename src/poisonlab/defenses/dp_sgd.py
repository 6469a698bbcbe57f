"""DP-SGD: every example's gradient is clipped, noise is added to their sum, and the privacy loss is accounted for.

Abadi et al. 2016, "Deep Learning with Differential Privacy", algorithm 1. A step takes each of the N examples
independently with probability q = B / N, where B is the recipe's batch size. With g_i the gradient of example i's
cross-entropy with respect to all trainable weights as one vector:

    g = (sum_i g_i * min(1, clip / |g_i|) + clip * noise_multiplier * z) / B,   z standard normal

B is the expected number of examples, not the number taken. Momentum, weight decay and the learning rate are applied
afterwards and cost no privacy. The loss must be the mean of the examples' own losses, and no defense may mix examples
or draw the batches in another way.

Opacus provides the rules for the layers' gradients and the accounting. Its ``GradSampleModule`` is not used as a whole.
Its hooks on modules do not allow layers whose output is changed in place (torchvision's ResNet, LeNet, AlexNet). They
also fail if the network is differentiated in eval mode between two steps.

Memory: B x parameters numbers, on average; 5.7 GB for ResNet-18 and batches of 128 in float32.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from opacus.accountants import RDPAccountant  # type: ignore[import-untyped]
from opacus.grad_sample import GradSampleModule  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from poisonlab.config.defenses.dp_sgd import DpSgd as Settings
from poisonlab.config.recipe import Recipe
from poisonlab.errors import SettingsError
from poisonlab.models.evaluating import evaluating
from poisonlab.training.defense import Defense, EpochRecord

_SAMPLES = "grad_sample"


@dataclass(frozen=True)
class DpSgd(Defense):
    """Take Poisson batches, bound every example's gradient by ``settings.clip``, add noise to the sum."""

    settings: Settings

    def schedule(self, recipe: Recipe) -> Recipe:
        """The recipe unchanged.

        Raises:
            SettingsError: the recipe compiles the network.
        """
        if recipe.compile:
            raise SettingsError("dp-sgd watches single layers, which a compiled network hides: set compile: false")
        return recipe

    @contextmanager
    def attached(self, model: nn.Module) -> Iterator[None]:
        """Keep each example's gradient of every backward pass in training mode, as ``grad_sample`` of the parameters.

        Raises:
            SettingsError: in some layer the gradient of a single example does not exist, or Opacus has no rule for it.
        """
        layers = _trained_layers(model)
        # Forget the gradients of passes before the step's own forward pass.
        handles = [model.register_forward_pre_hook(lambda module, _: _forget(module))]
        handles += [layer.register_forward_hook(_watch) for layer in layers]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            _forget(model)

    def draw_batches(self, examples: int, recipe: Recipe, generator: torch.Generator) -> Sequence[Tensor]:
        """ceil(examples / batch size) Poisson batches, some of which may be empty.

        Raises:
            SettingsError: the batch size is larger than the training set.
        """
        rate, steps = _sampling(examples, recipe)
        draws = (torch.rand(examples, generator=generator, dtype=torch.float64) for _ in range(steps))
        return [(draw < rate).nonzero().flatten() for draw in draws]

    @torch.no_grad()
    def change_gradients(self, parameters: list[nn.Parameter], recipe: Recipe, generator: torch.Generator) -> None:
        """Replace ``p.grad`` by the clipped, noisy sum divided by ``recipe.batch_size``, in the parameters' precision
        even if the examples' gradients are bfloat16."""
        gradients = {parameter: parameter.grad for parameter in parameters if parameter.grad is not None}
        samples = [vars(parameter).pop(_SAMPLES).flatten(1).to(parameter.dtype) for parameter in gradients]
        lengths = torch.stack([rows.norm(dim=1) for rows in samples]).norm(dim=0)
        # The loss is a mean over the batch, so each row is 1 / len(lengths) of its example's own gradient.
        factors = (self.settings.clip / lengths).clamp(max=len(lengths))
        scale = self.settings.clip * self.settings.noise_multiplier
        for gradient, rows in zip(gradients.values(), samples, strict=True):
            noise = torch.randn(gradient.shape, generator=generator, device=gradient.device, dtype=gradient.dtype)
            gradient.copy_(((factors @ rows).view(gradient.shape) + scale * noise) / recipe.batch_size)

    def report(self, recipe: Recipe, examples: int, history: Sequence[EpochRecord]) -> dict[str, float]:
        """``privacy_epsilon`` at ``privacy_delta``, for adding or removing one training example.

        It covers all weights of this one training, given its initial weights. It does not cover other victims trained
        on the same examples (other seeds, the tuning of a setting). Neither does it cover pretrained weights or
        friendly noise made from the examples, numbers measured on them, or a filter that selected them; configs refuse
        a row with such a filter. It does not hold against a reader who knows the seed, which determines the noise.
        """
        rate, steps = _sampling(examples, recipe)
        delta = self.settings.delta or 1 / examples
        spent = epsilon(self.settings.noise_multiplier, rate, recipe.epochs * steps, delta)
        return {"privacy_epsilon": spent, "privacy_delta": delta}


def epsilon(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    """An upper bound on epsilon after ``steps`` steps that each take an example with probability ``rate``.

    Rényi accounting (Mironov et al. 2019, section 3.3; converted by theorem 21 of Balle et al. 2020). For usual
    settings the bound is about a tenth above numerical composition, but equally fast and safe for any setting.

    Args:
        noise_multiplier: standard deviation of the noise over the clip; 0 gives infinity.
        rate: in (0, 1].
        steps: at least 1.
        delta: in (0, 1).
    """
    if noise_multiplier == 0:
        return math.inf
    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    with warnings.catch_warnings():
        # With the smallest or largest order the bound is looser but still valid.
        warnings.filterwarnings("ignore", message="Optimal order is the (smallest|largest) alpha")
        orders = [*RDPAccountant.DEFAULT_ALPHAS, 64, 96, 128, 192, 256, 384, 512]
        return max(0.0, float(accountant.get_epsilon(delta, alphas=orders)))


def _sampling(examples: int, recipe: Recipe) -> tuple[float, int]:
    """The probability that a step takes an example, and the number of steps in an epoch."""
    if recipe.batch_size > examples:
        raise SettingsError(
            f"dp-sgd takes an example with probability batch_size / examples, which cannot be {recipe.batch_size} / "
            f"{examples}: set batch_size to {examples} or less"
        )
    return recipe.batch_size / examples, math.ceil(examples / recipe.batch_size)


# --- gradients of single examples ------------------------------------------------------------------------------------


def _trained_layers(model: nn.Module) -> list[nn.Module]:
    """The layers with trained parameters of their own.

    Raises:
        SettingsError: a batch norm is trained or uses the batch's statistics, or Opacus has no rule for a layer.
    """
    layers = []
    with evaluating(model):
        model.train()
        for module in model.modules():
            trained = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
            by_batch = module.training or getattr(module, "running_mean", None) is None
            if isinstance(module, _BatchNorm) and (trained or by_batch):
                raise SettingsError(
                    "dp-sgd needs the gradient of each example, which does not exist with batch norm: "
                    "set norm: group for the network, or choose one without batch norm (for transfer, batch_norm: eval "
                    "also does)"
                )
            if trained and not _has_rule(module):
                raise SettingsError(
                    f"dp-sgd does not know the gradient of each example of {type(module).__name__} layers: "
                    "choose another network"
                )
            if trained:
                layers.append(module)
    return layers


def _has_rule(module: nn.Module) -> bool:
    # Opacus pads with zeros, even if the layer pads in another way.
    return type(module) in GradSampleModule.GRAD_SAMPLERS and getattr(module, "padding_mode", "zeros") == "zeros"


def _watch(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    # A hook on the tensor, unlike one on the module, stays correct if the output is changed in place afterwards.
    if module.training and output.requires_grad:
        given = inputs[0].detach()
        output.register_hook(lambda gradient: _keep(module, given, gradient))  # type: ignore[no-untyped-call]


@torch.no_grad()
def _keep(module: nn.Module, inputs: Tensor, gradient: Tensor) -> None:
    """Add to ``grad_sample`` (B, *shape) of the layer's parameters; a layer called several times adds each time."""
    if len(inputs) == 0:
        own = module.parameters(recurse=False)
        samples = {parameter: parameter.new_zeros(0, *parameter.shape) for parameter in own}
    else:
        # Opacus 1.6 silently misreads a convolution's input in channels_last. contiguous() would leave the strides of
        # 1 x 1 images unchanged, so the input is cloned.
        plain = inputs.clone(memory_format=torch.contiguous_format)
        samples = GradSampleModule.GRAD_SAMPLERS[type(module)](module, [plain], gradient)
    for parameter, rows in samples.items():
        earlier = vars(parameter).get(_SAMPLES)
        vars(parameter)[_SAMPLES] = rows if earlier is None else earlier + rows


def _forget(model: nn.Module) -> None:
    for parameter in model.parameters():
        vars(parameter).pop(_SAMPLES, None)


def build(settings: Settings, noise: Tensor | None = None) -> DpSgd:
    """The defense that ``settings`` describes."""
    return DpSgd(settings)
