"""Which jobs a study comes to, as ``workflow/rules`` ask for them; trials that are merged are not subtracted."""

from __future__ import annotations

from dataclasses import dataclass

from poisonlab.config.rows import Row
from poisonlab.config.study import AttackSettings, Study

Cell = tuple[AttackSettings, Row, int]
"""Attack, row and seed."""


@dataclass(frozen=True)
class Jobs:
    """Every job that computes, and the number of those that only read and draw.

    Attributes:
        pretrain: surrogate, seed, member.
        craft: attack, seed.
        filter, noise, train, detect: cells.
        landscape_poison, landscape_victims, output_std: attacks.
        drawings: figures that are drawn.
        tables: the dataset, the trials, the tables made of them, and the report.
    """

    pretrain: frozenset[tuple[str, int, int]]
    craft: tuple[tuple[AttackSettings, int], ...]
    filter: tuple[Cell, ...]
    noise: tuple[Cell, ...]
    train: tuple[Cell, ...]
    detect: tuple[Cell, ...]
    landscape_poison: tuple[AttackSettings, ...]
    landscape_victims: tuple[AttackSettings, ...]
    output_std: tuple[AttackSettings, ...]
    drawings: int
    tables: int


def jobs_of(study: Study) -> Jobs:
    """All jobs of ``snakemake`` without a target, but for the one that ends it."""
    cells = tuple((attack, row, seed) for attack, row in study.meetings() for seed in study.seeds_of(attack))
    around_poison = tuple(attack for attack in study.drawn_attacks if attack.around_poison)
    around_poisons = tuple(attack for attack in study.drawn_attacks if study.landscape_victims(attack.name))
    spread = tuple(
        attack for attack in study.drawn_attacks if attack.surrogates or study.landscape_victims(attack.name)
    )
    paper_tables = {place.table for attack in study.attacks for place in attack.published}
    return Jobs(
        pretrain=_pretrained(study, around_poison),
        craft=tuple((attack, seed) for attack in study.attacks for seed in study.seeds_of(attack)),
        filter=tuple(cell for cell in cells if cell[1].filters),
        noise=tuple(cell for cell in cells if cell[1].friendly is not None),
        train=tuple(cell for cell in cells if cell[1].detector is None),
        detect=tuple(cell for cell in cells if cell[1].detector is not None),
        landscape_poison=around_poison,
        landscape_victims=around_poisons,
        output_std=spread,
        drawings=1
        + len(study.ablations)
        + _curves_and_examples(study)
        + sum(map(len, (around_poison, around_poisons, spread))),
        tables=4 + len(paper_tables) + len(study.ablations),
    )


def _pretrained(study: Study, around_poison: tuple[AttackSettings, ...]) -> frozenset[tuple[str, int, int]]:
    """The surrogates that something is crafted on, drawn around, or begun from."""
    needed = {(attack.surrogates[0], study.shown_seed(attack), 0) for attack in around_poison}
    for attack in study.attacks:
        victim, seeds = study.victim_of(attack), study.seeds_of(attack)
        members = range(attack.pretrained_networks)
        needed |= {(name, seed, member) for name in attack.surrogates for seed in seeds for member in members}
        if victim.pretrained is not None:
            needed |= {(victim.pretrained, seed, victim.member) for seed in seeds}
    return frozenset(needed)


def _curves_and_examples(study: Study) -> int:
    drawn = 0
    for attack in study.drawn_attacks:
        faced = [row for row in study.defenses if row.faces(attack.name)]
        drawn += any(row.detector is None for row in faced)
        # Examples of the noise and its histogram.
        drawn += 2 * any(row.friendly is not None and row.poisoned for row in faced)
    return drawn
