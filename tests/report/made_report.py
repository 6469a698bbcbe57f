"""The report of a made-up study: real tables of made trials, and poison sets whose targets have known colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from loading import program
from made import line, put, told, trial
from PIL import Image

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.evaluation.trials import Trial
from poisonlab.provenance import spec

LOOKS = Path(__file__).resolve().parents[2] / "workflow" / "report"
CLASSES = {"base_class": "dog", "true_class": "cat", "adversarial_class": "dog"}


@dataclass(frozen=True)
class MadeReport:
    """A study of one or two attacks, some victims, defenses and seeds; seeds share their target in pairs."""

    folder: Path
    attacks: Sequence[str] = ("gm", "sa")
    victims: Sequence[str] = ("wide", "deep")
    defenses: Sequence[str] = ("clean", "none", "friends-bernoulli")
    seeds: int = 4

    def trial(self, attack: str, victim: str, defense: str, seed: int) -> Trial:
        """Undefended victims of ``gm`` fall for even seeds; those of ``sa`` for a part of their targets."""
        fooled = float(defense == "none" and seed % 2 == 0)
        success = fooled if attack == "gm" else 0.25 * fooled
        return trial(
            attack,
            defense,
            seed,
            success,
            accuracy=0.9 - 0.01 * seed / self.seeds,
            seconds=5.0 + 7 * seed,
            victim=victim,
            settings=f"settings of {attack}/{defense}",
            targets=1 if attack == "gm" else 8,
            classes=CLASSES,
            target_accuracy=1.0 - success,
        )

    @property
    def html(self) -> Path:
        return self.folder / "results/reports/made.html"

    def make(self) -> Path:
        """Write everything, the page last."""
        lines = [
            line(attack, defense, range(self.seeds), victim)
            for attack in self.attacks
            for victim in self.victims
            for defense in self.defenses
        ]
        every = [
            self.trial(each["attack"], each["victim"], each["defense"], s) for each in lines for s in each["seeds"]
        ]
        trials = put(self.folder / "trials.csv", every)
        outputs = {kind: self.folder / f"made.{kind}" for kind in ("csv", "md", "tex", "json", "time", "costs")}
        shown = told(lines, ("none",), mean_over_victims=True)
        _call("tables", shown, trials=trials, **outputs)
        figure, caption = self.folder / "figure.png", self.folder / "figure.txt"
        Image.new("RGB", (600, 300), (240, 240, 235)).save(figure)
        caption.write_text("A figure without anything on it.", encoding="utf-8")
        drawn = {"title": "Figure", "png": str(figure), "caption": str(caption)}
        table = {"title": "Outcome of every defense", "findings": str(outputs["json"])}
        told_to_page = {
            "study": "made",
            "description": "Made up, as a test.",
            "scale": ["Data: 1,234 images."],
            "lines": lines,
            "measures": shown["measures"],
            "sections": [
                {"title": "Outcome", "blocks": [drawn, table, {"title": "Time", "findings": str(outputs["costs"])}]},
                {"title": "Figures: gm", "attack": "gm", "blocks": [{**drawn, "title": "Curves of gm"}]},
                {"title": "Figures: sa", "attack": "sa", "blocks": [{**drawn, "title": "Curves of sa"}]},
                {
                    "title": "Filters and features",
                    "blocks": [{**drawn, "title": f"Bars of {name}", "attack": name} for name in ("gm", "sa")],
                },
            ],
            "cards": f"{self.folder}/results/victims/made/{{attack}}/{{victim}}/{{defense}}/seed{{seed}}.card.json",
            "detections": "none",
            "poisons": [
                {"attack": attack, "seed": seed, "path": str(self._poisons(attack, seed))}
                for attack in self.attacks
                for seed in range(self.seeds)
            ],
        }
        looks = {"template": LOOKS / "report.html", "style": LOOKS / "report.css", "script": LOOKS / "report.js"}
        _call("report", told_to_page, **looks, trials=trials, html=self.html)
        return self.html

    def _poisons(self, attack: str, seed: int) -> Path:
        """A set with one target, or with eight that carry a white square."""
        generator = torch.Generator().manual_seed(seed // 2)
        targets = torch.randint(256, (1 if attack == "gm" else 8, 3, 32, 32), generator=generator, dtype=torch.uint8)
        if attack == "sa":
            targets[:, :, :8, :8] = 255
        count = len(targets)
        images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        poisons = PoisonSet(
            torch.tensor([0]),
            images,
            torch.tensor([1]),
            images,
            Goal(targets, torch.zeros(count, dtype=torch.int64), torch.ones(count, dtype=torch.int64)),
        )
        path = self.folder / f"results/poisons/made/{attack}/seed{seed}.safetensors"
        poisons.save(path)
        return path


def _call(name: str, values: dict[str, Any], **options: Path) -> None:
    given = [each for option, path in options.items() for each in (f"--{option}", str(path))]
    program(name).main(["--spec", *spec(**values), *given])
