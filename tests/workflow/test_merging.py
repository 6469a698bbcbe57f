"""Victims that other runs or machines answer for, and tables of what there is so far."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from harness import STAGES, Checkout, Job, check_out
from predicting import graph_of, inside
from test_invalidation import COMPUTED, DATASET, SEEDS, TABLES, craft, edited, met, noise, pretrain, setting, train

from poisonlab.evaluation.trials import Trial, write_trials
from poisonlab.provenance import parse

pytestmark = pytest.mark.workflow

Key = tuple[str, str, int]
"""Attack, row and seed; the victim is the one that all of them have."""

ROWS = ("clean", "none", "friendly", "friends-bernoulli")
CELLS: list[Key] = [(attack, row, seed) for attack in ("strong", "weak") for row in ROWS for seed in SEEDS]
SO_FAR: set[Job] = {
    ("so_far", ""),
    *((rule, "-so-far") for rule in ("trials", "tables", "page")),
    ("paper_table", "-so-far/4"),
}


def digests(study: Checkout) -> dict[tuple[str, str], str]:
    """What the trials of each row of a study must carry."""
    return {(line["attack"], line["defense"]): line["settings"] for line in graph_of(study.path).tables.lines()}


def planned_for_tables(study: Checkout) -> set[Job]:
    """The jobs that the tables of a study need from scratch."""
    with inside(study.path):
        graph = graph_of(study.path)
        return {(job.stage, job.name) for job in graph.jobs_for(graph.tables.every(""))} & {
            (job.stage, job.name) for job in graph.all_jobs() if job.stage in STAGES
        }


def merge(checkout: Checkout, keys: Iterable[Key], known: dict[tuple[str, str], str], success: float = 1.0) -> None:
    """Name a file of trials of these victims in the study."""
    measures = {"success": success, "adversarial_confidence": 0.5, "accuracy": 0.75}
    trials = [
        Trial(attack, "scratch", row, seed, measures, 1, 10.0 * seed, settings=known[attack, row])
        for attack, row, seed in keys
    ]
    name = "results/reference/elsewhere/their-trials.csv"
    write_trials(checkout.path / name, trials)
    checkout.change_study(lambda study: study.update(merge=[name]))


@pytest.fixture(scope="module")
def known(fresh: Checkout) -> dict[tuple[str, str], str]:
    """The digests of tiny.yaml."""
    return digests(fresh)


@pytest.fixture
def new(fresh: Checkout, tmp_path: Path) -> Checkout:
    """A checkout of tiny.yaml in which nothing was run."""
    return fresh.copy(tmp_path / "study")


ANSWERED = [key for key in CELLS if key[1] == "friendly" or key[2] == 1]
"""All victims of one row, and all of one seed."""
LEFT = train("clean", "none", "friends-bernoulli", seeds=(0,)) | noise("friends-bernoulli", seeds=(0,))
"""What nobody answers for."""
BEFORE = DATASET | pretrain((0,)) | craft(seeds=(0,))


def test_each_row_has_settings_of_its_own(known: dict[tuple[str, str], str]) -> None:
    assert list(known) == list(dict.fromkeys(key[:2] for key in CELLS))
    assert len(set(known.values())) == len(known)


def test_victims_that_others_answer_for_are_not_planned(new: Checkout, known: dict[tuple[str, str], str]) -> None:
    merge(new, ANSWERED, known)
    assert planned_for_tables(new) == BEFORE | LEFT | TABLES


def test_what_is_no_setting_of_a_victim_refuses_nothing(new: Checkout, known: dict[tuple[str, str], str]) -> None:
    merge(new, ANSWERED, known)
    for change in (
        setting("seeds", to=[2, 1, 0]),
        setting("attacks", 1, "seeds", to=[0, 1]),
        setting("threads", to=2),
        setting("attacks", 0, "published", to=[]),
        setting("description", to="Another."),
        lambda checkout: checkout.change_study(lambda study: study["defenses"].reverse()),
        # Code is the merger's own responsibility.
        edited("src/poisonlab/training/loop.py"),
    ):
        change(new)
    others = pretrain((2,)) | craft("strong", seeds=(2,))
    others |= train(attacks=("strong",), seeds=(2,)) | noise(attacks=("strong",), seeds=(2,))
    assert planned_for_tables(new) == BEFORE | LEFT | others | TABLES


@pytest.mark.parametrize(
    ("change", "attacks"),
    [
        (setting("attacks", 0, "eps", to=8), ("strong",)),
        (setting("surrogates", 0, "recipe", "lr", to=0.01), ("strong", "weak")),
        (setting("dataset", "contrast", to=0.5), ("strong", "weak")),
    ],
    ids=["eps of one attack", "lr of the surrogate", "contrast of the dataset"],
)
def test_a_setting_further_up_refuses_what_depends_on_it(
    change: Callable[[Checkout], None], attacks: tuple[str, ...], new: Checkout, known: dict[tuple[str, str], str]
) -> None:
    merge(new, ANSWERED, known)
    change(new)
    again = train(attacks=attacks) | noise(attacks=attacks) | craft(*attacks) | pretrain()
    assert planned_for_tables(new) == BEFORE | LEFT | again | TABLES


def test_trials_of_other_settings_answer_for_nothing(new: Checkout, known: dict[tuple[str, str], str]) -> None:
    merge(new, CELLS, dict.fromkeys(known, "0123456789ab"))
    assert planned_for_tables(new) == DATASET | COMPUTED | TABLES


def test_a_study_that_others_ran_runs_only_what_its_figures_show(
    new: Checkout, known: dict[tuple[str, str], str]
) -> None:
    merge(new, CELLS, known)
    plan = new.plan()
    # Friendly noise, and the undefended victims of the landscapes.
    shown = train("none", seeds=(0,)) | noise("friendly", seeds=(0,))
    assert plan.jobs() == BEFORE | shown | TABLES
    drawn = {name for rule, name in plan.reasons if rule == "figure"}
    assert "strong/landscape-victims" in drawn
    # Of the other victims there is no history here.
    assert "strong/learning-curves" not in drawn
    assert new.plan("results").jobs() == TABLES


def test_a_network_that_is_looked_at_is_trained_here(tmp_path: Path) -> None:
    """An outcome is no network."""
    study = check_out(tmp_path / "study", Path(__file__).with_name("defended.yaml"))
    answers = digests(study)
    rows = ("again", "strip")
    keys = [(*pair, seed) for pair in answers for seed in (0, 1) if pair[1] not in rows]
    merge(study, keys, answers)
    networks = met("train", "none", "filtered") | met("filter", "filtered")
    found = {job for job in planned_for_tables(study) if job[0] in ("train", "filter", "noise", "detect")}
    assert found == networks | met("train", "again") | met("filter", "again") | met("detect", "strip")


def test_a_victim_that_was_run_here_and_elsewhere_is_not_run_again(
    copied: Checkout, known: dict[tuple[str, str], str]
) -> None:
    merge(copied, ANSWERED, known)
    assert copied.plan().jobs() == TABLES


def test_a_file_of_trials_that_is_missing(new: Checkout) -> None:
    setting("merge", to=["no/such-trials.csv"])(new)
    outcome = new.snakemake("-n", "--cores", "1")
    assert outcome.code != 0
    assert "Traceback" not in outcome.output
    (line,) = {line for line in outcome.output.splitlines() if "no/such-trials.csv" in line}
    assert "merge: no/such-trials.csv: cannot be read (No such file or directory): check the path" in line


# --- What there is so far ---


def so_far(study: Checkout) -> tuple[list[dict[str, str]], list[str]]:
    """The lines of the tidy table, and the notes, that a real run of target so_far makes."""
    outcome = study.snakemake("so_far", "--cores", "1")
    assert outcome.code == 0, outcome.output
    (table,) = (study.path / "results/tables").glob("*-so-far.csv")
    with table.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    text = table.with_suffix(".md").read_text(encoding="utf-8")
    return lines, [line[2:] for line in text.splitlines() if line.startswith(("- Not run yet", "- Refused"))]


def test_tables_of_nothing_and_of_what_others_ran(new: Checkout, known: dict[tuple[str, str], str], warm: str) -> None:
    new = Checkout(new.path, warm)
    lines, notes = so_far(new)
    assert [(line["attack"], line["defense"], line["n"]) for line in lines] == [(*pair, "0") for pair in known]
    assert {
        value
        for line in lines
        for key, value in line.items()
        if key not in ("attack", "victim", "defense", "control", "n", "diverged") and not key.endswith("_n")
    } == {""}
    assert notes == ["Not run yet: 16 of 16 victims."]
    assert {path.parent.name for path in (new.path / "results").rglob("*.*") if path.is_file()} == {
        "reports",
        "tables",
        "tiny",
    }
    assert {path.name for path in (new.path / "results").iterdir()} == {"reports", "tables", "logs"}
    assert new.plan("so_far").reasons == {}

    # One row fits, of another one the settings do not.
    fits = known | {("weak", "none"): "0123456789ab"}
    merge(new, [("strong", "none", 0), ("strong", "none", 1), ("weak", "none", 1)], fits)
    assert set(new.plan("so_far").reasons) == SO_FAR
    lines, notes = so_far(new)
    assert [(line["n"], line["success"], line["seconds"]) for line in lines if line["n"] != "0"] == [
        ("2", "1.0", "5.0")
    ]
    assert notes == [
        "Not run yet: 14 of 16 victims.",
        "Refused, because made with other settings than this study's: "
        "weak/none of results/reference/elsewhere/their-trials.csv (seeds 1).",
    ]


def lose(study: Checkout, attack: str, row: str, seed: int) -> None:
    for path in (study.path / f"results/victims/tiny/{attack}/scratch/{row}").glob(f"seed{seed}.*"):
        path.unlink()


def test_tables_so_far_run_and_rerun_no_victim(copied: Checkout, known: dict[tuple[str, str], str]) -> None:
    lose(copied, "strong", "none", 0)
    # Nor what would rerun, were it asked for.
    setting("attacks", 1, "steps", to=4)(copied)
    assert set(copied.plan("so_far").reasons) == SO_FAR
    outcome = copied.snakemake("so_far", "--cores", "1")
    assert outcome.code == 0, outcome.output
    assert copied.plan("so_far").reasons == {}
    assert seeds_so_far(copied) == {pair: [1] if pair == ("strong", "none") else [0, 1] for pair in known}
    # One victim less, and what a victim needed: its noise.
    lose(copied, "weak", "clean", 1)
    (copied.path / "results/noise/tiny/weak/scratch/friendly/seed0.card.json").unlink()
    assert set(copied.plan("so_far").reasons) == SO_FAR
    outcome = copied.snakemake("so_far", "--cores", "1")
    assert outcome.code == 0, outcome.output
    gone = {("strong", "none"): [1], ("weak", "clean"): [0], ("weak", "friendly"): [1]}
    assert seeds_so_far(copied) == {pair: gone.get(pair, [0, 1]) for pair in known}


def seeds_so_far(study: Checkout) -> dict[tuple[str, str], list[int]]:
    """What the job was told that gathered trials so far."""
    command = shlex.split(study.record("results/tables/tiny-so-far-trials.csv")["shellcmd"])
    spec = parse(part for part in command if part.startswith("lines."))
    return {(line["attack"], line["defense"]): line["seeds"] for line in spec["lines"]}
