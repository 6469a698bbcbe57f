"""The scale of a study in words, for the notes below its tables with published numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.attacks.imported import Imported
from poisonlab.config.data.idx import Idx
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.data.npz import Npz
from poisonlab.config.data.parquet import Parquet
from poisonlab.config.data.webdataset import WebDataset
from poisonlab.config.datasets import OneSource, source_of
from poisonlab.config.defenses.friendly_noise import FriendlyNoise
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.rows import Row
from poisonlab.config.study import Study
from poisonlab.config.victims import Victim

_NAMED = 8
"""Most shared networks listed by name; of more, only the number is given."""


def scale_of(
    study: Study, attacks: Sequence[AttackSettings], images: int | None = None, rows: Sequence[Row] = ()
) -> list[str]:
    """A sentence each on the data, the victims, the poisons and the noises of some attacks' results.

    Args:
        study: the study.
        attacks: the attacks in the results.
        images: how many training images the files of the dataset hold, if that is known.
        rows: the rows in the results; if not given, all that face one of the attacks.
    """
    victims = {victim.name for attack in attacks for victim in study.victims_of(attack)}
    faced = rows or [row for row in study.defenses if any(row.faces(attack.name) for attack in attacks)]
    friendly = [defense for row in faced for defense in row.apply if isinstance(defense, FriendlyNoise)]
    random = [defense for row in faced for defense in row.apply if isinstance(defense, RandomNoise)]
    sentences = [
        f"Data: {_data(source_of(study.dataset), images)}.",
        f"Victims: {'; '.join(_victim(study, victim) for victim in study.victims if victim.name in victims)}.",
        f"Poisons: {'; '.join(_poisons(attacks))}.",
        _shared(study, attacks),
        f"Friendly noise: {_each(map(_friendly, friendly))}." if friendly else "",
        f"Random noise: mu {_each(f'{noise.mu:g}' for noise in random)}." if random else "",
    ]
    return [sentence for sentence in sentences if sentence]


def _data(dataset: OneSource, images: int | None) -> str:
    # Generated data has a size, files may have a limit, and a new source may have neither.
    count = getattr(dataset, "train_size", None) or getattr(dataset, "train_limit", None)
    known = f"{count:,}" if count else "all" if images is None else f"all {images:,}"
    return f"{dataset.source}{_place(dataset)}, {known} training images"


def _place(dataset: OneSource) -> str:
    """Where the files lie, unless the source's name says what they are."""
    if isinstance(dataset, ImageFolder | Idx):
        return f" {dataset.root}"
    if isinstance(dataset, Npz):
        return f" {dataset.path}"
    if isinstance(dataset, Parquet | WebDataset):
        first, *more = dataset.split("train")
        return f" {first}" + (f" and {len(more)} more files" if more else "")
    return ""


def _shared(study: Study, attacks: Sequence[AttackSettings]) -> str:
    """A warning that all seeds share some networks, so that they do not vary these; empty if each seed has its own."""
    used = {name for attack in attacks for name in attack.surrogates}
    for attack, victim, row in study.meetings():
        if attack in attacks:
            names = study.pretrained_of(victim, row), row.inspected_surrogate
            used |= {name for name in names if name is not None}
    shared = [each.name for each in study.surrogates if each.seed is not None and each.name in used]
    if not shared:
        return ""
    each = ", ".join(shared) if len(shared) <= _NAMED else f"{len(shared)} of {len(used)}"
    return (
        f"Shared networks: {each}. All seeds have the same one, so n counts targets and poisons, and intervals do not "
        "say how results vary from network to network."
    )


def _victim(study: Study, victim: Victim) -> str:
    still = ", no augmentation" if victim.recipe.augmentation.kind == "none" else ""
    return f"{_model(study.model_of(victim))}, {victim.recipe.epochs} epochs, {victim.scenario}{still}"


def _model(model: ModelSettings) -> str:
    sizes = [f"{name} {value}" for name, value in model.model_dump(exclude_defaults=True, exclude={"name"}).items()]
    return f"{model.name} ({', '.join(sizes)})" if sizes else model.name


def _poisons(attacks: Sequence[AttackSettings]) -> list[str]:
    """The names of the attacks, grouped by equal settings, which follow each group."""
    alike: dict[str, list[str]] = {}
    for attack in attacks:
        alike.setdefault(_poison(attack), []).append(attack.name)
    return [f"{', '.join(names)}{words}" for words, names in alike.items()]


def _poison(attack: AttackSettings) -> str:
    if isinstance(attack, Imported):
        return ", imported"
    bound = [] if attack.bound is None else [f"eps {attack.bound:g}"]
    return f" ({', '.join([*bound, f'{100 * attack.budget:g} % of the training set', *_extras(attack)])})"


def _extras(attack: Any) -> list[str]:
    ensemble, restarts = getattr(attack, "ensemble", 1), getattr(attack, "restarts", 1)
    words = [f"{ensemble} surrogates"] if ensemble > 1 else []
    words += [f"{restarts} restarts"] if restarts > 1 else []
    return words + (["targets that the surrogate recognises"] if getattr(attack, "target", "") == "recognised" else [])


def _friendly(noise: FriendlyNoise) -> str:
    return f"convention {noise.convention}, zeta {noise.zeta:g}, lr {noise.lr:g}, lambda {noise.lam:g}"


def _each(words: Iterable[str]) -> str:
    return " or ".join(dict.fromkeys(words))
