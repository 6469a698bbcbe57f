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
        self._stems = {stage: f"{place(kind)}{name}" for stage, (kind, name) in _PLACES.items()}
        self._stems["scan_page"] = f"{study.results}/{study.study}"

    def log(self, stage: str) -> str:
        """The pattern of a stage's logs."""
        _, name = _PLACES.get(stage, ("", ""))
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
_PLACES = {
    "dataset": ("data", ""),
    "pretrain": ("surrogates", "/{surrogate}/seed{seed}-{member}"),
    "craft": ("poisons", "/{attack}/seed{seed}"),
    "dilute": ("diluted", f"/{_CELL}"),
    "filter": ("filters", f"/{_CELL}"),
    "noise": ("noise", f"/{_CELL}"),
    "train": ("victims", f"/{_CELL}"),
    "detect": ("detections", f"/{_CELL}"),
    "transfer": ("transfer", "/{attack}/seed{seed}"),
    "transfer_table": ("tables", "{scope}-transfer"),
    "trials": ("tables", "{scope}-trials"),
    "tables": ("tables", "{scope}"),
    "paper_table": ("tables", "{scope}-table{number}"),
    "ablation": ("tables", "{scope}-ablation-{ablation}"),
    "landscape_poison": ("figures", "/{attack}/landscape-poison"),
    "landscape_victims": ("figures", "/{attack}/landscape-victims"),
    "output_std": ("figures", "/{attack}/output-std"),
    "feature_view": ("figures", "/{attack}/features-{view}"),
    "figure": ("figures", "/{figure}"),
    "page": ("reports", "{scope}"),
    "features": ("features", "/{scanned}"),
    "suspects": ("suspects", "/{scanned}"),
    "neighbours": ("neighbours", ""),
}
"""The folder of each stage's results, and what follows the study's name there; logs are named likewise."""
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
    "tables": {**_TEXTS, "time": "-time.md", "costs": "-time.json"},
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
