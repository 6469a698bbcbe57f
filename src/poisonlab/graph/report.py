"""The job that writes the report: tables and figures on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poisonlab.config.study import Study
from poisonlab.graph.figures import BY_VICTIM, Figures
from poisonlab.graph.job import Job
from poisonlab.graph.places import Places
from poisonlab.graph.tables import Tables, versions
from poisonlab.provenance import spec

TITLES = {
    "speed": "Peak accuracy against how fast poisons are learned",
    "final-accuracy": "Final accuracy against peak accuracy",
    "perturbations": "What every attack adds to an image",
    "poison-curves": "How victims of every attack learn",
    "examples": "Poisons and friendly noise",
    "landscape-poison": "Loss around one poison",
    "landscape-victims": "Loss around all poisons",
    "noise-histogram": "Histograms of the noise",
    "output-std": "Spread of the output",
    "learning-curves": "Learning curves",
    "by-victim": "Success by victim",
    "projection": "Features on the plane of the two classes",
    "layer-distances": "Distance from the target, layer by layer",
    "filtered-images": "Images that a filter dropped and kept",
}

Block = dict[str, Any]
_TOLD = ("title", "attack")
"""Keys of a block that name no files."""


class Report:
    """The page with every table and figure of a study; for the victims finished so far, with tables only.

    Args:
        study: the study.
        places: paths of its results.
        tables: its tables.
        figures: its figures.
        looks: folder of the page's template, style and script.
    """

    def __init__(self, study: Study, places: Places, tables: Tables, figures: Figures, looks: str) -> None:
        self.study = study
        self.places = places
        self.tables = tables
        self.figures = figures
        self.looks = looks

    def page(self, scope: str) -> Job:
        """Write the page."""
        sections = self._sections(scope)
        blocks = [block for section in sections for block in section["blocks"]]
        poisons = self._poisons(scope)
        sets = [self.tables.computing.poisons(attack, seed) for attack, seed in poisons]
        return Job(
            "page",
            "report.py",
            {
                "files": [
                    *(path for block in blocks for key, path in block.items() if key not in _TOLD),
                    *([] if scope else sets),
                ],
                "trials": [self.tables.trials_path(scope), *self.study.merge],
                "template": [f"{self.looks}/report.html"],
                "style": [f"{self.looks}/report.css"],
                "script": [f"{self.looks}/report.js"],
            },
            self.places.made("page", scope=scope),
            spec(
                study=self.study.study,
                description=self.study.description,
                scale=self.tables.scale(self.study.attacks),
                lines=self.tables.lines(),
                measures=self.tables.measures(self.study.every_attack),
                sections=sections,
                cards=self.places.outputs("train")["card"],
                detections=self.places.outputs("detect")["card"],
                detectors=[row.name for row in self.study.rows if row.detector is not None],
                poisons=[
                    {"attack": attack, "seed": seed, "path": path}
                    for (attack, seed), path in zip(poisons, sets, strict=True)
                ],
            ),
            depends=(versions(sets),) if scope else (),
            piped=True,
            wildcards={"scope": scope},
        )

    def titles(self, scope: str) -> dict[str, tuple[str, str]]:
        """Section and title of every table and figure, keyed by the path of its files without endings."""
        return {
            path.rpartition(".")[0]: (section["title"], block["title"])
            for section in self._sections(scope)
            for block in section["blocks"]
            for key, path in block.items()
            if key not in _TOLD
        }

    def _poisons(self, scope: str) -> list[tuple[str, int]]:
        """Attack and seed of the poison sets with targets that victims trained here need anyway.

        For the victims finished so far, sets are no inputs: none is made again, and a missing one is not shown.
        """
        cells = self.tables.standing if scope else self.tables.local
        sets = dict.fromkeys((cell.attack, cell.seed) for cell in cells if self.study.attack(cell.attack).has_goal)
        return [each for each in sets if not scope or Path(self.tables.computing.poisons(*each)).is_file()]

    def _sections(self, scope: str) -> list[dict[str, Any]]:
        drawn = [] if scope else self.study.drawn_attacks
        sections = [
            ("Outcome", None, self._outcome(scope)),
            ("Attacks compared", None, [] if scope else self._compared()),
            ("Tables of the paper", None, self._paper(scope)),
            *((f"Figures: {attack.name}", attack.name, self._attack(attack.name)) for attack in drawn),
            ("Filters and features", None, [] if scope else self._filters()),
            ("Ablations", None, self._ablations(scope)),
        ]
        return [{"title": title, "attack": attack, "blocks": blocks} for title, attack, blocks in sections if blocks]

    def _outcome(self, scope: str) -> list[Block]:
        own = self._table("Outcome of every defense", "tables", scope)
        time = {"title": "Time", "findings": self.places.path("tables", "costs", scope=scope)}
        pages = [] if scope else self.figures.outcome
        title = "All defenses at a glance"
        drawn = [
            self._figure(title if len(pages) == 1 else f"{title}, page {number} of {len(pages)}", page)
            for number, page in enumerate(pages, 1)
        ]
        return [*drawn, own, time]

    def _compared(self) -> list[Block]:
        return [self._figure(TITLES[figure], figure) for figure in self.figures.of_all_attacks]

    def _paper(self, scope: str) -> list[Block]:
        tables = [self._table(f"Table {n}", "paper_table", scope, number=n) for n in self.tables.numbers]
        if self.study.transfer is not None:
            tables.append(self._table("Transfer to clean networks", "transfer_table", scope))
        return tables

    def _attack(self, attack: str) -> list[Block]:
        drawn = self.figures.of_attack(self.study.attack(attack))
        return [self._figure(TITLES[figure], f"{attack}/{figure}") for figure in drawn]

    def _filters(self) -> list[Block]:
        bars = [
            {**self._figure(f"{TITLES[BY_VICTIM]}: {each.attack}", f"{each.attack}/{BY_VICTIM}"), "attack": each.attack}
            for each in self.study.figures.by_victim
        ]
        views = [
            {**self._figure(f"{TITLES[kind]}: {view.name}", figure), "attack": view.attack}
            for view in self.study.figures.features
            for figure, kind in self.figures.of_view(view).items()
        ]
        return [*bars, *views]

    def _ablations(self, scope: str) -> list[Block]:
        blocks = []
        for ablation in self.study.ablations:
            varied = " and ".join(ablation.vary)
            title = varied if varied == ablation.name else f"{ablation.name}: {varied}"
            blocks += [] if scope else [self._figure(title, f"ablation-{ablation.name}")]
            blocks.append(self._table(f"{ablation.name}, in numbers", "ablation", scope, ablation=ablation.name))
        return blocks

    def _table(self, title: str, stage: str, scope: str, **wildcards: Any) -> Block:
        made = self.places.made(stage, scope=scope, **wildcards)
        return {"title": title, "findings": made["json"]}

    def _figure(self, title: str, figure: str) -> Block:
        made = self.places.made("figure", figure=figure)
        return {"title": title, "png": made["png"], "caption": made["caption"]}
