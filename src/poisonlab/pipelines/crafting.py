"""Runs any attack of the lab, by its name, on a dataset in memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from difflib import get_close_matches
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from poisonlab import attacks, modules
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.attacker import Attacker
from poisonlab.config.attacks.attack import Attack, CraftedAttack
from poisonlab.config.attacks.matching import MatchingAttack
from poisonlab.config.explaining import explained
from poisonlab.config.recipe import Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.training_set import clean_rows, pixels
from poisonlab.defenses.friendly_noise import check_noise
from poisonlab.errors import DataError, SettingsError
from poisonlab.models.classifier import Classifier
from poisonlab.models.evaluating import fixed
from poisonlab.models.networks import build_normalize
from poisonlab.models.surroundings import check_gradient, random_streams_kept, weights_of_float32, with_gradients
from poisonlab.models.wrapping import wrap


@with_gradients()
def craft(
    method: str,
    dataset: ImageDataset,
    surrogates: nn.Module | Sequence[nn.Module] = (),
    *,
    recipe: Recipe | None = None,
    fresh: Callable[[int], Classifier] | None = None,
    friendly_noise: Tensor | None = None,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> PoisonSet:
    """Craft poisons; the attack, its bound and its settings are those of the workflow.

    Args:
        method: name of the attack, such as ``gradient-matching`` or ``bullseye-polytope``.
        dataset: clean data; images that its ``validation`` sets apart before poisoning are never bases.
        surrogates: a trained network from normalised images (B, C, H, W) to logits, or several on one device, which is
            used. Their last layer is linear (see ``wrap``), and they are unchanged afterwards. Attacks without
            surrogates, or that train their own, need none.
        recipe: how the surrogates were trained; its augmentation acts on the poisons, too. The default recipe if not
            given.
        fresh: makes a new surrogate with weights drawn from a seed, for attacks that train their own.
        friendly_noise: (N, C, H, W) float, in units of the [0, 1] pixel range: the noise of an earlier run on the
            training images, to which gradient matching or Sleeper Agent adapts.
        seed: decides target, bases and start.
        progress: show a progress bar.
        settings: the attack's keys as in docs/config.md, such as ``budget``, ``eps``, ``steps``.

    Returns:
        The poisons, within their bound on shipped 8-bit pixels.

    Raises:
        SettingsError: there is no such attack, a setting is unknown, impossible or of a study alone, ``recipe`` is no
            ``Recipe``, or surrogates are missing, have other classes than the data, other weights than float32 or no
            gradient by the images, or differ in number from ``ensemble``.
        DataError: ``dataset`` is no ``ImageDataset``, it lacks what the attack needs, the friendly noise does not fit,
            or the poisons change nothing.
    """
    module = _module(method)
    if not isinstance(dataset, ImageDataset):
        raise DataError(f"craft takes an ImageDataset, not a {type(dataset).__name__}: load_dataset gives one")
    if isinstance(surrogates, nn.Module):
        surrogates = list(surrogates) if isinstance(surrogates, nn.ModuleList) else [surrogates]
    if study := [name for name in ("seeds", "victims", "published") if name in settings]:
        raise SettingsError(f"{study[0]} is a key of studies, without effect here: leave it out")
    kind: type[Attack] = module.Settings
    given = {"name": method, "method": method, **settings}
    if "surrogate" in kind.model_fields:
        given.setdefault("surrogate", "given")
    try:
        chosen = kind.model_validate(given)
    except ValidationError as error:
        raise explained(error, kind, method) from error
    networks = [wrap(network) for network in surrogates]
    if chosen.pretrained_networks and not networks:
        raise SettingsError(f"{method} needs surrogates: pass the networks that it crafts with")
    if chosen.trains_networks and fresh is None:
        raise SettingsError(f"{method} trains surrogates of its own: pass fresh, which makes a new one from a seed")
    if isinstance(chosen, CraftedAttack) and 1 < chosen.pretrained_networks != len(networks):
        raise SettingsError(
            f"ensemble is {chosen.ensemble}, but {len(networks)} surrogates are given: leave ensemble out"
        )
    adaptation = chosen.adaptation if isinstance(chosen, MatchingAttack) else None
    if friendly_noise is not None and not isinstance(chosen, MatchingAttack):
        raise SettingsError(f"{method} does not adapt to friendly noise: leave friendly_noise out")
    if recipe is not None and not isinstance(recipe, Recipe):
        raise SettingsError(f"the recipe is a {type(recipe).__name__}: pass Recipe(...) of poisonlab.config.recipe")
    if friendly_noise is None and adaptation is not None and adaptation.friendly_attack is not None:
        raise SettingsError("adaptation names friendly_attack: pass its noise as friendly_noise")
    for number, network in enumerate(networks):
        if (logits := network.head.out_features) != dataset.num_classes:
            raise SettingsError(
                f"surrogate {number} gives {logits} logits, but the data have {dataset.num_classes} classes: take a "
                "network of these classes"
            )
    device = networks[0].head.weight.device if networks else "cpu"
    normalize, rows = build_normalize(dataset, device), clean_rows(dataset)
    if friendly_noise is not None:
        check_noise(friendly_noise)
        wanted = (len(dataset.train_labels) if rows is None else len(rows), *dataset.image_shape)
        if tuple(friendly_noise.shape) != wanted:
            raise DataError(
                f"friendly_noise has shape {tuple(friendly_noise.shape)}, the training images {wanted}: was it made "
                "for another dataset?"
            )
    attacker = Attacker(networks, normalize, recipe or Recipe(), fresh, rows, friendly_noise)
    with ExitStack() as kept:
        for network in networks:
            kept.enter_context(fixed(network))
        kept.enter_context(random_streams_kept(device))
        kept.enter_context(weights_of_float32(*networks))
        for network in networks:
            inputs = normalize(pixels(dataset.train_images[:1].to(device))).requires_grad_()
            check_gradient(inputs, network(inputs))
        poisons: PoisonSet = module.craft(dataset, attacker, chosen, seed=seed, progress=progress)
    poisons.check_change(dataset.train_images, dataset.train_labels)
    if chosen.bound is not None:
        poisons.check_bound(chosen.bound)
    return poisons


def _module(method: str) -> ModuleType:
    """The module of an attack.

    Raises:
        SettingsError: there is no attack of this name.
    """
    names = [module.name.replace("_", "-") for module in iter_modules(attacks.__path__)]
    found = modules.load("attacks", method) if method in names else None
    if found is None or not hasattr(found, "craft") or not hasattr(found, "Settings"):
        close = get_close_matches(method, names, n=1)
        meant = f" (did you mean {close[0]!r}?)" if close and close != [method] else ""
        raise SettingsError(f"{method!r} is no attack{meant}: docs/config.md lists them")
    return found
