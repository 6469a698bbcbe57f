"""Pages agree with the code and with each other: links lead somewhere, house and graph stand as they are told."""

from __future__ import annotations

import csv
import importlib.util
import re
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import networkx as nx
import pandas as pd
import pytest
import yaml
from doc_pages import PAGES, ROOT, blocks, called
from pydantic import TypeAdapter
from scipy import stats

from poisonlab.config.attack_settings import AttackSettings
from poisonlab.config.datasets import DatasetSettings
from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph

_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = _FENCED.sub("", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> list[str]:
    return [str(link) for link in _LINK.findall(_FENCED.sub("", page.read_text("utf-8")))]


@pytest.mark.parametrize("page", PAGES, ids=called)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        file, _, anchor = link.partition("#")
        if "://" in link:
            continue
        target = page.parent / file if file else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def test_links_to_elsewhere_are_few_and_safe() -> None:
    """They are not fetched: whoever adds one looks at it, and writes its host here."""
    elsewhere = [urlsplit(link) for page in PAGES for link in links(page) if "://" in link]
    assert {url.scheme for url in elsewhere} == {"https"}
    assert {url.netloc for url in elsewhere} == {"docs.python.org", "github.com", "www.researchobject.org"}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def floors() -> ModuleType:
    spec = importlib.util.spec_from_file_location("floors", ROOT / "tests" / "test_floors.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_house_stands_as_it_is_told() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The house")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE)
    told = [cells.split(" · ") for _, cells in sorted(rows, key=lambda row: int(row[0]))][:-1]
    assert [tuple(re.findall(r"`(\w+)`", " ".join(floor))) for floor in told] == list(floors().FLOORS)
    marked = {name.split("`")[1] for floor in told for name in floor if name.endswith(" ○")}
    assert marked == set(floors().FREE_OF_TORCH)


def test_each_config_is_listed() -> None:
    page = (ROOT / "config" / "README.md").read_text("utf-8")
    files = [path for path in (ROOT / "config").rglob("*.yaml") if not path.is_symlink()]
    shipped = {path.relative_to(ROOT / "config").as_posix() for path in files}
    assert set(re.findall(r"\]\(([\w./-]+\.yaml)\)", page)) == shipped | {"../config.yaml"}


def told_edges() -> set[tuple[str, str]]:
    """Which job reads the results of which, by the table of docs/how-it-works.md."""
    page = (ROOT / "docs" / "how-it-works.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.+?) \| (.+?) \|", page.partition("## The jobs")[2].partition("\n## ")[0], re.MULTILINE)
    names = [(re.findall(r"`(\w+)`", jobs), re.findall(r"`(\w+)`", sources)) for jobs, sources in rows]
    return {(source, job) for jobs, sources in names for job in jobs for source in sources}


def test_the_graph_is_told_as_it_is() -> None:
    """Every job and what it reads, but for the dataset, which all read that compute."""
    edges = {("dataset", "pretrain")}
    for name in ("smoke", "learned-faster-smoke", "deep-knn-smoke"):
        made: dict[str, str] = {}
        study = read_study(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text("utf-8")))
        for job in Graph(study).all_jobs():
            made |= dict.fromkeys(job.outputs.values(), job.stage)
            read = {made[path] for paths in job.inputs.values() for path in paths if path in made}
            edges |= {(source, job.stage) for source in read if source != "dataset"}
    assert told_edges() == edges


def test_the_diagram_shows_the_arrows_of_the_table() -> None:
    """Dotted arrows close circles; by the others, every job comes after all that it waits for."""
    (diagram,) = blocks("how-it-works.md", "mermaid")
    solid, dotted = nx.DiGraph(), set()
    for line in diagram.splitlines()[1:]:
        groups = [group.split(" & ") for group in re.split(r" --> | -\.-> ", line.strip())]
        arrows = [arrow for pair in pairwise(groups) for arrow in product(*pair)]
        if "-.->" in line:
            dotted |= set(arrows)
        else:
            solid.add_edges_from(arrows)
    table = told_edges()
    assert {*solid.edges, *dotted} <= table
    assert nx.is_directed_acyclic_graph(solid)
    assert table - dotted <= set(nx.transitive_closure_dag(solid).edges)


def test_the_attacks_that_pages_show_are_attacks() -> None:
    """Keys that no attack has any more would be refused; other blocks of these pages are tested by their examples."""
    found = [yaml.safe_load(body) for body in blocks("import-poisons.md", "yaml")]
    for dataset in (block["dataset"] for block in found if "dataset" in block):
        TypeAdapter(DatasetSettings).validate_python(dataset)
    shown = [attack for block in found for attack in (block["attacks"] if isinstance(block, dict) else block)]
    names = [TypeAdapter(AttackSettings).validate_python(attack).name for attack in shown]
    assert names == ["downloaded", "unlearnable", "perturbed-pngs", "published-polytope", "bullseye"]


def test_the_published_polytopes_meet_all_victims_of_the_paper_s_study() -> None:
    """Rows that name their attacks meet them, too, when the list that they share does."""
    (block,) = [yaml.safe_load(body) for body in blocks("import-poisons.md", "yaml") if "published-polytope" in body]
    values = yaml.safe_load((ROOT / "config" / "deep-knn.yaml").read_text("utf-8"))
    (attack,) = block["attacks"]
    values["attacks"].append(attack)
    (named,) = {
        id(row["attacks"]): row["attacks"] for row in values["defenses"] if "convex-polytope" in row.get("attacks", [])
    }.values()
    named.append(attack["name"])
    study = read_study(values)
    assert study.dataset == TypeAdapter(DatasetSettings).validate_python(block["dataset"])
    assert study.attack(attack["name"]).victims == study.attack("convex-polytope").victims
    facing = [[row.name for row in study.defenses if row.faces(name)] for name in ("convex-polytope", attack["name"])]
    assert facing[0] == facing[1]
    assert len(study.seeds_of(study.attack(attack["name"]))) == 50


def test_defenses_against_availability_poisons_are_compared_on_one_seed() -> None:
    """Cell by cell against the lines of the trials with seed 0, in the rows' and the columns' order."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-trials.csv"
    with path.open(encoding="utf-8") as file:
        trials = {
            (each["victim"], each["attack"], each["defense"]): each
            for each in csv.DictReader(file)
            if each["seed"] == "0"
        }
    section = (ROOT / "docs" / "results.md").read_text("utf-8").partition("### Defenses against them")[2]
    table = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    attacks = ("p100", "p250", "fcsd", "r4", "r16", "lf4", "su", "cu")
    columns = [*(("small", attack) for attack in attacks), ("plain", "su"), ("plain", "cu")]
    friends = [f"friends-{kind}" for kind in ("bernoulli", "uniform", "gaussian")]
    rows = ["none", "early-stopping", *friends, "adversarial-training", "mixup", "cutmix", "cutout", "grayscale"]
    rows += ["jpeg-90", "jpeg-50", "jpeg-10", "dilution-20", "dilution-50"]
    for name, (_, *cells) in zip(rows, table, strict=True):
        for (victim, attack), cell in zip(columns, cells, strict=True):
            trial = trials[victim, attack, name]
            end, peak = (100 * float(trial[measure]) for measure in ("accuracy", "peak_accuracy"))
            shown = [float(number.strip("()")) for number in cell.split()]
            assert shown == pytest.approx([end, peak][: 2 if peak - end >= 3 else 1], abs=0.051)
    # The list of the papers' differences repeats some cells.
    (line,) = [each for each in (ROOT / "docs" / "fidelity.md").read_text("utf-8").splitlines() if "P100 24" in each]
    for attack in ("p100", "r16"):
        (told,) = re.findall(rf"{attack.upper()} ([\d.]+) % → ([\d.]+) %, ", line)
        own = [100 * float(trials["small", attack, name]["accuracy"]) for name in ("none", "jpeg-10")]
        assert [float(each) for each in told] == pytest.approx(own, abs=0.051)


def test_results_tell_how_long_the_victims_of_all_attacks_took() -> None:
    """By the seconds of the committed lines, which no filter's network is part of."""
    path = ROOT / "results/reference/attacks-float32-cpu/attacks-trials.csv"
    with path.open(encoding="utf-8") as file:
        seconds = [float(each["seconds"]) for each in csv.DictReader(file)]
    told = " ".join((ROOT / "docs" / "results.md").read_text("utf-8").split())
    assert f"Its {len(seconds)} victims took {sum(seconds) / 60:.0f} core-minutes on an Intel Xeon" in told


def test_poisons_that_augmentation_undoes_are_counted() -> None:
    """By means over seeds: with augmentation within 7 points of clean data, and without it not."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-trials.csv"
    finals: dict[tuple[str, str], list[float]] = {}
    with path.open(encoding="utf-8") as file:
        for each in csv.DictReader(file):
            if each["defense"] in ("none", "clean"):
                name = "clean" if each["defense"] == "clean" else each["attack"]
                finals.setdefault((each["victim"], name), []).append(100 * float(each["accuracy"]))
    mean = {key: sum(values) / len(values) for key, values in finals.items()}
    near = {
        victim: {name for who, name in mean if who == victim and mean[victim, "clean"] - mean[victim, name] <= 7}
        for victim in ("small", "plain")
    }
    assert near["plain"] == {"clean", "p10"}
    numbers = ("six", "seven", "eight", "nine", "ten")
    undone = numbers[len(near["small"] - near["plain"]) - 6]
    results = (ROOT / "docs" / "results.md").read_text("utf-8")
    assert f"**Augmentation undoes {undone} of the 25 poisons on this network**" in results


def test_results_tell_which_poisons_transfer_best() -> None:
    """By the committed table: an average, and the published one, of each poison."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-transfer.md"
    rows = [line.strip("| ").split("|") for line in path.read_text("utf-8").splitlines() if line.startswith("|")][2:]
    ours, theirs = ({row[0].strip(): float(row[at].strip(" *")) for row in rows} for at in (4, 5))
    assert sorted(ours, key=lambda name: -ours[name])[:3] == ["FCSD", "FCS", "FC"]
    assert max(theirs, key=lambda name: theirs[name]) == "P250"
    results = (ROOT / "docs" / "results.md").read_text("utf-8")
    (told,) = re.findall(r"^- \*\*Transfer\*\*.*?(?=^$|^- )", results, re.MULTILINE | re.DOTALL)
    assert "best, as published" not in " ".join(told.split())
    assert f"P250 as the best, with {theirs['P250']:.0f} %" in " ".join(told.split())
    assert [round(ours[name]) for name in ("P100", "P250")] == [45, 45]
    assert "have 45 % here" in told


def test_results_tell_how_far_undefended_seeds_of_availability_poisons_differ() -> None:
    """By the committed lines: which columns of the table have two undefended seeds, and how far they are apart."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-trials.csv"
    with path.open(encoding="utf-8") as file:
        finals = {
            (each["victim"], each["attack"], each["defense"], each["seed"]): 100 * float(each["accuracy"])
            for each in csv.DictReader(file)
        }
    columns = [("small", name) for name in ("p100", "p250", "r4", "r16", "lf4", "su", "cu")]
    columns += [("plain", "su"), ("plain", "cu")]
    apart = {who: abs(finals[*who, "none", "0"] - finals[*who, "none", "1"]) for who in columns}
    cu = apart.pop(("small", "cu"))
    own = {key[2:]: value for key, value in finals.items() if key[:2] == ("small", "cu")}
    changes = [abs(value - own["none", seed]) for (_, seed), value in own.items()]
    undefended, back, clean = own["none", "1"], own["friends-bernoulli", "1"], finals["small", "r4", "clean", "1"]
    told = " ".join((ROOT / "docs" / "results.md").read_text("utf-8").split())
    assert cu > max(changes) > max(apart.values())
    assert "Two seeds of CU differ more than any defense changes it" in told
    assert f"two undefended seeds differ by at most {max(apart.values()) + 0.049:.1f} points" in told
    assert f"{back - undefended:.0f} of {clean - undefended:.0f} points come back" in told


def test_results_tell_the_interval_of_pgds_fall() -> None:
    """Student's, by scipy; of six pairs at once, so that each has a sixth of the 5 %."""
    path = ROOT / "results/reference/learned-faster-mini-cpu/learned-faster-mini-trials.csv"
    peaks: dict[str, dict[str, float]] = {}
    with path.open(encoding="utf-8") as file:
        for each in csv.DictReader(file):
            if (each["victim"], each["defense"]) == ("small", "none"):
                peaks.setdefault(each["attack"], {})[each["seed"]] = 100 * float(each["peak_accuracy"])
    falls = [peaks["p10"][seed] - peaks["p100"][seed] for seed in ("0", "1")]
    low, high = stats.t.interval(1 - 0.05 / 6, 1, sum(falls) / 2, stats.sem(falls))
    told = " ".join((ROOT / "docs" / "results.md").read_text("utf-8").split())
    assert f"falls by {sum(falls) / 2:.0f} points with augmentation ({low:.0f} to {high:.0f})" in told


def test_the_list_of_differences_tells_what_the_trials_have() -> None:
    """Of the two papers beside FRIENDS: peaks, rank correlations and what filters find, from the committed lines."""
    reference = ROOT / "results" / "reference"
    faster = pd.read_csv(reference / "learned-faster-mini-cpu" / "learned-faster-mini-trials.csv")
    knn = pd.read_csv(reference / "deep-knn-mini-cpu" / "deep-knn-mini-trials.csv")
    told = (ROOT / "docs" / "fidelity.md").read_text("utf-8").partition("## Where our results disagree")[2]
    means = faster[faster["defense"] == "none"].groupby(["victim", "attack"])[["accuracy", "peak_accuracy"]].mean()
    plain, small = (
        stats.spearmanr(means.loc[victim, "accuracy"], means.loc[victim, "peak_accuracy"]).statistic
        for victim in ("plain", "small")
    )
    assert f"rank correlation 0.53 | {plain:.2f}, with augmentation {small:.2f} |" in told
    fcsd, fcs, fc, *more = (
        round(100 * means.loc[(victim, attack), "peak_accuracy"])
        for victim in ("plain", "small")
        for attack in ("fcsd", "fcs", "fc")
    )
    assert f"leaves {fcsd} %, FCS {fcs}, FC {fc}; with augmentation {more[0]}, {more[1]} and {more[2]}." in told
    found = (
        knn.groupby("defense")[["poisons_dropped", "poisons_kept", "success"]]
        .sum()
        .loc[["l2-collision", "svm-collision"]]
    )
    shares = 100 * found["poisons_dropped"] / (found["poisons_dropped"] + found["poisons_kept"])
    assert f"{shares.iloc[0]:g} and {shares.iloc[1]:g} % found" in told
    assert found["success"].tolist() == [4, 4]
