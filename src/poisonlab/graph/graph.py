"""The whole graph of a study."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from poisonlab.config.attacks.attack import existing
from poisonlab.config.models.model import Model
from poisonlab.config.rows import Row
from poisonlab.config.scan import Scan
from poisonlab.config.study import Study
from poisonlab.errors import DataError, SettingsError
from poisonlab.graph.cells import cells_of
from poisonlab.graph.computing import Computing, pretrained_files
from poisonlab.graph.contents import Contents
from poisonlab.graph.figures import Figures
from poisonlab.graph.job import Job
from poisonlab.graph.listing import Listing
from poisonlab.graph.places import Places
from poisonlab.graph.records import Records
from poisonlab.graph.report import Report
from poisonlab.graph.scanning import Scanning
from poisonlab.graph.tables import Tables
from poisonlab.provenance import code_digests, locked_versions

SOFTWARE = ("torch", "torchvision", "numpy", "scikit-learn")
"""Packages whose version changes results."""
SOFTWARE_OF = {"poisonlab.models.timm": "timm"}
"""Packages whose version changes the results of jobs with this root."""

_DATA = ("dataset", "dilute")
"""Stages whose results other jobs compute with, made without a network."""
_NUMBERS = ("seed", "member", "number")


class Graph:
    """Every job of a study.

    Args:
        study: the study.
        root: the workflow's own folder, relative to the folder from which paths of results count.
        scan: the scan that the study belongs to, if any.

    Attributes:
        name: name in messages: the study's, or ``scan <name>``.
        places: paths of results.
        tables: the study's trials and tables.
        figures: the study's figures.
        listing: their entries in Snakemake's own report.
        scanning: the jobs of the scan, if any.
    """

    def __init__(self, study: Study, root: str = ".", scan: Scan | None = None) -> None:
        def below(path: str) -> str:
            return path if root == "." else f"{root}/{path}"

        self.study = study
        self.name = study.study if scan is None else f"scan {scan.scan}"
        self.scripts = below("workflow/scripts")
        self.places = Places(study)
        self.scanning = None if scan is None else Scanning(scan, study, self.places, below("workflow/report/scan.html"))
        self.computing = self.scanning or Computing(study, self.places)
        self.tables = Tables(study, self.places, self.computing, below("reference"))
        self.figures = Figures(study, self.places, self.computing, self.tables)
        self._report = Report(study, self.places, self.tables, self.figures, below("workflow/report"))
        self.listing = Listing(study, self._report, self.job)
        self._lock = Path(below("envs/requirements.lock"))
        self._makers: dict[str, Callable[..., Job]] = {
            "dataset": self.computing.dataset,
            "pretrain": self.computing.pretrain,
            "craft": self.computing.craft,
            "dilute": self.computing.dilute,
            "filter": self.computing.filter,
            "noise": self.computing.noise,
            "train": self.computing.train,
            "detect": self.computing.detect,
            "transfer": self.computing.transfer,
            "transfer_table": self.tables.transfer_table,
            "trials": self.tables.trials,
            "tables": self.tables.tables,
            "paper_table": self.tables.paper_table,
            "ablation": self.tables.ablation,
            "landscape_poison": self.figures.landscape_poison,
            "landscape_victims": self.figures.landscape_victims,
            "output_std": self.figures.output_std,
            "feature_view": self.figures.feature_view,
            "figure": self.figures.figure,
            "page": self._report.page,
        }
        if self.scanning is not None:
            self._makers |= {
                "features": self.scanning.features,
                "suspects": self.scanning.suspects,
                "neighbours": self.scanning.neighbours,
                "scan_page": self.scanning.page,
            }
        self._contents = Contents()
        self._job = cache(self._made)
        self._digests = cache(partial(code_digests, base=Path(root).resolve()))
        self._versions = cache(lambda packages: locked_versions(self._lock, *packages))
        self._measures = cache(partial(_measures, Path(root)))

    def check(self) -> None:
        """Check the files that the study reads.

        Raises:
            PoisonlabError: a file is missing or damaged, for which an input function would end Snakemake in a
                traceback. Or a file of the dataset is missing, and Snakemake would use a dataset made with other
                settings.
        """
        self._check_dataset()
        for attack in self.study.every_attack:
            for seed in self.study.seeds_of(attack):
                _check_names(f"attack {attack.name!r}", map(str, attack.files(seed)))
        for file in pretrained_files(*self._models()):
            existing(file, "pretrained")
        if self.scanning is not None and self.scanning.scan.weights is not None:
            existing(self.scanning.scan.weights, "weights")
        self._check_published()
        self._check_merged()

    def _check_dataset(self) -> None:
        job = self.job("dataset")
        _check_names("dataset", job.inputs["files"])
        path = self.places.dataset
        missing = [file for file in job.inputs["files"] if not os.path.exists(file)]
        if os.path.exists(path):
            lost = [file for file in job.watched if file not in job.inputs["files"] and not os.path.isfile(file)]
            if lost:
                raise DataError(
                    f"dataset: {lost[0]} is missing or has no images any more: restore it. {path}, made of it "
                    "before, is kept"
                )
        if missing and os.path.exists(path):
            known = Records().params(path)
            if known and repr(list(job.settings)) not in known:
                raise DataError(
                    f"dataset: {missing[0]} is missing, and {path} was made with other settings: correct the config, "
                    "or restore the file"
                )

    def _check_published(self) -> None:
        transfer, figures = self.study.transfer, self.study.figures
        beside = [None if transfer is None else transfer.table]
        beside += [each.table for each in figures.ablations]
        beside += [each.table for each in figures.by_victim]
        for number in [*self.tables.numbers, *(number for number in beside if number is not None)]:
            if not (table := self.tables.published / f"table{number}.csv").is_file():
                raise SettingsError(f"published: there is no {table}: name another table, or another paper")
        for bars in (each for each in figures.by_victim if each.table is not None):
            rows = _rows(_lines(self.tables.published / f"table{bars.table}.csv"))
            for victim, row in bars.rows.items():
                if row not in rows:
                    raise SettingsError(
                        f"figures.by_victim of attack {bars.attack!r}: row {row!r} of victim {victim!r} is not one of "
                        f"those of table {bars.table}: name one of {rows}"
                    )
        self._check_claims()

    def _check_claims(self) -> None:
        compared: dict[str, set[str]] = {}
        for attack in self.study.attacks:
            for place in reversed(attack.published):
                lines = _lines(self.tables.published / f"table{place.table}.csv")
                if place.row is not None and place.row not in (rows := _rows(lines)):
                    raise SettingsError(
                        f"attack {attack.name!r}: published row {place.row!r} is not one of those of table "
                        f"{place.table}: name one of {rows}"
                    )
                chosen = [line for line in lines if line["defense"] and place.row in (None, line["row"])]
                numbers = [(line["defense"], line["measure"]) for line in chosen if line["measure"] != "minutes"]
                if len(set(numbers)) < len(numbers):
                    raise SettingsError(
                        f"attack {attack.name!r}: published table {place.table} has several rows for the same defense: "
                        f"give the row, one of {_rows(chosen)}"
                    )
                # The study's own table has the numbers of the first place.
                compared[attack.name] = {defense for defense, _ in numbers}
        for row in self.study.defenses:
            names = {name for attack, known in compared.items() if row.faces(attack) for name in known}
            if row.published not in (None, row.name, *names) and names:
                raise SettingsError(
                    f"defense {row.name!r}: published {row.published!r} is not one of {sorted(names)} of the tables of "
                    "its attacks"
                )

    def _check_merged(self) -> None:
        own = {os.path.realpath(self.tables.trials_path(scope)) for scope in ("", "-so-far")}
        for path in self.study.merge:
            if os.path.realpath(path) in own:
                raise SettingsError(
                    f"merge: {path} is this study's own file, which each call rewrites: copy it elsewhere, and name "
                    "the copy"
                )
        try:
            _ = self.tables.local
        except DataError as error:
            raise DataError(f"merge: {error}") from error

    def job(self, stage: str, wildcards: Mapping[str, str] | None = None) -> Job:
        """The job of a stage with these wildcards, as a path holds them."""
        return self._job(stage, tuple((wildcards or {}).items()))

    def _made(self, stage: str, wildcards: tuple[tuple[str, str], ...]) -> Job:
        return self._makers[stage](**{name: int(value) if name in _NUMBERS else value for name, value in wildcards})

    def code(self, job: Job) -> list[str]:
        """Digests of all code that a job runs and of the outside files that it reads, and locked versions of the
        packages that change results."""
        shows = not job.computes and job.stage not in _DATA
        packages = () if shows else SOFTWARE
        software = self._versions((*packages, *(own for root, own in SOFTWARE_OF.items() if root in job.roots)))
        # Merged trials and published numbers keep the time stamps that they had elsewhere.
        read = {path for paths in job.inputs.values() for path in paths}
        watched = [*job.watched, *read.intersection(self.study.merge)]
        contents = [f"files read by {job.stage}@{self._contents.digest(watched)}"] if watched else []
        published = [path for path in read if Path(path).parent == self.tables.published]
        if published:
            digest = self._contents.digest(published, str(self.tables.published))
            contents.append(f"files read by {job.stage}, published numbers@{digest}")
        contents += [self._measures()] if shows else []
        sources = self._digests(f"workflow/scripts/{job.program}", *sorted(set(job.roots)))
        return [*software, *sources, *contents, *job.depends]

    def _models(self) -> Iterator[Model]:
        """The architectures of the study."""
        yield from (surrogate.model for surrogate in self.study.surrogates)
        yield from (victim.model for victim in self.study.victims if victim.model is not None)
        friendly = (row.friendly for row in self.study.rows)
        yield from (noise.donor for noise in friendly if noise is not None and noise.donor is not None)

    # --- Which jobs there are ---

    def _stages(self, row: Row) -> list[str]:
        """The stages that a row's cells pass through."""
        return [
            *(["dilute"] if row.dilution is not None else []),
            *(["filter"] if row.filters else []),
            *(["noise"] if row.friendly is not None else []),
            "train" if row.detector is None else "detect",
        ]

    def paths(self, stage: str, output: str) -> list[str]:
        """One output of each of a stage's jobs on the cells that are run here."""
        cells = [cell for cell in self.tables.local if stage in self._stages(self.study.defense(cell.defense))]
        return [self.places.path(stage, output, **cell._asdict()) for cell in cells]

    def pretrained(self) -> list[str]:
        """The weights of all surrogates."""
        return [self.computing.weights(*network) for network in self._networks()]

    def _networks(self) -> Iterator[tuple[str, int, int]]:
        for surrogate in self.study.surrogates:
            # A seed of its own serves all seeds of the study.
            for seed in self.study.seeds if surrogate.seed is None else (surrogate.seed,):
                for member in range(self.study.members(surrogate.name, seed)):
                    yield surrogate.name, seed, member

    def poisons(self) -> list[str]:
        """All poison sets."""
        return [
            self.computing.poisons(attack.name, seed)
            for attack in self.study.every_attack
            for seed in self.study.seeds_of(attack)
        ]

    def drawings(self) -> list[str]:
        """All files of all figures."""
        made = (self.places.made("figure", figure=figure) for figure in self.figures.every())
        return [path for paths in made for path in paths.values()]

    def report(self, scope: str = "") -> str:
        """The report's path."""
        return self.places.path("page", "html", scope=scope)

    def scanned(self) -> list[str]:
        """Page, table and summary of the scan, if this is one."""
        return [] if self.scanning is None else list(self.places.outputs("scan_page").values())

    def all_jobs(self) -> list[Job]:
        """Every job that the whole study or scan needs, each after the jobs that it waits for."""
        if self.scanning is not None:
            return self.jobs_for(self.scanned())
        return self.jobs_for([*self.tables.every(""), *self.drawings(), self.report()])

    def jobs_for(self, paths: Sequence[str]) -> list[Job]:
        """Every job that some files of the whole study need, each after the jobs that it waits for."""
        made = {path: job for job in self._possible() for path in job.outputs.values()}
        ordered: dict[int, Job] = {}
        # The loop visits a job twice: first it puts the jobs of its inputs before it, then it takes the job itself.
        waiting = [made[path] for path in paths][::-1]
        while waiting:
            job = waiting[-1]
            needed = [made[path] for paths in job.inputs.values() for path in paths if path in made]
            if missing := [other for other in needed if id(other) not in ordered]:
                waiting += missing
            else:
                ordered.setdefault(id(waiting.pop()), job)
        return list(ordered.values())

    def _possible(self) -> Iterator[Job]:
        """Every job of the whole study, needed or not."""
        yield self.job("dataset")
        for surrogate, seed, member in self._networks():
            yield self.computing.pretrain(surrogate, seed, member)
        for attack in self.study.every_attack:
            for seed in self.study.seeds_of(attack):
                yield self.computing.craft(attack.name, seed)
        for cell in cells_of(self.study):
            for stage in self._stages(self.study.defense(cell.defense)):
                yield self._makers[stage](**cell._asdict())
        if self.scanning is not None:
            yield from self.scanning.looking()
            return
        for view in self.study.figures.features:
            yield self.figures.feature_view(view.attack, view.name)
        for figure in self.figures.every():
            of, _, kind = figure.rpartition("/")
            if of and (stage := kind.replace("-", "_")) in self._makers:
                yield self._makers[stage](attack=of)
            yield self.figures.figure(figure)
        yield self.tables.trials("")
        yield self.tables.tables("")
        for number in self.tables.numbers:
            yield self.tables.paper_table("", number)
        for ablation in self.study.ablations:
            yield self.tables.ablation("", ablation.name)
        if self.study.transfer is not None:
            for name, seed in self.tables.transferred:
                yield self.computing.transfer(name, seed)
            yield self.tables.transfer_table()
        yield self._report.page("")


def _check_names(where: str, files: Iterable[str]) -> None:
    """Refuse input files with braces in their paths, which Snakemake interprets, or marks that it cannot record."""
    if odd := [file for file in files if not file.isprintable() or set("{}") & set(file)]:
        raise SettingsError(f"{where}: there is a file {odd[0]!a}: rename it, without braces")


def _measures(root: Path) -> str:
    """Digest of how outcomes are named and shown. Only jobs that show outcomes depend on it, not those that compute."""
    name = "src/poisonlab/config/measures.py"
    return f"{name}@{hashlib.sha256((root / name).read_bytes()).hexdigest()[:12]}"


def _lines(table: Path) -> list[dict[str, str]]:
    """The lines of a published table; without pandas, which takes long to import."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            names = ("row", "defense", "measure")
            return [{name: line.get(name) or "" for name in names} for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table} cannot be read ({error}): restore it from the repository") from error


def _rows(lines: Sequence[Mapping[str, str]]) -> list[str]:
    """The names of the rows of some lines."""
    return list(dict.fromkeys(line["row"] for line in lines))
