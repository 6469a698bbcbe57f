"""The stages of a study: how many jobs, and how much work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from poisonlab.config.attacks.attack import CraftedAttack
from poisonlab.config.models.model import Model
from poisonlab.config.recipe import Recipe
from poisonlab.config.rows import Row, TrainingSettings
from poisonlab.config.start import Start
from poisonlab.config.study import AttackSettings, Study
from poisonlab.cost.amount import Work, passes, total
from poisonlab.cost.crafting import Means, crafting, targets
from poisonlab.cost.inspecting import detecting, filtering
from poisonlab.cost.jobs import Cell, Jobs, jobs_of
from poisonlab.cost.landscapes import around_poison, around_poisons, output_std
from poisonlab.cost.networks import FORWARD, Network, network_of
from poisonlab.cost.sizes import Sizes
from poisonlab.cost.training import making_noise, observing, scheduled, training

_PLAIN = "train"


@dataclass(frozen=True)
class Stage:
    """A line of the estimate."""

    name: str
    jobs: int
    work: Work


def stages_of(study: Study, sizes: Sizes) -> list[Stage]:
    """All stages, in the order in which they run; those without a job are left out.

    Raises:
        SettingsError: how much a method computes is not known, or a network cannot take images of this size.
    """
    bench, jobs = _Bench(study, sizes), jobs_of(study)
    stages = [
        _stage("pretrain", map(bench.pretrain, (name for name, _, _ in sorted(jobs.pretrain)))),
        *(
            Stage(f"craft {attack.name}", len(seeds), bench.craft(attack).times(len(seeds)))
            for attack in study.attacks
            if (seeds := study.seeds_of(attack))
        ),
        _stage("filter", (bench.filter(attack, row)[0] for attack, row, _ in jobs.filter)),
        _stage("noise", (bench.noise(attack, row) for attack, row, _ in jobs.noise)),
        *(_stage(name, (bench.train(attack, row) for attack, row, _ in cells)) for name, cells in bench.by_cost(jobs)),
        _stage("detect", (bench.detect(attack, row) for attack, row, _ in jobs.detect)),
        _stage("landscapes", bench.landscapes(jobs)),
        Stage("data, tables, drawings", jobs.tables + jobs.drawings, Work()),
    ]
    return [stage for stage in stages if stage.jobs]


def _stage(name: str, amounts: Iterable[Work]) -> Stage:
    each = list(amounts)
    return Stage(name, len(each), total(each))


@dataclass(frozen=True)
class _Bench:
    """The work of single jobs of one study."""

    study: Study
    sizes: Sizes

    def pretrain(self, name: str) -> Work:
        surrogate = self.study.surrogate(name)
        network = self._network(surrogate.model)
        examples = self.sizes.train - surrogate.held_out_per_class * self.sizes.classes
        test = passes("forward", network, FORWARD, self.sizes.test)
        return training(network, surrogate.recipe, examples, surrogate.apply) + test

    def craft(self, attack: AttackSettings) -> Work:
        surrogates = [self.study.surrogate(name) for name in attack.surrogates]
        means = Means(
            tuple(self._network(surrogate.model) for surrogate in surrogates),
            surrogates[0].recipe if surrogates else Recipe(),
            self.sizes,
            self._pool(attack),
        )
        return crafting(attack, means)

    def filter(self, attack: AttackSettings, row: Row) -> tuple[Work, float]:
        """The work of the row's filters, and how many examples they keep."""
        looked_at = row if row.network is None else self.study.defense(row.network)
        network = self._network(self.study.model_of(self.study.victim_of(attack), looked_at))
        return filtering(row.filters, network, self._pool(attack), self.sizes.classes)

    def noise(self, attack: AttackSettings, row: Row) -> Work:
        assert row.friendly is not None
        victim = self.study.victim_of(attack)
        network = self._network(row.friendly.donor or self.study.model_of(victim, row))
        # A donor of another architecture begins from scratch.
        start = Start() if row.friendly.donor else victim
        examples, until = self._examples(attack, row), row.friendly.begins(victim.scenario)
        before = training(network, victim.recipe, examples, row.training, start=start, until=until)
        return before + making_noise(network, row.friendly, examples)

    def train(self, attack: AttackSettings, row: Row) -> Work:
        victim = self.study.victim_of(attack)
        network = self._network(self.study.model_of(victim, row))
        recipe = scheduled(victim.recipe, row.training)
        seen = observing(network, recipe, targets(attack, self.sizes), self.sizes.test)
        return training(network, victim.recipe, self._examples(attack, row), row.training, start=victim) + seen

    def by_cost(self, jobs: Jobs) -> Iterator[tuple[str, list[Cell]]]:
        """The victims, apart by the defenses that change what a training costs."""
        names = {(attack, row): self._training_name(attack, row) for attack, row, _ in jobs.train}
        for name in sorted(set(names.values()), key=lambda name: (name != _PLAIN, name)):
            yield name, [cell for cell in jobs.train if names[cell[:2]] == name]

    def _training_name(self, attack: AttackSettings, row: Row) -> str:
        victim = self.study.victim_of(attack)
        network = self._network(self.study.model_of(victim, row))

        def cost(*defenses: TrainingSettings) -> float:
            return training(network, victim.recipe, 1, defenses, start=victim).flops

        costly = [defense.method for defense in row.training if cost(defense) != cost()]
        return " ".join([_PLAIN, *dict.fromkeys(costly)])

    def detect(self, attack: AttackSettings, row: Row) -> Work:
        assert row.detector is not None
        looked_at = self.study.defense(row.detector.network)
        network = self._network(self.study.model_of(self.study.victim_of(attack), looked_at))
        return detecting(row.detector, network, self.sizes, targets(attack, self.sizes))

    def landscapes(self, jobs: Jobs) -> Iterator[Work]:
        settings = self.study.figures.landscape
        for attack in jobs.landscape_poison:
            surrogate = self._network(self.study.surrogate(attack.surrogates[0]).model)
            yield around_poison(settings, surrogate, self._poisons(attack))
        for attack in jobs.landscape_victims:
            victim = self._network(self.study.model_of(self.study.victim_of(attack)))
            victims = len(self.study.landscape_victims(attack.name))
            yield around_poisons(settings, victim, self._poisons(attack), victims)
        for attack in jobs.output_std:
            victims = len(self.study.landscape_victims(attack.name))
            networks = victims + bool(attack.surrogates)
            model = self.study.model_of(self.study.victim_of(attack))
            yield output_std(self.study.figures.output_std, self._network(model), self._poisons(attack), networks)

    def _network(self, model: Model) -> Network:
        return network_of(model, self.sizes.classes, self.sizes.image_shape)

    def _pool(self, attack: AttackSettings) -> int:
        return self.sizes.trained_on(self.study.victim_of(attack))

    def _examples(self, attack: AttackSettings, row: Row) -> float:
        """What a victim is trained on when its filters are done."""
        return self.filter(attack, row)[1] if row.filters else self._pool(attack)

    def _poisons(self, attack: AttackSettings) -> int:
        if not isinstance(attack, CraftedAttack):
            return 1
        return Means((), Recipe(), self.sizes, self._pool(attack)).poisons(attack)
