"""Cells: one victim network, trained under one defense on one seed's poisons of one attack."""

from __future__ import annotations

from typing import NamedTuple

from poisonlab.config.study import Study


class Cell(NamedTuple):
    """One trial of the study, by the names of what meets in it."""

    attack: str
    victim: str
    defense: str
    seed: int


def cells_of(study: Study) -> list[Cell]:
    """Every cell, in the tables' order."""
    return [
        Cell(attack.name, victim.name, row.name, seed)
        for attack, victim, row in study.meetings()
        for seed in study.seeds_of(attack)
    ]
