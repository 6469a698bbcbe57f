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
        self.folders = {kind: place(kind) for kind in ("victims", "detections", "noise", "filters")}
        """Folders of each row's victims, detections, noise and filters, by kind."""
        self.checkpoint = place("checkpoints")
        self._logs = place("logs")
        self.damaged = place("damaged")
        table, figure = place("tables"), place("figures")
        self._stems = {
            "dataset": place("data"),
            "pretrain": f"{place('surrogates')}/{{surrogate}}/seed{{seed}}-{{member}}",
            "craft": f"{place('poisons')}/{{attack}}/seed{{seed}}",
            "dilute": f"{place('diluted')}/{_CELL}",
            "filter": f"{place('filters')}/{_CELL}",
            "noise": f"{place('noise')}/{_CELL}",
            "train": f"{place('victims')}/{_CELL}",
            "detect": f"{place('detections')}/{_CELL}",
            "transfer": f"{place('transfer')}/{{attack}}/seed{{seed}}",
            "transfer_table": f"{table}{{scope}}-transfer",
            "trials": f"{table}{{scope}}-trials",
            "tables": f"{table}{{scope}}",
            "paper_table": f"{table}{{scope}}-table{{number}}",
            "ablation": f"{table}{{scope}}-ablation-{{ablation}}",
            "landscape_poison": f"{figure}/{{attack}}/landscape-poison",
            "landscape_victims": f"{figure}/{{attack}}/landscape-victims",
            "output_std": f"{figure}/{{attack}}/output-std",
            "feature_view": f"{figure}/{{attack}}/features-{{view}}",
            "figure": f"{figure}/{{figure}}",
            "page": f"{place('reports')}{{scope}}",
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
        return [
            self.dataset,
            self.path("neighbours", "neighbours"),
            *(self.path("trials", "trials", scope=scope) for scope in SCOPES),
            *(f"{self._results}/{kind}/{self._study}/" for kind in folders),
        ]

    def outputs(self, stage: str) -> dict[str, str]:
        """The output patterns of a stage, by the option of its program."""
        return {name: f"{self._stems[stage]}{ending}" for name, ending in _OUTPUTS[stage].items()}

    def made(self, stage: str, **wildcards: str | int) -> dict[str, str]:
        """The outputs of one job, by the option of its program."""
        return {name: pattern.format(**wildcards) for name, pattern in self.outputs(stage).items()}

    def path(self, stage: str, output: str, **wildcards: str | int) -> str:
        """One output of one job."""
        return f"{self._stems[stage]}{_OUTPUTS[stage][output]}".format(**wildcards)


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
