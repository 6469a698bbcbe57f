"""What the caller of a function has set for all of torch: it neither hinders the function, nor is changed by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from poisonlab.errors import SettingsError, is_out_of_memory


@contextmanager
def with_gradients() -> Iterator[None]:
    """Gradients are recorded inside, also if the caller has switched them off."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def random_streams_kept(device: torch.device | str) -> Iterator[None]:
    """torch's own random streams, of the CPU and of ``device``, may be seeded inside; afterwards they are as before."""
    device = torch.device(device)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


@contextmanager
def weights_of_float32(*networks: nn.Module) -> Iterator[None]:
    """Say what to do where torch finds that a network's weights and the images are of two types.

    Raises:
        SettingsError: a network that has other weights than float32 has failed.
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
