"""Cells: one victim network each, trained under one defense on the poisons of one attack and seed."""

from __future__ import annotations

from typing import NamedTuple

from poisonlab.config.study import Study


class Cell(NamedTuple):
    """One trial of the study, by names."""

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
