"""Networks and weights of users: their own function, and safetensors files of any program."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from poisonlab.config.own_code import find_programs_last
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.networks import load_weights


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__} ({' '.join(str(error).split()):.300})"


def own_network(named: str) -> nn.Module:
    """The network that ``module:function`` returns.

    Raises:
        SettingsError: the function cannot be imported, raises an error, or returns no network.
    """
    module, _, function = named.partition(":")
    find_programs_last()
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise SettingsError(f"network: {named} cannot be imported ({error}): correct it, or PYTHONPATH") from error
    except Exception as error:
        raise SettingsError(f"network: importing {module} raises {_in_a_line(error)}: correct it") from error
    try:
        made = make()
    except Exception as error:
        raise SettingsError(f"network: {named}() raises {_in_a_line(error)}: correct it") from error
    if not isinstance(made, nn.Module):
        raise SettingsError(f"network: {named} returns a {type(made).__name__}: it must return a torch.nn.Module")
    return made


def load_own(named: str, weights: Path, shape: tuple[int, ...], classes: int, device: torch.device) -> nn.Module:
    """The network that ``module:function`` returns, with its weights, in eval mode.

    Args:
        shape: (C, H, W) of the images; the network is tried on a black image.
        classes: number of classes of the data, and of logits that the network must have.

    Raises:
        DataError: the file of weights is missing, damaged, or of another network.
        SettingsError: there is no network, it fails on such an image, or it has another number of classes.
    """
    network = own_network(named).to(device)
    load_foreign(weights, network)
    network.eval()
    size = " x ".join(map(str, shape))
    try:
        with torch.inference_mode():
            logits = network(torch.zeros(1, *shape, device=device))
    except Exception as error:
        raise SettingsError(f"network: {named} fails on an image of {size}: {_in_a_line(error)}") from error
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
        raise SettingsError(f"network: {named} gives no logits of shape (images, classes) for an image of {size}")
    if logits.shape[1] != classes:
        raise SettingsError(
            f"network: {named} gives {logits.shape[1]} logits, but the data have {classes} classes: take a network for "
            "these classes"
        )
    return network


def load_foreign(path: Path, network: nn.Module) -> None:
    """Read weights from a file of the lab, or from any safetensors file with the names of ``network``'s state_dict.

    Raises:
        DataError: the file is missing, damaged, or holds another architecture.
    """
    if not path.is_file():
        raise DataError(f"{path} is missing: correct weights")
    try:
        with safe_open(path, framework="pt") as file:
            ours = "poisonlab" in (file.metadata() or {})
            tensors = {} if ours else {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} is no intact safetensors file: write it with safetensors.torch.save_file") from error
    if ours:
        load_weights(path, network)
        return
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise DataError(f"{path} holds the weights of another architecture: {str(error)[:300]}") from error
