"""The jobs that measure for figures and those that draw, so that a change of looks computes nothing again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from poisonlab.config.architectures import ModelSettings
from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.figures_of_attacks import MOST_CURVES
from poisonlab.config.figures_of_filters import ByVictim, FeatureView, ViewKind
from poisonlab.config.measures import ACCURACY, FIRST_EPOCH, PEAK_ACCURACY
from poisonlab.config.rows import Row
from poisonlab.config.study import Study
from poisonlab.config.types import Settings
from poisonlab.evaluation.choosing import with_means
from poisonlab.evaluation.outcome_pages import outcome_pages
from poisonlab.graph.cells import Cell
from poisonlab.graph.computing import Computing, start_of
from poisonlab.graph.job import Job
from poisonlab.graph.places import Places
from poisonlab.graph.tables import Tables
from poisonlab.modules import module_name
from poisonlab.provenance import spec

OF_ALL_ATTACKS = ("speed", "final-accuracy", "perturbations", "poison-curves")
"""Figures that compare attacks on the accuracy as a whole, in the order of the report."""
BY_VICTIM = "by-victim"
OF_AN_ATTACK = ("examples", "landscape-poison", "landscape-victims", "noise-histogram", "output-std", "learning-curves")
"""Figures of one attack's poisons and victims, in the order of the report."""


class Figures:
    """The figures of a study, called ``outcome`` (and ``outcome-2``, ... where one page is too small),
    ``ablation-<name>`` and ``<attack>/<figure>``.

    Figures of an attack show its first victim. Only ``<attack>/by-victim`` and those of a view,
    ``<attack>/<kind>-<view>``, name their victims.
    """

    def __init__(self, study: Study, places: Places, computing: Computing, tables: Tables) -> None:
        self.study = study
        self.places = places
        self.computing = computing
        self.tables = tables

    # --- Which there are ---

    def every(self) -> list[str]:
        """The names of all figures."""
        drawn = [(attack, figure) for attack in self.study.drawn_attacks for figure in self.of_attack(attack)]
        return [
            *self.outcome,
            *self.of_all_attacks,
            *(f"ablation-{ablation.name}" for ablation in self.study.ablations),
            *(f"{attack.name}/{figure}" for attack, figure in drawn),
            *(f"{bars.attack}/{BY_VICTIM}" for bars in self.study.figures.by_victim),
            *(name for view in self.study.figures.features for name in self.of_view(view)),
        ]

    @cached_property
    def outcome(self) -> list[str]:
        """The pages of the figure of all defenses: ``outcome``, ``outcome-2``, ..."""
        rows = [(attack.name, victim.name, row.name) for attack, victim, row in self.tables.listed]
        ends = {
            attack.name: tuple(m.name for m in (attack.measures[0], attack.measures[-1]))
            for attack in self.study.attacks
        }
        pages = len(outcome_pages(with_means(rows) if self.study.mean_over_victims else rows, ends))
        return ["outcome", *(f"outcome-{page}" for page in range(2, pages + 1))]

    def of_view(self, view: FeatureView) -> dict[str, ViewKind]:
        """The figures of a view, each with its kind."""
        return {f"{view.attack}/{kind}-{view.name}": kind for kind in dict.fromkeys(view.draw)}

    @property
    def of_all_attacks(self) -> Sequence[str]:
        """The figures that compare attacks without a goal; none for fewer than three attacks."""
        if len(self._compared) < 3:
            return ()
        # Merged trials have no history.
        return OF_ALL_ATTACKS if self._undefended_histories() else OF_ALL_ATTACKS[:-1]

    @property
    def _compared(self) -> list[AttackSettings]:
        row = self.study.undefended
        return [] if row is None else [a for a in self.study.attacks if not a.has_goal and row.faces(a.name)]

    def of_attack(self, attack: AttackSettings) -> list[str]:
        """The figures that can be drawn of an attack."""
        compared = bool(self.study.landscape_victims(attack.name))
        friendly = bool(self._friendly_rows(attack.name))
        possible = {
            "examples": friendly,
            "landscape-poison": attack.around_poison,
            "landscape-victims": compared and attack.has_goal,
            "noise-histogram": friendly,
            "output-std": attack.has_goal and (bool(self._trained_surrogate(attack)) or compared),
            # Merged trials have no history.
            "learning-curves": bool(self._histories(attack.name)),
        }
        return [figure for figure in OF_AN_ATTACK if possible[figure]]

    def _trained_surrogate(self, attack: AttackSettings) -> tuple[str, ...]:
        """The attack's first surrogate, if the study trains it for the shown seed: MetaPoison trains its own."""
        seed = self.study.shown_seed(attack)
        return tuple(name for name in attack.surrogates[:1] if self.study.members(name, seed))

    @property
    def _trained(self) -> list[Cell]:
        return [cell for cell in self.tables.local if self.study.defense(cell.defense).detector is None]

    # --- Measuring ---

    def landscape_poison(self, attack: str) -> Job:
        """Losses on a plane around one poison (FRIENDS, figure 2)."""
        chosen = self.study.attack(attack)
        surrogate = self.study.surrogate(chosen.surrogates[0])
        seed = self.study.shown_seed(chosen)
        return self._measuring(
            "landscape_poison",
            attack,
            {"surrogate": [self.computing.weights(surrogate.name, seed)]},
            {
                "model": surrogate.model.told(),
                "landscape": self.study.figures.landscape.told("victims", "directions", "weight_radius"),
                "criterion": getattr(chosen, "target_criterion", "cross-entropy"),
            },
            [surrogate.model],
        )

    def landscape_victims(self, attack: str) -> Job:
        """Loss around all poisons, for the victims of some defenses (FRIENDS, figure 3)."""
        landscape = self.study.figures.landscape
        rows, cell = self.study.landscape_victims(attack), self._shown(attack)
        model = self.study.model_of(self.study.victim(cell.victim))
        other_radius = "weight_radius" if landscape.directions == "plain" else "radius"
        return self._measuring(
            "landscape_victims",
            attack,
            {"victims": [self.computing.victim(cell._replace(defense=row)) for row in rows]},
            {"model": model.told(), "landscape": landscape.told(other_radius) | {"victims": rows}},
            [model],
        )

    def output_std(self, attack: str) -> Job:
        """Spread of the output around poisons (after FRIENDS, figure 5c), for a surrogate and figure 3's victims."""
        chosen, cell = self.study.attack(attack), self._shown(attack)
        rows = self.study.landscape_victims(attack)
        model = self.study.model_of(self.study.victim(cell.victim))
        surrogates = [self.study.surrogate(name) for name in self._trained_surrogate(chosen)]
        networks = [("surrogate", each.model) for each in surrogates] + [(row, model) for row in rows]
        weights = [self.computing.weights(each.name, cell.seed) for each in surrogates]
        weights += [self.computing.victim(cell._replace(defense=row)) for row in rows]
        return self._measuring(
            "output_std",
            attack,
            {"networks": weights},
            {
                "networks": [{"name": name, "model": model.told()} for name, model in networks],
                "output_std": self.study.figures.output_std.told(),
            },
            [model for _, model in networks],
        )

    def feature_view(self, attack: str, view: str) -> Job:
        """Features of an attack's poisons in some networks, and the poisons that filters drop (deep k-NN, figures 4 to
        7)."""
        networks: list[str] = []
        keep: list[str] = []
        models: list[ModelSettings] = []
        told: list[dict[str, Any]] = []
        for network in self._view(view).networks:
            victim, row = self.study.victim(network.victim), self.study.defense(network.defense)
            cell = self._shown(attack)._replace(victim=victim.name, defense=row.name)
            if row.filters:
                filtering = self.computing.filter(**cell._asdict())
                networks += filtering.inputs["network"]
                keep.append(filtering.outputs["keep"])
                models.append(self.computing.inspected_model(cell))
            else:
                networks.append(self.computing.victim(cell))
                models.append(self.study.model_of(victim, row))
            names = {"victim": victim.name, "defense": row.name, "known_as": row.published or row.name}
            told.append({**names, "filtered": bool(row.filters), "model": models[-1].told(), "start": start_of(victim)})
        return self._measuring(
            "feature_view", attack, {"networks": networks, "keep": keep}, {"networks": told}, models, view=view
        )

    def _view(self, name: str) -> FeatureView:
        return next(view for view in self.study.figures.features if view.name == name)

    def _measuring(
        self,
        stage: str,
        attack: str,
        networks: Mapping[str, Sequence[str]],
        told: Mapping[str, Any],
        models: Sequence[ModelSettings],
        **wildcards: Any,
    ) -> Job:
        seed = self.study.shown_seed(self.study.attack(attack))
        inputs = {"poisons": [self.computing.poisons(attack, seed)], **networks}
        settings = spec(**told, seed=seed)
        return self.computing.job(stage, inputs, settings, models, (), stage, attack=attack, **wildcards)

    # --- Drawing ---

    def figure(self, figure: str) -> Job:
        """Draw one figure."""
        attack, _, kind = figure.rpartition("/")
        name, inputs, told = self._drawn(kind, attack)
        sources = [f"{source}={path}" for source, paths in inputs.items() for path in paths]
        return Job(
            "figure",
            "figure.py",
            {"files": [path for paths in inputs.values() for path in paths]},
            self.places.made("figure", figure=figure),
            spec(drawing=self.study.figures.drawing.told(), **told),
            (module_name("figures", name),),
            name,
            options={"figure": [name], "from": sources},
            # A figure by victim receives the settings of every trial that it counts.
            piped=kind == BY_VICTIM,
            wildcards={"figure": figure},
        )

    def _drawn(self, kind: str, attack: str) -> tuple[str, Mapping[str, Sequence[str]], dict[str, Any]]:
        """The module that draws a figure, the files it reads by what they hold, and its own settings."""
        if kind in self.outcome and not attack:
            table, page = self.places.path("tables", "csv", scope=""), self.outcome.index(kind) + 1
            told = self._told_measures | ({"page": page} if page > 1 else {})
            return "outcome", {"results": [table]}, told
        if kind in OF_ALL_ATTACKS and not attack:
            return self._comparing(kind)
        if kind.startswith("ablation-"):
            name = kind.removeprefix("ablation-")
            table = self.places.path("ablation", "csv", scope="", ablation=name)
            inputs, told = self._published_ablation(name)
            chosen = next(each for each in self.study.ablations if each.name == name)
            told |= {"compare": self.tables.undefended, **({"title": chosen.title} if chosen.title else {})}
            told |= {} if chosen.attack is None else {"attack": chosen.attack}
            return "ablation", {"table": [table], **inputs}, self._told_measures | told
        if kind == BY_VICTIM:
            return self._by_victim(attack)
        for view in self.study.figures.features:
            if (drawn := self.of_view(view).get(f"{attack}/{kind}")) is not None:
                seen = self.places.path("feature_view", "view", attack=attack, view=view.name)
                return drawn, {"view": [seen]}, self._beside(view.published.get(drawn))
        cell = self._shown(attack)
        poisons = [self.computing.poisons(attack, cell.seed)]
        if kind == "examples":
            return kind, {"poisons": poisons, "noise": [self._noise(cell)]}, {}
        if kind == "noise-histogram":
            return kind, {"noise": [self._noise(cell)]}, self._noises(attack)
        if kind == "learning-curves":
            measures = self.tables.measures([self.study.attack(attack)])
            return kind, self._histories(attack), {"measures": measures, "def_epoch": self._def_epoch(cell)}
        measured = {"landscape-poison": "landscape", "landscape-victims": "landscape", "output-std": "std"}[kind]
        return kind, {measured: [self.places.path(kind.replace("-", "_"), measured, attack=attack)]}, {}

    def _published_ablation(self, name: str) -> tuple[dict[str, Sequence[str]], dict[str, Any]]:
        """Published numbers beside an ablation, if the study names some."""
        beside = next((each for each in self.study.figures.ablations if each.name == name), None)
        if beside is None:
            return {}, {}
        return {"published": [self._published(beside.table)]}, {"table": beside.table, **self._beside(beside.figure)}

    def _published(self, table: int) -> str:
        return str(self.tables.published / f"table{table}.csv")

    def _beside(self, figure: int | None) -> dict[str, Any]:
        """The setting that names the matching figure of the paper in the caption."""
        return {} if figure is None else {"beside": f"figure {figure} of {self.study.paper or 'the paper'}"}

    def _by_victim(self, attack: str) -> tuple[str, Mapping[str, Sequence[str]], dict[str, Any]]:
        """As ``_drawn``, for bars by victim."""
        bars: ByVictim = next(each for each in self.study.figures.by_victim if each.attack == attack)
        rows = {*bars.defenses, *self.study.compare[:1]}
        meetings = [
            meeting for meeting in self.study.meetings() if meeting[0].name == attack and meeting[2].name in rows
        ]
        told = {
            "description": "",
            "lines": self.tables.lines(meetings),
            "measures": self.tables.measures([self.study.attack(attack)]),
            "compare": list(self.study.compare[:1]),
            "defenses": list(bars.defenses),
            "only_successes": self.study.only_successes,
            **self._beside(bars.figure),
        }
        inputs = {"trials": [self.tables.trials_path(""), *self.study.merge]}
        if bars.table is not None:
            inputs["published"] = [self._published(bars.table)]
            told["rows"] = [{"victim": victim, "row": row} for victim, row in bars.rows.items()]
            told["table"] = bars.table
        return BY_VICTIM, inputs, told

    def _comparing(self, kind: str) -> tuple[str, Mapping[str, Sequence[str]], dict[str, Any]]:
        """As ``_drawn``, for a figure that compares attacks."""
        attacks, row = self._compared, self.study.undefended
        assert row is not None
        if kind == "perturbations":
            sets = {f"poisons.{a.name}": [self.computing.poisons(a.name, self.study.shown_seed(a))] for a in attacks}
            return kind, sets, {}
        if kind == "poison-curves":
            levels = {level for attack in attacks if (level := attack.history_level) is not None}
            return kind, self._undefended_histories(), {"groups": self._curves, "low_loss": sorted(levels)}
        axes = (FIRST_EPOCH, PEAK_ACCURACY) if kind == "speed" else (PEAK_ACCURACY, ACCURACY)
        told = {
            "x": axes[0].told(),
            "y": axes[1].told(),
            "attacks": [attack.name for attack in attacks],
            "victims": [self._shown(attack.name).victim for attack in attacks],
            "defense": row.name,
            "claim": "rises" if kind == "speed" else "does not tell",
            **({} if (said := self.study.poison_claims) is None else {"close": said.close}),
        }
        return "scatter", {"results": [self.places.path("tables", "csv", scope="")]}, told

    @property
    def _curves(self) -> list[dict[str, Any]]:
        """The columns of learning curves."""
        return [group.told() for group in self.study.figures.curves] or _groups(self._compared)

    def _undefended_histories(self) -> dict[str, list[str]]:
        """Metrics of the undefended victims, and of those trained on clean data, which are the same for every
        attack."""
        names, row = {attack.name for attack in self._compared}, self.study.undefended
        drawn = {name for group in self._curves for name in group["attacks"]}
        controls = [each.name for each in self.study.defenses if not (each.poisoned or each.apply or each.pretrained)]
        found: dict[str, list[str]] = {}
        control = next(
            (cell.attack for cell in self._trained if cell.attack in names and cell.defense in controls), None
        )
        for cell in self._trained:
            if cell.attack not in names or row is None or cell.victim != self._shown(cell.attack).victim:
                continue
            kind = f"victims.{cell.attack}" if cell.defense == row.name and cell.attack in drawn else ""
            if cell.defense in controls[:1] and cell.attack == control:
                kind = "control"
            if kind:
                found.setdefault(kind, []).append(self.computing.victim(cell, "metrics"))
        return found if found.keys() - {"control"} else {}

    @property
    def _told_measures(self) -> dict[str, Any]:
        return {"measures": self.tables.measures(self.study.attacks), "compare": list(self.study.compare)}

    def _shown(self, attack: str) -> Cell:
        """The attack's first victim and the seed that figures show; the defense is still empty."""
        chosen = self.study.attack(attack)
        return Cell(attack, self.study.victims_of(chosen)[0].name, "", self.study.shown_seed(chosen))

    def _friendly_rows(self, attack: str) -> list[Row]:
        """The rows that add friendly noise to this attack's poisons; rows without filters come first, because they have
        noise for all poisons."""
        rows = [row for row in self.study.defenses if row.friendly and row.poisoned and row.faces(attack)]
        return sorted(rows, key=lambda row: bool(row.filters))

    def _noise(self, cell: Cell) -> str:
        row = self._friendly_rows(cell.attack)[0]
        return self.places.path("noise", "noise", **cell._replace(defense=row.name)._asdict())

    def _noises(self, attack: str) -> dict[str, Any]:
        """The random noises beside the friendly noise, and the bound of the friendly noise."""
        friendly = self._friendly_rows(attack)[0].friendly
        assert friendly is not None
        applied = dict.fromkeys(defense for row in self.study.defenses for defense in row.apply)
        noises: list[Settings] = [defense for defense in applied if defense.method == "random-noise"]
        return {"noise": [noise.told() for noise in noises], "friendly": {"zeta": friendly.zeta}}

    def _def_epoch(self, cell: Cell) -> int | None:
        """The epoch at which curves mark the start of friendly noise; None if it differs by row."""
        scenario = self.study.victim(cell.victim).scenario
        begins = {row.friendly.begins(scenario) for row in self._friendly_rows(cell.attack) if row.friendly}
        return begins.pop() if len(begins) == 1 else None

    def _histories(self, attack: str) -> dict[str, list[str]]:
        """Metrics of the first victim's trainings, by row."""
        listed, victim = {row.name for row in self.study.defenses}, self._shown(attack).victim
        found: dict[str, list[str]] = {}
        for cell in self._trained:
            if cell.attack == attack and cell.victim == victim and cell.defense in listed:
                found.setdefault(f"victims.{cell.defense}", []).append(self.computing.victim(cell, "metrics"))
        return found


def _groups(attacks: Sequence[AttackSettings]) -> list[dict[str, Any]]:
    """The columns of the curves: optimised poisons and two families of drawn noise; a large group fills several
    columns."""
    titles = {"regions": "regions noise", "low-frequency": "low-frequency noise"}
    groups: dict[str, list[str]] = {}
    for attack in attacks:
        groups.setdefault(titles.get(attack.method, "optimised or imported poisons"), []).append(attack.name)
    return [
        {"title": title, "attacks": group[first : first + MOST_CURVES]}
        for title, group in groups.items()
        for first in range(0, len(group), MOST_CURVES)
    ]
