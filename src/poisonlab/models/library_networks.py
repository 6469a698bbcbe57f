"""Networks of other libraries: built by name for the dataset's images, filled from a file, and split into features and
head."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from poisonlab.errors import DamagedError, DataError, SettingsError, is_out_of_memory
from poisonlab.files import read_error
from poisonlab.models.classifier import Classifier
from poisonlab.models.evaluating import evaluating
from poisonlab.models.wrapping import wrap


def check_known(library: str, name: str, names: Collection[str]) -> None:
    """Check that a library has a network of this name.

    Raises:
        SettingsError: it has none; the message lists similar names.
    """
    if name not in names:
        near = get_close_matches(name, names, n=4, cutoff=0.5)
        meant = f"did you mean {', '.join(near)}?" if near else f"it has {len(names)} others"
        raise SettingsError(f"{library} has no network {name!r}: {meant}")


def made(what: str, make: Callable[..., nn.Module], size: Mapping[str, Any], options: Mapping[str, Any]) -> nn.Module:
    """The network from a library's constructor, with the size of the images if the constructor takes it.

    Args:
        what: names the network in messages.
        make: the constructor; only the size and the options are missing.
        size: the option for the image's size; ``options`` override it.
        options: the user's options.

    Raises:
        SettingsError: the constructor refuses an option.
    """
    try:
        try:
            return make(**{**size, **options})
        except TypeError as error:
            # Most convolutional networks take images of any size and have no such option.
            if not size or not all(f"'{name}'" in str(error) for name in size):
                raise
            return make(**options)
    except Exception as error:
        raise _refusal(error, f"{what} cannot be made") from error


def adopted(
    what: str, network: nn.Module, image_shape: tuple[int, int, int], pretrained: str | None, head: str | None = None
) -> Classifier:
    """The network as a ``Classifier``, with the weights of a file if given, and checked by a first pass.

    Args:
        what: names the network in messages.
        network: maps normalised images (B, C, H, W) to logits (B, K).
        image_shape: (C, H, W).
        pretrained: a .safetensors file with the library's names and shapes.
        head: name of the last layer; by default the last linear one.

    Raises:
        SettingsError: the network has no linear head, or cannot take such images.
        DataError: the file is missing, damaged, or of another network.
    """
    channels, height, width = image_shape
    try:
        classifier = wrap(network, head)
        if pretrained is not None:
            name = next(name for name, module in network.named_modules() if module is classifier.head)
            fill(what, network, name, Path(pretrained))
        with torch.no_grad(), evaluating(classifier):
            classifier(torch.zeros(2, *image_shape))
    except DataError:
        raise
    except SettingsError as error:
        raise SettingsError(f"{what} has no features with a linear head ({error}): choose another network") from error
    except Exception as error:
        size = f"{what} cannot take images of {height} x {width} pixels and {channels} channels"
        raise _refusal(error, size) from error
    return classifier


@torch.no_grad()
def fill(what: str, network: nn.Module, head: str, path: Path) -> None:
    """Copy a file's tensors into ``network`` by name. If the file's head has another shape, the network keeps its drawn
    head, and a line on standard error says so.

    Args:
        what: names the network in messages.
        network: of another library, with that library's names.
        head: name of its last layer.
        path: the .safetensors file.

    Raises:
        DataError: the file is missing or damaged; or a tensor is missing, has another shape, or is not in the network.
    """
    found, own = _tensors(path), network.state_dict()
    # Published files contain auxiliary heads, which the lab's networks do not have.
    if foreign := sorted(name for name in found.keys() - own.keys() if not name.lower().startswith("aux")):
        raise DataError(f"{path} holds {foreign[0]}, for which {what} has no place: give the weights of this network")
    layer = [name for name in own if name.startswith(f"{head}.")]
    if any(name not in found or found[name].shape != own[name].shape for name in layer):
        held = [f"{name} {tuple(found[name].shape)}" for name in layer if name in found]
        holds = f"holds {' and '.join(held)}" if held else "holds none"
        shape = tuple(own[layer[0]].shape)
        print(f"note: the head of {what} is drawn anew, as it needs {shape} and {path} {holds}", file=sys.stderr)
        own = {name: tensor for name, tensor in own.items() if name not in layer}
    for name, tensor in own.items():
        if name not in found:
            # Older files lack the counts of batches, which are not used here.
            if name.endswith("num_batches_tracked"):
                continue
            raise DataError(f"{path} holds no {name}, which {what} needs: give the weights of this network")
        if found[name].shape != tensor.shape:
            shapes = f"{name} is {tuple(found[name].shape)}, and {what} needs {tuple(tensor.shape)}"
            raise DataError(f"{path}: {shapes} here: give weights for these images, or leave out pretrained")
        # Copied one by one, because some networks refuse a state_dict without a version.
        tensor.copy_(found[name])


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        # safetensors does not distinguish a truncated file from an unreadable one, so test here whether it opens.
        path.open("rb").close()
    except FileNotFoundError as error:
        raise DataError(f"pretrained: there is no file {path}: check the path") from error
    except OSError as error:
        raise read_error(path, error) from error
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise DamagedError(path, "it is no .safetensors file") from error


def _refusal(error: Exception, what: str) -> Exception:
    """The library's error as a user reads it: its first line as a SettingsError; out of memory stays as it is."""
    if is_out_of_memory(error):
        return error
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return SettingsError(f"{what} ({reason}): choose another network, or change its options")
