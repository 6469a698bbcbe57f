"""Any attack of the lab on a dataset in memory, by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pydantic import ValidationError
from torch import nn

from poisonlab import attacks, modules
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.attack import Attack
from poisonlab.config.explaining import explained
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import SettingsError
from poisonlab.models.classifier import Classifier
from poisonlab.models.networks import build_normalize
from poisonlab.models.wrapping import wrap


def craft(
    method: str,
    dataset: ImageDataset,
    surrogates: nn.Module | Sequence[nn.Module] = (),
    *,
    recipe: Recipe | None = None,
    fresh: Callable[[int], Classifier] | None = None,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> PoisonSet:
    """Craft poisons; the attack, its bound and its settings are those of the workflow.

    Args:
        method: name of the attack, such as ``gradient-matching`` or ``bullseye-polytope``.
        dataset: clean data.
        surrogates: a trained network, normalised images (B, C, H, W) to logits, or several, all on one device, which is
            used; none for attacks that need none. Their last layer is linear (see ``wrap``).
        recipe: how they were trained; its augmentation acts on the poisons, too. The default recipe if not given.
        fresh: a new surrogate with weights drawn from a seed, for attacks that train their own.
        seed: decides target, bases and start.
        progress: show a progress bar.
        settings: the attack's keys as in docs/config.md, such as ``budget``, ``eps``, ``steps``.

    Returns:
        The poisons, within their bound on shipped 8-bit pixels.

    Raises:
        SettingsError: there is no such attack, a setting is unknown or impossible, or surrogates are lacking or have
            other classes than the data.
        DataError: the dataset lacks what the attack needs, or the poisons change nothing.
    """
    module = _module(method)
    if isinstance(surrogates, nn.Module):
        surrogates = list(surrogates) if isinstance(surrogates, nn.ModuleList) else [surrogates]
    kind: type[Attack] = module.Settings
    given = {"name": method, "method": method, **settings}
    if surrogates and "surrogate" in kind.model_fields:
        given["surrogate"] = "given"
    try:
        chosen = kind.model_validate(given)
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("surrogate",):
            raise SettingsError(f"{method} needs surrogates: pass the networks that it crafts with") from error
        raise explained(error, kind, method) from error
    networks = [wrap(network) for network in surrogates]
    for number, network in enumerate(networks):
        if (logits := network.head.out_features) != dataset.num_classes:
            raise SettingsError(
                f"surrogate {number} gives {logits} logits, but the data have {dataset.num_classes} classes: take a "
                "network of these classes"
            )
    device = networks[0].head.weight.device if networks else "cpu"
    attacker = Attacker(networks, build_normalize(dataset, device), recipe or Recipe(), fresh)
    poisons: PoisonSet = module.craft(dataset, attacker, chosen, seed=seed, progress=progress)
    poisons.check_change(dataset.train_labels)
    if chosen.bound is not None:
        poisons.check_bound(chosen.bound)
    return poisons


def _module(method: str) -> ModuleType:
    """The module of an attack.

    Raises:
        SettingsError: there is none of this name.
    """
    names = [module.name.replace("_", "-") for module in iter_modules(attacks.__path__)]
    found = modules.load("attacks", method) if method in names else None
    if found is None or not hasattr(found, "craft") or not hasattr(found, "Settings"):
        close = get_close_matches(method, names, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close and close != [method] else ""
        raise SettingsError(f"{method!r} is no attack{meant}: docs/config.md lists them")
    return found
