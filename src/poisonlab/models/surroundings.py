"""Torch's global state: a caller's settings do not disturb a function, and the function does not change them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from poisonlab.errors import SettingsError, is_out_of_memory


def usable(device: torch.device | str) -> torch.device:
    """The device that a caller names.

    Raises:
        SettingsError: there is no such device here.
    """
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    # A torch without CUDA raises AssertionError, a missing driver or card RuntimeError.
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        raise SettingsError(
            f"device {device!r} cannot be used: give 'cpu', or 'cuda' where torch.cuda.is_available()"
        ) from error
    return found


@contextmanager
def with_gradients() -> Iterator[None]:
    """Gradients are recorded inside the block, even if the caller has switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


def check_gradient(images: Tensor, output: Tensor) -> None:
    """Refuse a network whose output has no gradient: an optimisation would go on without it.

    Raises:
        SettingsError: ``images`` require a gradient, and the network's ``output`` for them has none.
    """
    if images.requires_grad and not output.requires_grad:
        raise SettingsError(
            "the network's output has no gradient by the images: leave torch.no_grad() and detach() out of its forward"
        )


@contextmanager
def random_streams_kept(device: torch.device | str) -> Iterator[None]:
    """The block may seed torch's own random streams, of the CPU and of ``device``; they are restored afterwards."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def weights_of_float32(*networks: nn.Module) -> Iterator[None]:
    """Replace torch's error about different dtypes of weights and images by one with a cure.

    Raises:
        SettingsError: a network failed whose weights are not float32.
    """
    try:
        yield
    except RuntimeError as error:
        kinds = {weight.dtype for network in networks for weight in network.parameters()} - {torch.float32}
        told = any(word in str(error) for word in ("type", "Half", "Double", "BFloat16"))
        if not kinds or not told or is_out_of_memory(error):
            raise
        kind = str(kinds.pop()).removeprefix("torch.")
        raise SettingsError(
            f"the network's weights are {kind}, but images are float32: pass network.float(), and set precision if you "
            "want mixed precision"
        ) from error
