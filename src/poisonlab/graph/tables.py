"""The jobs that make tables, and the trials that tables are made of."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from poisonlab.config.ablations import Ablation, AttackVariant, Variant
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.class_folders import count_images
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.datasets import source_of
from poisonlab.config.rows import Row
from poisonlab.config.scale import scale_of
from poisonlab.config.study import Study
from poisonlab.config.victims import Victim
from poisonlab.evaluation.trials import at_first_victim, read_trials
from poisonlab.graph.cells import Cell, cells_of
from poisonlab.graph.computing import Computing
from poisonlab.graph.job import Job
from poisonlab.graph.places import Places
from poisonlab.provenance import digest_of, spec

Meeting = tuple[AttackSettings, Victim, Row]


class Tables:
    """The tables of a study, its paper and its ablations; of all victims, or of those finished so far.

    Args:
        study: the study.
        places: paths of its results.
        computing: the jobs that make the trials.
        reference: folder of the published numbers, with one folder per paper.
    """

    def __init__(self, study: Study, places: Places, computing: Computing, reference: str) -> None:
        self.study = study
        self.places = places
        self.computing = computing
        self.reference = reference

    @property
    def numbers(self) -> list[int]:
        """Numbers of the paper's tables for which the study has results."""
        return sorted({place.table for attack in self.study.attacks for place in attack.published})

    @property
    def published(self) -> Path:
        """The folder of the paper's numbers."""
        return Path(self.reference, str(self.study.paper))

    # --- Cells ---

    @cached_property
    def local(self) -> list[Cell]:
        """The cells that are run here, because no merged trial has their settings.

        Raises:
            DataError: a file of trials is missing or damaged.
        """
        answered = {cell for cells in self._merged.values() for cell, is_current in cells if is_current}
        return [cell for cell in cells_of(self.study) if cell not in answered]

    @property
    def unused(self) -> list[str]:
        """A line for each merged file with trials of other settings, or without any trial of this study."""
        lines = []
        for path, cells in self._merged.items():
            if other := sum(not is_current for _, is_current in cells):
                count = f"{other} of {len(cells)}"
                lines.append(f"merge: {path}: trials with other settings than the config ({count}) are not used")
            elif not cells:
                lines.append(f"merge: {path}: no trial is of an attack, victim, row and seed of this study")
        return lines

    @cached_property
    def _merged(self) -> dict[str, list[tuple[Cell, bool]]]:
        """The trials of this study's cells in each merged file, and whether they have the cell's settings."""
        wanted = set(cells_of(self.study))
        first = {attack.name: self.study.victims_of(attack)[0].name for attack in self.study.every_attack}
        found: dict[str, list[tuple[Cell, bool]]] = {}
        for path in self.study.merge:
            trials = [(Cell(*at_first_victim(each, first).key), each.settings) for each in read_trials(Path(path))]
            found[path] = [(cell, told == self.computing.outcome(cell)) for cell, told in trials if cell in wanted]
        return found

    @cached_property
    def standing(self) -> list[Cell]:
        """The local cells whose files all exist, whether current or not."""
        return [cell for cell in self.local if all(map(os.path.exists, self.computing.gathered(cell)))]

    # --- Jobs ---

    def trials(self, scope: str) -> Job:
        """Gather one line per victim.

        Results so far are no inputs, so nothing is made again. Victims whose card has other settings than the config
        are refused by name.
        """
        cells = self.standing if scope else self.local
        files = [path for cell in cells for path in self.computing.gathered(cell)]
        return Job(
            "trials",
            "trials.py",
            {"files": [] if scope else files, "merge": self.study.merge},
            self.places.made("trials", scope=scope),
            spec(lines=list(self._gathering(cells, known=not scope))),
            options={kind: [folder] for kind, folder in self.places.folders.items()},
            depends=(versions(files),) if scope else (),
            piped=True,
            wildcards={"scope": scope},
        )

    def tables(self, scope: str) -> Job:
        """Make the study's own table."""
        attacks = self.study.attacks
        claims = [_claim(attack, attack.published[0]) for attack in attacks if attack.published]
        return self._table(
            "tables",
            scope,
            self._described(attacks),
            {
                **self._shown,
                **self._filter_claim,
                **self._joined,
                **({} if (said := self.study.poison_claims) is None else {"poison_claims": said.told()}),
                "claims": claims,
            },
            published=bool(claims),
        )

    def paper_table(self, scope: str, number: int) -> Job:
        """Make one table of the paper, in its own layout."""
        attacks = [attack for attack in self.study.attacks if number in [place.table for place in attack.published]]
        return self._table(
            "paper_table",
            scope,
            self._described(attacks),
            {
                **self._shown,
                "claims": [
                    _claim(attack, place) for attack in attacks for place in attack.published if place.table == number
                ],
            },
            published=True,
            number=number,
        )

    def ablation(self, scope: str, ablation: str) -> Job:
        """Make the table of one ablation; for a defense, beside undefended training if the study has it."""
        chosen = next(each for each in self.study.ablations if each.name == ablation)
        meetings = self._varied(chosen)
        attacks = list({attack.name: attack for attack, _, _ in meetings}.values())
        # Neural Cleanse has a setting that is called as a measure, whose column it would take.
        measured = {measure.name for attack in attacks for measure in attack.measures}
        called = {name: f"{name}_setting" if name in measured else name for name in chosen.vary}
        lines = self.lines(meetings)
        for line in lines:
            line["seeds"] = [seed for seed in line["seeds"] if chosen.seeds is None or seed in chosen.seeds]
        return self._table(
            "ablation",
            scope,
            self._described(attacks, [self.study.defense(name) for name in chosen.defenses or ()]),
            {
                "name": chosen.name,
                "title": chosen.title,
                **({"attack": chosen.attack} if chosen.defense is None else {"defense": chosen.defense}),
                "method": chosen.method or self.study.attack(str(chosen.attack)).method,
                "settings": list(called.values()),
                "lines": lines,
                "measures": self.measures(attacks),
                "compare": self.undefended,
                "mean_over_victims": self.study.mean_over_victims,
                "variants": [
                    {"row": name, "values": {called[k]: v for k, v in variant.values.items()}, "own": variant.own}
                    for name, variant in self._variants(ablation)
                ],
            },
            published=False,
            ablation=ablation,
        )

    def _variants(self, ablation: str) -> list[tuple[str, Variant | AttackVariant]]:
        """The variants of an ablation, with their names."""
        rows = [(each.row.name, each) for each in self.study.variants if each.ablation == ablation]
        return [*rows, *((each.attack.name, each) for each in self.study.attack_variants if each.ablation == ablation)]

    @property
    def undefended(self) -> list[str]:
        """The name of the undefended row, if there is one; the first row of ``compare`` may have a defense."""
        return [] if (row := self.study.undefended) is None else [row.name]

    @property
    def transferred(self) -> list[tuple[str, int]]:
        """The poison sets, by attack and seed, that clean networks classify."""
        transfer = self.study.transfer
        attacks = [] if transfer is None else map(self.study.attack, transfer.attacks)
        return [(attack.name, seed) for attack in attacks for seed in self.study.seeds_of(attack)]

    def transfer_table(self, scope: str = "") -> Job:
        """Make the table of the transfer to clean networks; as in ``trials``, results so far are no inputs."""
        transfer = self.study.transfer
        assert transfer is not None, "only studies that ask for it have such a job"
        attacks = [self.study.attack(name) for name in transfer.attacks]
        shared = [name for name in transfer.networks if self.study.surrogate(name).seed is not None]
        claimed = transfer.table is not None
        measured = [self.places.path("transfer", "measured", attack=a, seed=s) for a, s in self.transferred]
        standing = [path for path in measured if os.path.exists(path)] if scope else []
        options = {"measured": standing} if standing else {}
        return Job(
            "transfer_table",
            "transfer_table.py",
            {
                "measured": [] if scope else measured,
                "results": [self.places.path("tables", "csv", scope=scope)],
                "files": sorted(map(str, self.published.glob("*"))) if claimed else [],
            },
            self.places.made("transfer_table", scope=scope),
            spec(
                **self._described(attacks),
                **transfer.told("attacks"),
                **({"shared": shared} if shared else {}),
                rows=[
                    {
                        "attack": attack.name,
                        "victim": self.study.victims_of(attack)[0].name,
                        "called": (attack.published[0].row if attack.published else None) or attack.name,
                        **(self._expected_transfer(attack) if scope else {}),
                    }
                    for attack in attacks
                ],
                defense=next(iter(self.undefended), None),
            ),
            options={**options, **({"reference": [str(self.published)]} if claimed else {})},
            depends=(versions(standing),) if scope else (),
            wildcards={"scope": scope},
        )

    def _expected_transfer(self, attack: AttackSettings) -> dict[str, Any]:
        """The settings and seeds that tell this study's poison sets from others."""
        return {"settings": self.computing.transferred(attack.name), "seeds": list(self.study.seeds_of(attack))}

    def _table(
        self, stage: str, scope: str, described: dict[str, Any], told: dict[str, Any], published: bool, **wildcards: Any
    ) -> Job:
        return Job(
            stage,
            f"{stage}.py",
            {
                "trials": [self.trials_path(scope), *self.study.merge],
                "files": sorted(map(str, self.published.glob("*"))) if published else [],
            },
            self.places.made(stage, scope=scope, **wildcards),
            spec(**described, **told),
            options={"reference": [str(self.published)]} if published else {},
            piped=True,
            wildcards={**wildcards, "scope": scope},
        )

    def trials_path(self, scope: str) -> str:
        """The file of the study's own trials."""
        return self.places.path("trials", "trials", scope=scope)

    def every(self, scope: str) -> list[str]:
        """All files of all tables."""
        outputs = [self.places.made("trials", scope=scope), self.places.made("tables", scope=scope)]
        outputs += [self.places.made("paper_table", scope=scope, number=number) for number in self.numbers]
        outputs += [self.places.made("ablation", scope=scope, ablation=each.name) for each in self.study.ablations]
        outputs += [self.places.made("transfer_table", scope=scope)] if self.study.transfer is not None else []
        return [path for found in outputs for path in found.values()]

    # --- What the programs are told ---

    def _described(self, attacks: Sequence[AttackSettings], rows: Sequence[Row] = ()) -> dict[str, Any]:
        return {"description": self.study.description, "scale": self.scale(attacks, rows)}

    def scale(self, attacks: Sequence[AttackSettings], rows: Sequence[Row] = ()) -> list[str]:
        """``scale_of`` the results of some attacks and rows, with the number of images if the files can be counted."""
        return scale_of(self.study, attacks, self._images, rows)

    @cached_property
    def _images(self) -> int | None:
        dataset = source_of(self.study.dataset)
        if not isinstance(dataset, ImageFolder) or dataset.train_limit is not None:
            return None
        return count_images(Path(dataset.root) / "train")

    @property
    def _filter_claim(self) -> dict[str, Any]:
        """The filter claim, and the rows that it is tested on: those that only filter, because noise has a cost of its
        own."""
        if self.study.filter_claim is None:
            return {}
        only = [row.name for row in self.study.defenses if row.filters == row.apply != () and not row.pretrained]
        return {"filter_claim": self.study.filter_claim.told(), "only_filters": only}

    @property
    def _joined(self) -> dict[str, Any]:
        """Lines of tables with attacks side by side that several rows share, or that have another name than their
        row."""
        lines: dict[str, list[str]] = {}
        for row in self.study.defenses:
            lines.setdefault(row.line, []).append(row.name)
        joined = [{"line": line, "rows": rows} for line, rows in lines.items() if rows != [line]]
        return {"joined": joined} if joined else {}

    @property
    def _shown(self) -> dict[str, Any]:
        """What the study's own table and those of the paper are made of."""
        return {
            "lines": self.lines(self.listed),
            "measures": self.measures(self.study.attacks),
            "compare": list(self.study.compare),
            "mean_over_victims": self.study.mean_over_victims,
            **({"only_successes": True} if self.study.only_successes else {}),
        }

    @property
    def listed(self) -> list[Meeting]:
        """The meetings in the study's own tables; ablations have tables of their own."""
        rows, attacks = ({each.name for each in own} for own in (self.study.defenses, self.study.attacks))
        return [(a, victim, row) for a, victim, row in self.study.meetings() if a.name in attacks and row.name in rows]

    def _varied(self, ablation: Ablation) -> list[Meeting]:
        """The meetings of the variants and of the varied row or attack, against which all are tested. For a row,
        undefended training is added."""
        some = [name for name, _ in self._variants(ablation.name)]
        if ablation.defense is None:
            rows, faced = {*(ablation.defenses or ())}, {str(ablation.attack), *some}
        else:
            rows = {*self.undefended, ablation.defense, *some}
            listed = [attack.name for attack in self.study.attacks]
            faced = {*(ablation.attacks or self.study.defense(ablation.defense).attacks or listed)}
        return [(a, victim, row) for a, victim, row in self.study.meetings() if a.name in faced and row.name in rows]

    def lines(self, meetings: Iterable[Meeting] | None = None) -> list[dict[str, Any]]:
        """The trials of each row of a table; of all tables if ``meetings`` is not given."""
        return [
            {
                "attack": attack.name,
                "victim": victim.name,
                "defense": row.name,
                "control": not row.poisoned,
                "seeds": list(self.study.seeds_of(attack)),
                "settings": self.computing.outcome(Cell(attack.name, victim.name, row.name, 0)),
                "called": row.published or row.name,
                **({"filters": True} if row.filters else {}),
            }
            for attack, victim, row in (self.study.meetings() if meetings is None else meetings)
        ]

    def measures(self, attacks: Iterable[AttackSettings]) -> list[dict[str, Any]]:
        """The measures of each attack's outcome."""
        return [
            {"attack": attack.name, "measures": [measure.told() for measure in attack.measures]} for attack in attacks
        ]

    def _gathering(self, cells: Sequence[Cell], known: bool) -> Iterable[dict[str, Any]]:
        """Some cells by row, and the other jobs that each row's victims cost besides their own training."""
        found = set(cells)
        for attack, victim, row in self.study.meetings():
            first = Cell(attack.name, victim.name, row.name, 0)
            seeds = [seed for seed in self.study.seeds_of(attack) if first._replace(seed=seed) in found]
            network = self.study.network_of(row) if row.looks else None
            if seeds:
                yield {
                    "attack": attack.name,
                    "victim": victim.name,
                    "defense": row.name,
                    "seeds": seeds,
                    "settings": self.computing.outcome(first) if known else None,
                    "detector": row.detector is not None,
                    "noise": row.friendly is not None,
                    "filter": bool(row.filters),
                    "network": network,
                    "network_settings": network and self.computing.outcome(first._replace(defense=network)),
                }


def versions(files: Sequence[str]) -> str:
    """A digest that changes when a file appears, disappears or is written again."""
    return digest_of([f"{path}@{os.stat(path).st_mtime_ns}" for path in files])


def _claim(attack: AttackSettings, place: Any) -> dict[str, Any]:
    return dict(attack=attack.name, **place.told())
