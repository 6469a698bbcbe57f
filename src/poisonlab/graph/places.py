"""Paths of a study's results."""

from __future__ import annotations

from poisonlab.config.study import Study

SCOPES = ("", "-so-far")
"""Scopes of tables and reports: the whole study, or the victims finished so far."""


class Places:
    """Patterns of the paths of a study's results, with wildcards in braces."""

    def __init__(self, study: Study) -> None:
        self._results, self._study = study.results, study.study

        def place(kind: str) -> str:
            return f"{study.results}/{kind}/{study.study}"

        self.dataset = f"{place('data')}.safetensors"
        self.surrogate = f"{place('surrogates')}/{{surrogate}}/seed{{seed}}-{{member}}"
        self.poisons = f"{place('poisons')}/{{attack}}/seed{{seed}}"
        self.folders = {kind: place(kind) for kind in ("victims", "detections", "noise", "filters")}
        """Folders of each row's victims, detections, noise and filters, by kind."""
        self.victim, self.detection, self.noise, self.keep = (f"{folder}/{_CELL}" for folder in self.folders.values())
        self.diluted = f"{place('diluted')}/{_CELL}"
        self.transfer = f"{place('transfer')}/{{attack}}/seed{{seed}}"
        self.table = place("tables")
        self.figure = place("figures")
        self.report = place("reports")
        self.checkpoint = place("checkpoints")
        self._logs = place("logs")
        self.damaged = place("damaged")
        self._stems = {
            "dataset": place("data"),
            "pretrain": self.surrogate,
            "craft": self.poisons,
            "dilute": self.diluted,
            "filter": self.keep,
            "noise": self.noise,
            "train": self.victim,
            "detect": self.detection,
            "transfer": self.transfer,
            "transfer_table": f"{self.table}{{scope}}-transfer",
            "trials": f"{self.table}{{scope}}-trials",
            "tables": f"{self.table}{{scope}}",
            "paper_table": f"{self.table}{{scope}}-table{{number}}",
            "ablation": f"{self.table}{{scope}}-ablation-{{ablation}}",
            "landscape_poison": f"{self.figure}/{{attack}}/landscape-poison",
            "landscape_victims": f"{self.figure}/{{attack}}/landscape-victims",
            "output_std": f"{self.figure}/{{attack}}/output-std",
            "feature_view": f"{self.figure}/{{attack}}/features-{{view}}",
            "figure": f"{self.figure}/{{figure}}",
            "page": f"{self.report}{{scope}}",
            "features": f"{place('features')}/{{scanned}}",
            "suspects": f"{place('suspects')}/{{scanned}}",
            "neighbours": f"{place('neighbours')}",
            "scan_page": f"{study.results}/{study.study}",
        }

    def log(self, stage: str) -> str:
        """The pattern of a stage's logs."""
        name = _LOGS.get(stage, f"/{_CELL}")
        return f"{self._logs}/{stage}{name}.log"

    def remade(self) -> list[str]:
        """Results that the workflow makes again if they are missing: files, and folders with a slash at their end."""
        folders = ("surrogates", "poisons", "diluted", "transfer", *self.folders, "figures", "features", "suspects")
        tables = [f"{self.table}{scope}-trials.csv" for scope in SCOPES]
        return [
            self.dataset,
            f"{self._stems['neighbours']}.safetensors",
            *tables,
            *(f"{self._results}/{kind}/{self._study}/" for kind in folders),
        ]

    def outputs(self, stage: str) -> dict[str, str]:
        """The output patterns of a stage, by the option of its program."""
        stem = self.stem(stage)
        return {name: f"{stem}{ending}" for name, ending in _OUTPUTS[stage].items()}

    def stem(self, stage: str) -> str:
        """The part that the output patterns of a stage share."""
        return self._stems[stage]


_CELL = "{attack}/{victim}/{defense}/seed{seed}"
_LOGS = {
    "dataset": "",
    "pretrain": "/{surrogate}/seed{seed}-{member}",
    "craft": "/{attack}/seed{seed}",
    "transfer": "/{attack}/seed{seed}",
    "transfer_table": "{scope}",
    "trials": "{scope}",
    "tables": "{scope}",
    "paper_table": "{number}{scope}",
    "ablation": "-{ablation}{scope}",
    "landscape_poison": "/{attack}",
    "landscape_victims": "/{attack}",
    "output_std": "/{attack}",
    "feature_view": "/{attack}/{view}",
    "figure": "/{figure}",
    "page": "{scope}",
    "features": "/{scanned}",
    "suspects": "/{scanned}",
    "neighbours": "",
    "scan_page": "",
}
_CARD = {"card": ".card.json"}
_TEXTS = {kind: f".{kind}" for kind in ("csv", "md", "tex", "json")}
_TRAINED = {"weights": ".safetensors", "metrics": ".metrics.json", **_CARD}
_OUTPUTS = {
    "dataset": {"dataset": ".safetensors"},
    "pretrain": _TRAINED,
    "craft": {"poisons": ".safetensors", **_CARD},
    "dilute": {"diluted": ".safetensors"},
    "filter": {"keep": ".safetensors", **_CARD},
    "noise": {"noise": ".safetensors", **_CARD},
    "train": _TRAINED,
    "detect": {"found": ".safetensors", "metrics": ".metrics.json", **_CARD},
    "transfer": {"measured": ".json"},
    "transfer_table": _TEXTS,
    "trials": {"trials": ".csv"},
    "tables": {**_TEXTS, "time": "-time.md"},
    "paper_table": _TEXTS,
    "ablation": _TEXTS,
    "landscape_poison": {"landscape": ".npz"},
    "landscape_victims": {"landscape": ".npz"},
    "output_std": {"std": ".npz"},
    "feature_view": {"view": ".npz"},
    "figure": {"pdf": ".pdf", "png": ".png", "caption": ".txt"},
    "page": {"html": ".html"},
    "features": {"features": ".safetensors", **_CARD},
    "suspects": {"suspects": ".safetensors", **_CARD},
    "neighbours": {"neighbours": ".safetensors", **_CARD},
    "scan_page": {"html": ".html", "csv": ".csv", "json": ".json"},
}
