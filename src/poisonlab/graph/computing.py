"""The jobs that compute: data, surrogates, poisons, filters, friendly noise, victims, detections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.datasets import source_of
from poisonlab.config.library_model import LibraryModel
from poisonlab.config.models.model import Model
from poisonlab.config.recipe import Recipe
from poisonlab.config.rows import Row
from poisonlab.config.study import Study
from poisonlab.config.types import Settings
from poisonlab.config.victims import Victim
from poisonlab.graph.cells import Cell
from poisonlab.graph.job import Job
from poisonlab.graph.places import Places
from poisonlab.modules import module_name, roots
from poisonlab.provenance import digest_of, spec

Strings = list[str]


class Computing:
    """The computing jobs of a study, by their wildcards.

    Jobs that differ only in seed and member share their settings, which are computed once.
    """

    def __init__(self, study: Study, places: Places) -> None:
        self.study = study
        self.places = places
        self._settings: Callable[..., Strings] = cache(self._settings_of)
        self._outcome: Callable[..., str] = cache(self._outcome_of)

    def dataset(self) -> Job:
        """Read or draw the dataset. No other job depends on the dataset's source."""
        dataset = self.study.dataset
        sources = dict.fromkeys([dataset.source, source_of(dataset).source])
        return Job(
            "dataset",
            "dataset.py",
            {"files": list(dataset.files)},
            self.places.made("dataset"),
            spec(dataset=dataset.told()),
            tuple(root for source in sources for root in roots("data", source)),
            dataset.source,
            watched=(*dataset.files, *dataset.folder_files),
        )

    def pretrain(self, surrogate: str, seed: int, member: int) -> Job:
        """Train one of the attacker's networks on clean data."""
        chosen = self.study.surrogate(surrogate)
        return self.job(
            "pretrain",
            {},
            numbered(self._settings("pretrain", surrogate), seed=seed, member=member),
            [chosen.model],
            (*_optimizers(chosen.recipe), *_methods("defenses", *chosen.apply)),
            chosen.model.name,
            saves=True,
            surrogate=surrogate,
            seed=seed,
            member=member,
        )

    def craft(self, attack: str, seed: int) -> Job:
        """Craft one poison set."""
        chosen = self.study.attack(attack)
        known = _earlier(self.study, chosen)
        surrogates = [self.study.surrogate(name) for name in chosen.surrogates]
        files = tuple(str(path) for path in chosen.files(seed))
        return self.job(
            "craft",
            {
                "surrogates": [
                    self.weights(name, seed, member)
                    for name in chosen.surrogates
                    for member in range(chosen.pretrained_networks)
                ],
                "noise": [] if known is None else [self._of("noise", "noise", Cell(*known, seed))],
                "files": files,
            },
            numbered(self._settings("craft", attack), seed=seed),
            [surrogate.model for surrogate in surrogates],
            (
                *_optimizers(*(surrogate.recipe for surrogate in surrogates)),
                *_methods("attacks", chosen),
                *(["poisonlab.defenses.friendly_noise"] if known is not None else []),
            ),
            chosen.method,
            saves=True,
            watched=files,
            attack=attack,
            seed=seed,
        )

    def dilute(self, attack: str, victim: str, defense: str, seed: int) -> Job:
        """Take the diluted poisons out of a set."""
        cell, row = Cell(attack, victim, defense, seed), self.study.defense(defense)
        assert row.dilution is not None, "only rows with dilution have such a job"
        return Job(
            "dilute",
            "dilute.py",
            {"poisons": [self.poisons(attack, seed)]},
            self.places.made("dilute", **cell._asdict()),
            numbered(self._settings("dilute", *cell[:3]), seed=seed),
            method=row.dilution.method,
            wildcards=cell._asdict(),
        )

    def filter(self, attack: str, victim: str, defense: str, seed: int) -> Job:
        """Decide which training examples a row's filters keep."""
        cell, row = Cell(attack, victim, defense, seed), self.study.defense(defense)
        return self.job(
            "filter",
            {"poisons": self._trained_poisons(cell), "network": [self._inspected(cell)]},
            numbered(self._settings("filter", *cell[:3]), seed=seed),
            [self.inspected_model(cell)],
            _methods("filters", *row.filters),
            "+".join(chosen.method for chosen in row.filters),
            **cell._asdict(),
        )

    def noise(self, attack: str, victim: str, defense: str, seed: int) -> Job:
        """Make the friendly noise of a row."""
        cell, row = Cell(attack, victim, defense, seed), self.study.defense(defense)
        assert row.friendly is not None, "only rows with friendly noise have such a job"
        model = self.study.model_of(self.study.victim(victim), row)
        donor = row.friendly.donor or model
        return self.job(
            "noise",
            {
                "poisons": self._trained_poisons(cell),
                "pretrained": self._pretrained(cell),
                "keep": self._keep(cell),
            },
            numbered(self._settings("noise", *cell[:3]), seed=seed),
            [donor],
            (
                # The noise job checks the settings of the victim's architecture, whichever architecture makes the
                # noise.
                module_name("config.models", model.name),
                *_optimizers(self.study.victim(victim).recipe),
                *_methods("defenses", *row.training),
            ),
            donor.name,
            saves=True,
            **cell._asdict(),
        )

    def train(self, attack: str, victim: str, defense: str, seed: int) -> Job:
        """Train and judge one victim."""
        cell, row = Cell(attack, victim, defense, seed), self.study.defense(defense)
        model = self.study.model_of(self.study.victim(victim), row)
        return self.job(
            "train",
            {
                "poisons": [self._poisons_of(cell)],
                "pretrained": self._pretrained(cell),
                "keep": self._keep(cell),
                "noise": [self._of("noise", "noise", cell)] if row.friendly else [],
            },
            numbered(self._settings("train", *cell[:3]), seed=seed),
            [model],
            (*_optimizers(self.study.victim(victim).recipe), *_methods("defenses", *row.training)),
            "+".join([model.name, *(defense.method for defense in row.training)]),
            saves=True,
            options={"settings": [self.outcome(cell)]},
            **cell._asdict(),
        )

    def detect(self, attack: str, victim: str, defense: str, seed: int) -> Job:
        """Examine the victim of another row."""
        cell, row = Cell(attack, victim, defense, seed), self.study.defense(defense)
        assert row.detector is not None, "only rows with a detector have such a job"
        return self.job(
            "detect",
            {"poisons": [self.poisons(attack, seed)], "network": [self._inspected(cell)]},
            numbered(self._settings("detect", *cell[:3]), seed=seed),
            [self.inspected_model(cell)],
            _methods("detection", row.detector),
            row.detector.method,
            options={"settings": [self.outcome(cell)]},
            **cell._asdict(),
        )

    def transfer(self, attack: str, seed: int) -> Job:
        """Measure how networks trained on clean data classify the poisons."""
        assert self.study.transfer is not None, "only studies that ask for it have such a job"
        networks = self.study.transfer.networks
        return self.job(
            "transfer",
            {
                "poisons": [self.poisons(attack, seed)],
                "networks": [self.weights(name, seed) for name in networks],
            },
            numbered(self._settings("transfer", attack), seed=seed),
            [self.study.surrogate(name).model for name in networks],
            (),
            "transfer",
            options={"settings": [self.transferred(attack)]},
            attack=attack,
            seed=seed,
        )

    def job(
        self,
        stage: str,
        inputs: Mapping[str, Sequence[str]],
        settings: Sequence[str],
        models: Sequence[Model],
        methods: tuple[str, ...],
        method: str,
        saves: bool = False,
        watched: tuple[str, ...] = (),
        options: Mapping[str, Sequence[str]] | None = None,
        **wildcards: str | int,
    ) -> Job:
        """The job of a stage that computes with the dataset and networks of these architectures."""
        more = dict(options or {})
        if saves:
            name = "/".join(map(str, wildcards.values()))
            more["checkpoint"] = [f"{self.places.checkpoint}/{stage}/{name}.safetensors"]
        return Job(
            stage,
            f"{stage}.py",
            {"dataset": [self.places.dataset], **inputs},
            self.places.made(stage, **wildcards),
            settings,
            (*model_roots(*models), *methods),
            method,
            more,
            computes=True,
            saves=saves,
            watched=(*watched, *pretrained_files(*models)),
            wildcards=wildcards,
        )

    # --- Paths ---

    def weights(self, surrogate: str, seed: int, member: int = 0) -> str:
        """The weights of a surrogate, which belong to one seed or to all."""
        shared = self.study.surrogate(surrogate).seed
        seed = seed if shared is None else shared
        return self.places.path("pretrain", "weights", surrogate=surrogate, seed=seed, member=member)

    def poisons(self, attack: str, seed: int) -> str:
        """A poison set."""
        return self.places.path("craft", "poisons", attack=attack, seed=seed)

    def _of(self, stage: str, output: str, cell: Cell) -> str:
        return self.places.path(stage, output, **cell._asdict())

    def victim(self, cell: Cell, output: str = "weights") -> str:
        """The weights of a victim, or its ``metrics``."""
        return self._of("train", output, cell)

    def _trained_poisons(self, cell: Cell) -> list[str]:
        """The poisons, unless the row is a control."""
        return [self._poisons_of(cell)] if self.study.defense(cell.defense).poisoned else []

    def _poisons_of(self, cell: Cell) -> str:
        """The poisons of a row, which may be diluted."""
        if self.study.defense(cell.defense).dilution is not None:
            return self._of("dilute", "diluted", cell)
        return self.poisons(cell.attack, cell.seed)

    def _pretrained(self, cell: Cell) -> list[str]:
        """The weights that the victim begins from; empty from scratch."""
        victim = self.study.victim(cell.victim)
        name = self.study.pretrained_of(victim, self.study.defense(cell.defense))
        return [] if name is None else [self.weights(name, cell.seed, victim.member)]

    def _keep(self, cell: Cell) -> list[str]:
        """The file with the examples that a row's filters keep, if the row has any."""
        return [self._of("filter", "keep", cell)] if self.study.defense(cell.defense).filters else []

    def _inspected(self, cell: Cell) -> str:
        """The weights that a row's filters or detector look at."""
        row = self.study.defense(cell.defense)
        if row.inspected_surrogate is not None:
            return self.weights(row.inspected_surrogate, cell.seed)
        return self.victim(cell._replace(defense=str(self.study.network_of(row))))

    def inspected_model(self, cell: Cell) -> ModelSettings:
        """The architecture of the network that a row's filters or detector look at."""
        row = self.study.defense(cell.defense)
        if row.inspected_surrogate is not None:
            return self.study.surrogate(row.inspected_surrogate).model
        return self.study.model_of(self.study.victim(cell.victim), self.study.defense(str(self.study.network_of(row))))

    def gathered(self, cell: Cell) -> list[str]:
        """All files from which a cell's trial is read: outcome and run card of its own victim, or of a detector's
        examination of another row's victim, and the run cards of its noise and filters."""
        row = self.study.defense(cell.defense)
        stage = "train" if row.detector is None else "detect"
        found = [self._of(stage, output, cell) for output in ("metrics", "card")]
        found += [self._of("noise", "card", cell)] if row.friendly else []
        return found + ([self._of("filter", "card", cell)] if row.filters else [])

    # --- Settings ---

    def _settings_of(self, stage: str, *names: str) -> Strings:
        """Settings of a stage's jobs that differ only in seed and member, both written as 0."""
        sections: Callable[..., dict[str, Any]] = getattr(self, f"_{stage}_sections")
        return spec(**sections(*names), seed=0)

    def _pretrain_sections(self, surrogate: str) -> dict[str, Any]:
        chosen = self.study.surrogate(surrogate)
        return dict(
            **_training(chosen.model, chosen.recipe),
            member=0,
            held_out_per_class=chosen.held_out_per_class,
            apply=[noise.told() for noise in chosen.apply],
        )

    def _craft_sections(self, attack: str) -> dict[str, Any]:
        chosen = self.study.attack(attack)
        return {
            "surrogates": [
                _training(surrogate.model, surrogate.recipe)
                for surrogate in map(self.study.surrogate, chosen.surrogates)
            ],
            # Published places, other seeds, the victims (except for their images) and measures do not change the
            # poisons.
            "attack": chosen.told("published", "victims", "seeds", "low_loss"),
            "fine_tune_per_class": self.study.victims_of(chosen)[0].fine_tune_per_class,
        }

    def _victim_sections(self, victim: str, row: Row) -> dict[str, Any]:
        chosen = self.study.victim(victim)
        return dict(**_training(self.study.model_of(chosen, row), chosen.recipe), start=start_of(chosen))

    def _dilute_sections(self, attack: str, victim: str, defense: str) -> dict[str, Any]:
        dilution = self.study.defense(defense).dilution
        assert dilution is not None
        return dilution.told()

    def _filter_sections(self, attack: str, victim: str, defense: str) -> dict[str, Any]:
        row = self.study.defense(defense)
        return {
            "model": self.inspected_model(Cell(attack, victim, defense, 0)).told(),
            "start": start_of(self.study.victim(victim)),
            "filters": [chosen.told("network", "surrogate") for chosen in row.filters],
        }

    def _noise_sections(self, attack: str, victim: str, defense: str) -> dict[str, Any]:
        row = self.study.defense(defense)
        return dict(
            **self._victim_sections(victim, row),
            defenses=[_begun(own, self.study.victim(victim)) for own in row.training],
        )

    def _train_sections(self, attack: str, victim: str, defense: str) -> dict[str, Any]:
        row = self.study.defense(defense)
        own = [_begun(own, self.study.victim(victim)) for own in row.training]
        level = self.study.attack(attack).history_level
        return dict(
            **self._victim_sections(victim, row),
            **({} if level is None else {"low_loss": level}),
            attack=attack,
            victim=victim,
            defense=defense,
            poisoned=row.poisoned,
            # A victim needs only the first epoch of friendly noise; the file holds the noise itself.
            defenses=[
                {key: each[key] for key in ("method", "def_epoch")} if each["method"] == "friendly-noise" else each
                for each in own
            ],
        )

    def _detect_sections(self, attack: str, victim: str, defense: str) -> dict[str, Any]:
        detector = self.study.defense(defense).detector
        assert detector is not None
        return {
            "attack": attack,
            "victim": victim,
            "defense": defense,
            "model": self.inspected_model(Cell(attack, victim, defense, 0)).told(),
            "detector": detector.told("network", "clean_share"),
            "clean_share": detector.clean_share,
        }

    def _transfer_sections(self, attack: str) -> dict[str, Any]:
        assert self.study.transfer is not None
        networks = map(self.study.surrogate, self.study.transfer.networks)
        return {
            "attack": attack,
            "networks": [{"name": network.name, "model": network.model.told()} for network in networks],
            "score": self.study.transfer.score,
        }

    # --- What an outcome depends on ---

    def outcome(self, cell: Cell) -> str:
        """Digest of all settings that a cell's outcome depends on, except the seed and the victim's name. Trials made
        elsewhere are compared by it."""
        return self._outcome(*cell[:3])

    def _outcome_of(self, attack: str, victim: str, defense: str) -> str:
        return digest_of(self._outcome_strings(attack, victim, defense))

    def _outcome_strings(self, attack: str, victim: str, defense: str) -> Strings:
        chosen, row, network = self.study.attack(attack), self.study.defense(defense), self.study.victim(victim)
        names, begins = (attack, victim, defense), self.study.pretrained_of(network, row)
        told = self._settings("detect" if row.detector else "train", *names)
        specs = {
            "dataset": self.dataset().settings,
            "craft": self._settings("craft", attack),
            "outcome": [string for string in told if not string.startswith("victim=")],
            "start": [] if row.detector else [f"pretrained={begins},{network.member}"],
            "noise": self._settings("noise", *names) if row.friendly else [],
            "dilute": self._settings("dilute", *names) if row.dilution else [],
            "filter": self._settings("filter", *names) if row.filters else [],
        }
        for name in [*chosen.surrogates, *([begins] if begins else [])]:
            specs[f"pretrain {name}"] = self._network_strings(name)
        if row.inspected_surrogate is not None:
            specs["inspected"] = self._network_strings(row.inspected_surrogate)
        if (looked_at := self.study.network_of(row)) is not None:
            specs["network"] = self._outcome_strings(attack, victim, looked_at)
        if (known := _earlier(self.study, chosen)) is not None:
            specs["adaptation"] = self._outcome_strings(*known)
        return [f"{stage} {string}" for stage, strings in specs.items() for string in strings]

    def transferred(self, attack: str) -> str:
        """Digest of all settings that the transfer of an attack's poisons depends on, except the seed."""
        assert self.study.transfer is not None, "only studies that ask for it have such a job"
        names = dict.fromkeys([*self.study.attack(attack).surrogates, *self.study.transfer.networks])
        own = {stage: self._settings(stage, attack) for stage in ("craft", "transfer")}
        specs = {"dataset": self.dataset().settings, **own, **{name: self._network_strings(name) for name in names}}
        if (known := _earlier(self.study, self.study.attack(attack))) is not None:
            specs["adaptation"] = self._outcome_strings(*known)
        return digest_of([f"{part} {string}" for part, strings in specs.items() for string in strings])

    def _network_strings(self, surrogate: str) -> Strings:
        """The settings that a surrogate's weights depend on, except the study's seed."""
        shared = self.study.surrogate(surrogate).seed
        return self._settings("pretrain", surrogate) + ([] if shared is None else [f"shared={shared}"])


def numbered(strings: Sequence[str], **numbers: int) -> Strings:
    """The strings with these numbers in place of 0 in ``name=0``."""
    found = list(strings)
    for name, number in numbers.items():
        found[found.index(f"{name}=0")] = f"{name}={number}"
    return found


def _training(model: ModelSettings, recipe: Settings) -> dict[str, Any]:
    return {"model": model.told(), "recipe": recipe.told("base")}


def start_of(victim: Victim) -> dict[str, Any]:
    """Settings of how the victim begins."""
    return victim.told("name", "model", "pretrained", "member", "recipe")


def _begun(defense: Any, victim: Victim) -> dict[str, Any]:
    """A defense's settings, with the first epoch of friendly noise for this victim."""
    settings: dict[str, Any] = defense.told("def_epoch_pretrained")
    if defense.method == "friendly-noise":
        settings["def_epoch"] = defense.begins(victim.scenario)
    return settings


def _earlier(study: Study, attack: AttackSettings) -> tuple[str, str, str] | None:
    """Attack, victim and defense of the friendly noise that an adaptive attacker knows; None without any."""
    adaptation = getattr(attack, "adaptation", None)
    if adaptation is None or adaptation.friendly_attack is None:
        return None
    victim = study.victims_of(study.attack(adaptation.friendly_attack))[0].name
    return adaptation.friendly_attack, victim, adaptation.friendly_defense


def model_roots(*models: Model) -> tuple[str, ...]:
    """The modules of some architectures."""
    return tuple(root for model in models for root in roots("models", model.name))


def _optimizers(*recipes: Recipe) -> tuple[str, ...]:
    """The modules of the recipes' optimisers, except SGD, which the training loop imports itself."""
    return tuple(module_name("training", recipe.optimizer) for recipe in recipes if recipe.optimizer != "sgd")


def pretrained_files(*models: Model) -> tuple[str, ...]:
    """The weight files that some architectures begin from."""
    found = {model.pretrained for model in models if isinstance(model, LibraryModel) and model.pretrained is not None}
    return tuple(sorted(found))


def _methods(kind: str, *chosen: Any) -> tuple[str, ...]:
    """The modules of some attacks, defenses, filters or detectors."""
    return tuple(root for settings in chosen for root in roots(kind, settings.method))
