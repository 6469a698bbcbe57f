"""The graph of a study, without Snakemake."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.study import read_study
from poisonlab.errors import DataError, PoisonlabError
from poisonlab.evaluation.trials import Trial, write_trials
from poisonlab.graph.cells import Cell
from poisonlab.graph.figures import OF_ALL_ATTACKS
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.graph.records import Records
from poisonlab.provenance import parse

ROOT = Path(__file__).resolve().parents[2]
SHOWING = ("trials", "tables", "paper_table", "ablation", "transfer_table", "figure", "page")


def settings_of(name: str) -> dict[str, Any]:
    """The settings of a study of the workflow's tests."""
    values: dict[str, Any] = yaml.safe_load((ROOT / f"tests/workflow/{name}.yaml").read_text(encoding="utf-8"))
    return values


def graph_of(change: Callable[[dict[str, Any]], object] = lambda values: None, name: str = "tiny") -> Graph:
    values = settings_of(name)
    change(values)
    return Graph(read_study(values))


def counts(graph: Graph) -> Counter[str]:
    return Counter(job.stage for job in graph.all_jobs())


def test_every_job_stands_after_those_that_it_waits_for() -> None:
    graph = graph_of()
    jobs = graph.all_jobs()
    assert len({(job.stage, job.name) for job in jobs}) == len(jobs)
    made = {path: place for place, job in enumerate(jobs) for path in job.outputs.values()}
    for place, job in enumerate(jobs):
        waits = [made[path] for paths in job.inputs.values() for path in paths if path in made]
        assert all(earlier < place for earlier in waits)


def test_a_study_of_two_attacks_four_rows_and_two_seeds() -> None:
    found = counts(graph_of())
    # A surrogate per seed; a poison set per attack and seed; two of four rows need noise.
    assert {stage: found[stage] for stage in ("dataset", "pretrain", "craft", "noise", "train")} == {
        "dataset": 1,
        "pretrain": 2,
        "craft": 4,
        "noise": 8,
        "train": 16,
    }


def test_no_figure_waits_for_a_surrogate_that_the_attack_trains_itself() -> None:
    """Snakemake would train it for one line of the figure, and verify, estimate and archive would not know of it."""
    meta = {"name": "strong", "method": "metapoison", "surrogate": "base", "budget": 0.05}

    def networks(keep: int) -> list[str]:
        graph = graph_of(lambda values: values.update(attacks=[meta, *values["attacks"][2 - keep :]]))
        jobs = {(job.stage, job.name): job for job in graph.all_jobs()}
        made = {path for job in jobs.values() for path in job.outputs.values()}
        shown = list(jobs["output_std", "strong"].inputs["networks"])
        assert made.issuperset(shown)
        return shown

    victim = "results/victims/tiny/strong/scratch/none/seed0.safetensors"
    assert networks(keep=0) == [victim]
    # Another attack needs it anyway.
    assert networks(keep=1) == ["results/surrogates/tiny/base/seed0-0.safetensors", victim]


def test_a_setting_with_the_name_of_a_measure_has_a_column_of_its_own() -> None:
    def change(values: dict[str, Any]) -> None:
        values["defenses"].append({"name": "cleansed", "apply": [{"method": "neural-cleanse"}]})
        vary = {"success": [0.9, 0.98], "epochs": [10]}
        ablation = {"name": "trigger", "defense": "cleansed", "method": "neural-cleanse", "vary": vary}
        values["ablations"] = [ablation]

    told = parse(graph_of(change).tables.ablation("", "trigger").settings)
    assert told["settings"] == ["success_setting", "epochs"]
    assert [each["values"] for each in told["variants"]] == [
        {"success_setting": 0.9, "epochs": 10},
        {"success_setting": 0.98, "epochs": 10},
    ]


def two_victims(values: dict[str, Any]) -> None:
    wide = {**values["victims"][0], "name": "wide", "model": {"name": "small-resnet", "width": 8, "stem_stride": 4}}
    values["victims"].append(wide)
    values["attacks"][0]["victims"] = ["scratch", "wide"]


def test_poisons_are_crafted_once_for_several_victims() -> None:
    one, two = counts(graph_of()), counts(graph_of(two_victims))
    assert two["craft"] == one["craft"]
    assert two["train"] == one["train"] + 8
    assert two["noise"] == one["noise"] + 4


def test_each_victim_is_trained_on_the_same_poisons_with_its_own_network() -> None:
    graph = graph_of(two_victims)
    jobs = {name: graph.job("train", Cell("strong", name, "friendly", 1)._asdict()) for name in ("scratch", "wide")}
    poisons = {tuple(job.inputs["poisons"]) for job in jobs.values()}
    assert poisons == {("results/poisons/tiny/strong/seed1.safetensors",)}
    assert {name: parse(job.settings)["model"]["width"] for name, job in jobs.items()} == {"scratch": 4, "wide": 8}
    for name, job in jobs.items():
        assert job.inputs["noise"] == [f"results/noise/tiny/strong/{name}/friendly/seed1.safetensors"]
        assert job.outputs["metrics"] == f"results/victims/tiny/strong/{name}/friendly/seed1.metrics.json"


def test_tables_have_a_line_per_victim() -> None:
    lines = graph_of(two_victims).tables.lines()
    assert [(line["attack"], line["victim"]) for line in lines[::4]] == [
        ("strong", "scratch"),
        ("strong", "wide"),
        ("weak", "scratch"),
    ]
    assert len({line["settings"] for line in lines}) == len(lines)


def test_tables_are_told_which_row_is_a_control_and_what_the_paper_calls_each() -> None:
    lines = graph_of(lambda values: values["defenses"][2].update(published="friends")).tables.lines()
    assert {line["defense"]: (line["control"], line["called"]) for line in lines} == {
        "clean": (True, "clean"),
        "none": (False, "none"),
        "friendly": (False, "friends"),
        "friends-bernoulli": (False, "friends-bernoulli"),
    }


def test_the_table_of_an_attack_s_ablation_is_of_the_seeds_that_it_names() -> None:
    bound = {"name": "bound", "attack": "weak", "defenses": ["none"], "vary": {"eps": [8, 24]}, "seeds": [1]}
    job = graph_of(lambda values: values.update(ablations=[bound])).tables.ablation("", "bound")
    lines = parse(job.settings)["lines"]
    assert [(line["attack"], line["seeds"]) for line in lines] == [("weak", [1]), ("bound-24", [1])]


@pytest.mark.parametrize("compare", [["none"], [], ["friendly"], ["clean", "none"]])
def test_an_ablation_stands_beside_undefended_training_whatever_the_study_compares(compare: list[str]) -> None:
    bound = {"name": "bound", "defense": "friendly", "method": "friendly-noise", "vary": {"zeta": [8, 16]}}
    bound["title"] = "The bound, in levels."
    graph = graph_of(lambda values: values.update(compare=compare, ablations=[bound]))
    told = parse(graph.tables.ablation("", "bound").settings)
    drawn = parse(graph.figures.figure("ablation-bound").settings)
    assert [line["defense"] for line in told["lines"] if line["attack"] == "weak"] == ["none", "friendly", "bound-8"]
    assert told["compare"] == drawn["compare"] == ["none"]
    assert told["title"] == drawn["title"] == bound["title"]


def test_a_filter_may_look_at_a_surrogate() -> None:
    row = {"name": "knn", "apply": [{"method": "deep-knn", "surrogate": "base"}]}
    graph = graph_of(lambda values: values["defenses"].append(row))
    job = graph.job("filter", Cell("strong", "scratch", "knn", 0)._asdict())
    assert job.inputs["network"] == ["results/surrogates/tiny/base/seed0-0.safetensors"]
    other = {"name": "knn", "apply": [{"method": "deep-knn"}]}
    job = graph_of(lambda values: values["defenses"].append(other)).job("filter", job_wildcards(job))
    assert job.inputs["network"] == ["results/victims/tiny/strong/scratch/none/seed0.safetensors"]


def job_wildcards(job: Job) -> dict[str, str]:
    return dict(zip(Cell._fields, job.name.split("/"), strict=True))


def test_what_a_victim_is_called_is_no_setting_of_its_outcome() -> None:
    def renamed(values: dict[str, Any]) -> None:
        values["victims"][0]["name"] = "other"

    one, other = graph_of(), graph_of(renamed)
    for defense in ("clean", "none", "friendly"):
        first, second = (Cell("strong", name, defense, 0) for name in ("scratch", "other"))
        assert one.computing.outcome(first) == other.computing.outcome(second)


def test_an_outcome_depends_on_the_noise_of_its_row_and_on_that_which_its_attack_knows() -> None:
    """Trials that were made with another bound of the noise, or against it, answer for none of these."""

    def bounded(values: dict[str, Any]) -> None:
        values["defenses"][1]["apply"][0]["zeta"] = 4

    one, other = graph_of(name="scenarios"), graph_of(bounded, "scenarios")
    victims = {"plain": "scratch", "adaptive": "scratch", "moved": "transfer"}
    cells = [Cell(attack, victim, row, 0) for attack, victim in victims.items() for row in ("none", "friendly")]
    outcomes = [[graph.computing.outcome(cell) for graph in (one, other)] for cell in cells]
    changed = {(cell.attack, cell.defense) for cell, found in zip(cells, outcomes, strict=True) if len(set(found)) > 1}
    assert changed == {(attack, "friendly") for attack in victims} | {("adaptive", "none")}


def settings_behind(graph: Graph) -> dict[tuple[str, str], tuple[frozenset[str], str]]:
    """For each job whose result may come from elsewhere, or from earlier: the settings of this job and of all jobs that
    it waits for, without seeds and names; and the digest that the result carries."""
    behind: dict[str, frozenset[str]] = {}
    found = {}
    # Each job stands after those that it waits for.
    for job in graph.all_jobs():
        own = {
            f"{job.stage} {text}" for text in job.settings if not re.match("(seed|member|attack|victim|defense)=", text)
        }
        waits = [behind[path] for paths in job.inputs.values() for path in paths if path in behind]
        whole = frozenset(own).union(*waits)
        behind |= dict.fromkeys(job.outputs.values(), whole)
        if job.stage in ("train", "detect", "transfer"):
            found[job.stage, job.name] = whole, job.options["settings"][0]
    return found


SETTINGS_OF_THE_DEFENDED: dict[str, tuple[Any, ...]] = {
    "filter": ("defenses", 1, "apply", 0, "k", 7),
    "filter before noise": ("defenses", 2, "apply", 0, "fraction", 0.2),
    "noise behind filters": ("defenses", 2, "apply", 2, "steps", 3),
    "filter by a filtered victim": ("defenses", 3, "apply", 0, "fraction", 0.2),
    "detector": ("defenses", 4, "apply", 0, "count", 6),
    "clean images of a detector": ("defenses", 4, "apply", 0, "clean_share", 0.3),
    "dilution": ("defenses", 8, "apply", 0, "share", 0.5),
    "inspected surrogate": ("surrogates", 1, "recipe", "lr", 0.3),
    "images of a surrogate": ("surrogates", 0, "held_out_per_class", 2),
    "victim": ("victims", 0, "recipe", "lr", 0.3),
    "poisons": ("attacks", 0, "steps", 4),
    "dataset": ("dataset", "contrast", 0.5),
}
SETTINGS_OF_THE_SCENARIOS: dict[str, tuple[Any, ...]] = {
    "noise that an attacker knows": ("defenses", 1, "apply", 0, "zeta", 4),
    "poisons that this noise is for": ("attacks", 0, "steps", 4),
    "victim that this noise is for": ("victims", 0, "recipe", "lr", 0.3),
    "network that a victim begins as": ("surrogates", 1, "recipe", "lr", 0.3),
    "head of a victim": ("victims", 1, "head", "kept"),
    "score of a transfer": ("transfer", "score", "agreement"),
}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        *(pytest.param("defended", place, id=what) for what, place in SETTINGS_OF_THE_DEFENDED.items()),
        *(pytest.param("scenarios", place, id=what) for what, place in SETTINGS_OF_THE_SCENARIOS.items()),
    ],
)
def test_results_carry_another_digest_if_a_setting_behind_them_changed(
    name: str, place: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever job has the setting: trials and transfers of another value are not taken for current."""
    monkeypatch.chdir(tmp_path)
    Path("imported/seed0").mkdir(parents=True)
    Path("imported/seed0/3.png").touch()
    # The networks of these studies share one recipe: copy it, so that each can change alone.
    values = json.loads(json.dumps(settings_of(name)))
    if name == "defended":
        values["defenses"][1]["apply"][0]["surrogate"] = "second"
        values["defenses"].append({"name": "diluted", "apply": [{"method": "dilution"}]})
    else:
        values["transfer"] = {"networks": ["base", "features"], "attacks": ["plain", "adaptive", "moved"]}
    before = settings_behind(Graph(read_study(values), str(ROOT)))
    *above, last, value = place
    section: Any = values
    for step in above:
        section = section[step]
    section[last] = value
    after = settings_behind(Graph(read_study(values), str(ROOT)))
    affected = {job for job in before if before[job][0] != after[job][0]}
    assert affected
    assert {job for job in before if before[job][1] != after[job][1]} == affected


def test_a_command_reads_as_its_arguments() -> None:
    """Whatever stands in a description or a path reaches the program as it is."""
    odd = 'it\'s $HOME; `ls` {braces} "quotes"'
    graph = graph_of(lambda values: values.update(description=odd))
    job = graph.job("tables", {"scope": ""})
    printed, _, program = job.command("python", "workflow/scripts", {}).partition(" | ")
    strings = shlex.split(printed)[2:]
    assert parse(strings)["description"] == odd
    assert shlex.split(program)[:4] == ["python", "workflow/scripts/tables.py", "--spec", "-"]

    job = graph.job("craft", {"attack": "strong", "seed": "1"})
    words = shlex.split(job.command("python", "workflow/scripts", {"device": ["cpu"]}))
    assert words[:3] == ["python", "workflow/scripts/craft.py", "--spec"]
    assert words[3 : 3 + len(job.settings)] == job.settings
    assert words[-2:] == ["--device", "cpu"]
    assert "--files" not in words


def of_report(graph: Graph, scope: str = "") -> tuple[Job, list[str], list[str]]:
    """The report's job, the poison sets that it is told of, and those that it waits for."""
    job = graph.job("page", {"scope": scope})
    told = [each["path"] for each in parse(job.settings).get("poisons", [])]
    return job, told, [path for path in job.inputs["files"] if "/poisons/" in path]


def test_the_report_waits_for_the_poisons_whose_targets_it_shows() -> None:
    _, told, awaited = of_report(graph_of())
    sets = [f"results/poisons/tiny/{attack}/seed{seed}.safetensors" for attack in ("strong", "weak") for seed in (0, 1)]
    assert told == awaited == sets


def test_attacks_without_a_goal_have_no_targets_to_show() -> None:
    graph = graph_of(name="rooms")
    goals = {attack.name for attack in graph.study.attacks if attack.has_goal}
    _, told, awaited = of_report(graph)
    assert {Path(path).parent.name for path in told} == goals
    assert told == awaited
    assert 0 < len(goals) < len(graph.study.attacks)


def test_the_report_of_merged_trials_crafts_nothing(tmp_path: Path) -> None:
    known = graph_of()
    cells = [cell for cell in known.tables.local if cell.attack == "weak" or cell.seed == 1]
    trials = [Trial(*cell, {"success": 1.0, "accuracy": 0.5}, settings=known.computing.outcome(cell)) for cell in cells]
    path = tmp_path / "their-trials.csv"
    write_trials(path, trials)
    _, told, awaited = of_report(graph_of(lambda values: values.update(merge=[str(path)])))
    assert told == awaited == ["results/poisons/tiny/strong/seed0.safetensors"]


def test_merged_files_with_trials_that_are_not_used_are_named(tmp_path: Path) -> None:
    known, path = graph_of(), tmp_path / "their-trials.csv"
    fitting = [
        Trial(*cell, {"accuracy": 0.5}, settings=known.computing.outcome(cell)) for cell in known.tables.local[:3]
    ]

    def told(*trials: Trial) -> list[str]:
        write_trials(path, trials)
        return graph_of(lambda values: values.update(merge=[str(path)])).tables.unused

    older, foreign = replace(fitting[0], settings="0123456789ab"), replace(fitting[0], attack="renamed")
    assert told(*fitting) == told(*fitting, foreign) == []
    assert told(older, *fitting[1:]) == [
        f"merge: {path}: trials with other settings than the config (1 of 3) are not used"
    ]
    assert told(foreign) == [f"merge: {path}: no trial is of an attack, victim, row and seed of this study"]


def test_without_a_history_that_they_show_there_are_no_learning_curves(tmp_path: Path) -> None:
    """Where all rows are merged and only an ablation is trained here, or only another victim."""
    bound = {"name": "bound", "defense": "friendly", "method": "friendly-noise", "vary": {"zeta": [8, 16]}}

    def change(values: dict[str, Any], **more: Any) -> None:
        two_victims(values)
        values.update(ablations=[{**bound, "attacks": ["weak"]}], **more)

    known, path = graph_of(change), tmp_path / "their-trials.csv"
    cells = [cell for cell in known.tables.local if cell.defense != "bound-8" and cell.victim == "scratch"]
    trials = [Trial(*cell, {"accuracy": 0.5}, settings=known.computing.outcome(cell)) for cell in cells]
    write_trials(path, trials)
    merged = graph_of(lambda values: change(values, merge=[str(path)]))
    left = {(cell.attack, cell.victim, cell.defense) for cell in merged.tables.local}
    assert {("weak", "scratch", "bound-8"), ("strong", "wide", "none")} <= left
    figures = {figure: merged.figures.figure(figure).inputs["files"] for figure in merged.figures.every()}
    assert all(figures.values())
    assert {"strong/learning-curves", "weak/learning-curves"} == set(known.figures.every()) - set(figures)


def test_what_shows_merged_trials_depends_on_their_content_whatever_their_time(tmp_path: Path) -> None:
    known, path = graph_of(), tmp_path / "their-trials.csv"
    cells = [cell for cell in known.tables.local if cell.seed == 1]

    def shown(accuracy: float) -> dict[str, list[str]]:
        measures = {"success": 1.0, "accuracy": accuracy}
        trials = [Trial(*cell, measures, settings=known.computing.outcome(cell)) for cell in cells]
        write_trials(path, trials)
        # As rsync and tar leave it.
        os.utime(path, (1e9, 1e9))
        graph = graph_of(lambda values: values.update(merge=[str(path)]))
        reading = [job for job in graph.all_jobs() if any(str(path) in paths for paths in job.inputs.values())]
        return {job.stage: graph.code(job) for job in reading}

    before = shown(0.5)
    assert before.keys() == {"trials", "tables", "paper_table", "page"}
    assert shown(0.5) == before
    after = shown(0.25)
    assert [stage for stage in before if after[stage] == before[stage]] == []


def test_what_shows_published_numbers_depends_on_their_content_whatever_their_time(tmp_path: Path) -> None:
    for name in ("src", "workflow", "envs"):
        (tmp_path / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "reference", tmp_path / "reference")
    study = read_study(settings_of("tiny"))
    numbers = next((tmp_path / "reference" / str(study.paper)).glob("table1.csv"))

    def shown(text: str) -> dict[str, list[str]]:
        numbers.write_text(text, encoding="utf-8")
        os.utime(numbers, (1e9, 1e9))
        graph = Graph(study, root=str(tmp_path))
        reading = [job for job in graph.all_jobs() if any(str(numbers) in paths for paths in job.inputs.values())]
        return {job.stage: graph.code(job) for job in reading}

    text = numbers.read_text(encoding="utf-8")
    before = shown(text)
    assert before.keys() >= {"tables", "paper_table"}
    assert shown(text) == before
    after = shown(text.replace("75", "57"))
    assert [stage for stage in before if after[stage] == before[stage]] == []


def test_the_report_so_far_shows_the_targets_that_are_there_and_waits_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = graph_of()
    monkeypatch.chdir(tmp_path)
    cells = first.tables.local[:3]
    made = [path for cell in cells for path in first.computing.gathered(cell)]
    poisons = first.computing.poisons(cells[0].attack, cells[0].seed)
    for path in [*made, poisons]:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).touch()
    assert [cell.seed for cell in cells] == [0, 1, 0]
    job, told, awaited = of_report(graph_of(), "-so-far")
    assert (told, awaited) == ([poisons], [])
    assert job.depends == of_report(graph_of(), "-so-far")[0].depends
    os.utime(poisons, (1, 1))
    assert job.depends != of_report(graph_of(), "-so-far")[0].depends


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda values: values["attacks"][0].update(published=[{"table": 9}]), "there is no reference/friends/table9"),
        (
            lambda values: values["attacks"][0].update(published=[{"table": 3, "row": "zz"}]),
            "published row 'zz' is not one of those of table 3: name one of ['Gradient Matching (xi = 8)",
        ),
        (
            lambda values: values["attacks"][0].update(published=[{"table": 3}]),
            "attack 'strong': published table 3 has several rows for the same defense: give the row, one of ['Gradient",
        ),
        (
            lambda values: values["attacks"][0].update(published=[{"table": 1}, {"table": 3}]),
            "attack 'strong': published table 3 has several rows for the same defense: give the row, one of ['Gradient",
        ),
        (
            lambda values: values["defenses"][2].update(published="freindly"),
            "defense 'friendly': published 'freindly' is not one of ['bernoulli', 'friendly', 'friends-bernoulli'",
        ),
        (lambda values: values.update(merge=["no/such-trials.csv"]), "merge: no/such-trials.csv: cannot be read"),
        (lambda values: values["attacks"][0].update(setup="no/such.json"), "there is no file no/such.json"),
        (
            lambda values: values.update(merge=["results/tables/tiny-trials.csv"]),
            "merge: results/tables/tiny-trials.csv is this study's own file, which each call rewrites",
        ),
        (
            lambda values: values.update(merge=[os.path.abspath("results/tables/tiny-so-far-trials.csv")]),
            "is this study's own file",
        ),
        (
            lambda values: values.setdefault("figures", {}).update(
                by_victim=[{"attack": "strong", "defenses": ["none"], "table": 3, "rows": {"scratch": "zz"}}]
            ),
            "figures.by_victim of attack 'strong': row 'zz' of victim 'scratch' is not one of those of table 3",
        ),
    ],
)
def test_files_that_are_not_there(change: Callable[[dict[str, Any]], object], words: str) -> None:
    with pytest.raises(PoisonlabError, match=re.escape(words)):
        graph_of(change).check()


def test_a_dataset_that_is_missing_is_not_taken_for_that_of_other_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake passes over the rule and takes the old output for a source."""

    def npz(path: str) -> Graph:
        return graph_of(lambda values: values.update(dataset={"source": "npz", "path": path}))

    monkeypatch.setattr(Graph, "_check_published", lambda _graph: None)  # of a folder that is not here
    monkeypatch.chdir(tmp_path)
    made = npz("there.npz")
    npz("misspelt.npz").check()
    Path(made.places.dataset).parent.mkdir(parents=True)
    Path(made.places.dataset).touch()
    npz("misspelt.npz").check()  # nobody knows what it was made of
    Path(".snakemake/metadata").mkdir(parents=True)  # whose file system says how long names may be
    record = Records()._place("metadata", made.places.dataset)
    record.write_text(json.dumps({"params": [repr(list(made.job("dataset").settings)), "code"]}), encoding="utf-8")
    with pytest.raises(DataError, match=r"dataset: misspelt.npz is missing, and .* was made with other settings"):
        npz("misspelt.npz").check()
    made.check()


def test_a_lost_folder_ends_the_call_before_its_dataset_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Snakemake would remove the dataset, and with the new one every job would be out of date."""
    monkeypatch.setattr(Graph, "_check_published", lambda _graph: None)  # of a folder that is not here
    monkeypatch.chdir(tmp_path)
    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / "photos" / place).mkdir(parents=True)
        (tmp_path / "photos" / place / "0.png").touch()
    made = graph_of(lambda values: values.update(dataset={"source": "image-folder", "root": "photos"}))
    made.check()
    Path(made.places.dataset).parent.mkdir(parents=True)
    Path(made.places.dataset).touch()
    made.check()
    for lost, back in (("photos", "elsewhere"), ("photos/train", "elsewhere"), ("photos/test/b/0.png", "0.png")):
        Path(lost).rename(back)
        with pytest.raises(
            DataError, match=r"is missing or has no images any more: restore it\. results/data/\S+ made"
        ):
            graph_of(lambda values: values.update(dataset={"source": "image-folder", "root": "photos"})).check()
        Path(back).rename(lost)
    made.check()


def test_jobs_that_show_measures_depend_on_how_and_those_that_compute_do_not() -> None:
    graph = graph_of(name="rooms")
    jobs = graph.all_jobs()
    assert {"dataset", "dilute", "train", "tables"} <= {job.stage for job in jobs}
    for job in jobs:
        shows = any("config/measures.py@" in string for string in graph.code(job))
        assert shows == (job.stage in SHOWING), job.stage
        assert shows != any(string.startswith("torch==") for string in graph.code(job)), job.stage


def test_attacks_without_a_goal_are_compared_if_there_are_three() -> None:
    graph = graph_of(name="rooms")
    every = graph.figures.every()
    assert set(OF_ALL_ATTACKS) <= set(every)
    curves = graph.figures.figure("poison-curves")
    sources = Counter(source.partition("=")[0] for source in curves.options["from"])
    assert sources == {"control": 2, "victims.regions": 2, "victims.pgd": 1, "victims.waves": 1}
    sets = graph.figures.figure("perturbations").inputs["files"]
    assert [Path(path).parts[-2:] for path in sets] == [
        (attack, "seed0.safetensors") for attack in ("regions", "pgd", "waves")
    ]
    speed = parse(graph.figures.figure("speed").settings)
    assert (speed["x"]["name"], speed["y"]["name"]) == ("first_epoch", "peak_accuracy")
    assert (speed["attacks"], speed["victims"], speed["defense"]) == (
        ["regions", "pgd", "waves"],
        ["small"] * 3,
        "none",
    )
    two = graph_of(lambda values: values["attacks"].pop(), name="rooms")
    assert not set(OF_ALL_ATTACKS) & set(two.figures.every())


def with_views(values: dict[str, Any]) -> None:
    networks = [{"victim": victim, "defense": row} for victim, row in (("small", "surrogate-knn"), ("other", "none"))]
    draw = ["projection", "filtered-images"]
    figures = values["figures"]
    figures["attacks"] = []
    figures["features"] = [{"name": "near", "attack": "matching", "networks": networks, "draw": draw}]
    figures["features"][0]["published"] = {"projection": 4}
    figures["by_victim"] = [{"attack": "matching", "defenses": ["surrogate-knn"], "figure": 3}]


def test_a_view_looks_at_the_filter_s_network_or_at_the_row_s_own_victim() -> None:
    graph = graph_of(with_views, name="rooms")
    made = graph.job("feature_view", {"attack": "matching", "view": "near"})
    assert made.inputs["networks"] == [
        "results/surrogates/rooms/base/seed0-0.safetensors",
        "results/victims/rooms/matching/other/none/seed0.safetensors",
    ]
    assert made.inputs["keep"] == ["results/filters/rooms/matching/small/surrogate-knn/seed0.safetensors"]
    told = parse(made.settings)["networks"]
    assert [(each["victim"], each["filtered"], each["model"]["name"]) for each in told] == [
        ("small", True, "small-resnet"),
        ("other", False, "lenet"),
    ]
    assert told[0]["start"] == {
        "scenario": "from-scratch",
        "head": "fresh",
        "batch_norm": "eval",
        "fine_tune_per_class": None,
    }
    assert "poisonlab.models.lenet" in made.roots
    assert made.outputs == {"view": "results/figures/rooms/matching/features-near.npz"}


def test_figures_of_views_and_bars_are_drawn_whatever_attacks_have_figures_of_their_own() -> None:
    graph = graph_of(with_views, name="rooms")
    of_filters = ["matching/by-victim", "matching/projection-near", "matching/filtered-images-near"]
    assert graph.figures.every()[-3:] == of_filters
    drawn = graph.figures.figure("matching/projection-near")
    assert drawn.options["from"] == ["view=results/figures/rooms/matching/features-near.npz"]
    assert parse(drawn.settings)["beside"] == "figure 4 of the paper"
    assert "beside" not in parse(graph.figures.figure("matching/filtered-images-near").settings)
    told = parse(graph.figures.figure("matching/by-victim").settings)
    assert {(line["victim"], line["defense"]) for line in told["lines"]} == {
        (victim, row) for victim in ("small", "other") for row in ("none", "surrogate-knn")
    }
    assert "projection-near.png" in " ".join(graph.job("page", {"scope": ""}).inputs["files"])


def test_attacks_are_compared_each_on_its_first_victim() -> None:
    graph = graph_of(lambda values: values["attacks"][3].update(victims=["other", "small"]), name="rooms")
    assert parse(graph.figures.figure("speed").settings)["victims"] == ["small", "small", "other"]
    graph = graph_of(lambda values: values["attacks"][3].update(low_loss=1.5), name="rooms")
    assert parse(graph.figures.figure("poison-curves").settings)["low_loss"] == [1.5, 2.2]


def test_curves_mark_the_begin_of_friendly_noise_where_all_rows_have_one() -> None:
    def told(change: Callable[[dict[str, Any]], object]) -> Any:
        return parse(graph_of(change).figures.figure("strong/learning-curves").settings)["def_epoch"]

    assert told(lambda values: None) == 1
    assert told(lambda values: values["defenses"][3]["apply"][0].update(def_epoch=2)) is None


def with_weights(path: Path) -> Callable[[dict[str, Any]], object]:
    def change(values: dict[str, Any]) -> None:
        values["victims"][0]["model"] = {"name": "timm", "model": "test_resnet", "pretrained": str(path)}

    return change


def test_jobs_of_a_library_s_network_depend_on_its_version_and_on_its_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"1")
    graph = graph_of(with_weights(path))
    graph.check()
    own, other = (
        graph.job("train", Cell("strong", "scratch", "friendly", 1)._asdict()),
        graph.computing.craft("strong", 1),
    )
    assert own.watched == (str(path),)
    assert any(string.startswith("timm==") for string in graph.code(own))
    assert not any(string.startswith("timm==") for string in graph.code(other))
    before = graph.code(own)
    path.write_bytes(b"2")
    after = graph_of(with_weights(path)).code(own)
    assert [string.partition("@")[0] for string in set(before) - set(after)] == ["files read by train"]
    path.unlink()
    with pytest.raises(PoisonlabError, match=r"pretrained: there is no file .*weights\.safetensors"):
        graph.check()


def by_adam(values: dict[str, Any]) -> None:
    values["victims"][0]["recipe"] |= {"optimizer": "adamw", "lr": 0.01}


def test_only_jobs_that_train_by_adam_depend_on_it() -> None:
    def code(graph: Graph, stage: str, **names: Any) -> str:
        return " ".join(graph.code(graph.job(stage, names)))

    before, after = graph_of(), graph_of(by_adam)
    cell = Cell("strong", "scratch", "friendly", 1)._asdict()
    for stage in ("noise", "train"):
        assert "training/adam" not in code(before, stage, **cell)
        assert "training/adam.py@" in code(after, stage, **cell)
    surrogate = {"surrogate": "base", "seed": 1, "member": 0}
    assert code(after, "pretrain", **surrogate) == code(before, "pretrain", **surrogate)
    assert "training/sgd.py@" in code(before, "pretrain", **surrogate)
