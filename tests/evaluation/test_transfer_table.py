"""Transfer of poisons to clean networks: counted by hand, its table, and the paper's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.transfer import transfer
from poisonlab.config.study import read_study
from poisonlab.errors import PoisonlabError
from poisonlab.evaluation.layouts import latex
from poisonlab.evaluation.published import published, read_paper
from poisonlab.evaluation.transfer import transfer_findings, transfer_layout, transfer_table
from poisonlab.graph.graph import Graph
from poisonlab.graph.job import Job
from poisonlab.models.classifier import Normalize
from poisonlab.provenance import parse

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "reference" / "learned-faster"
NETWORKS = ["resnet18", "vgg19", "mobilenet", "googlenet"]


class ReadsALabel(nn.Module):
    """Gives every image the label that its first pixel is."""

    def forward(self, images: Tensor) -> Tensor:
        labels = (images[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(labels, 4).float()


def share(of_poisons: list[int], of_bases: list[int], labels: list[int], score: Any) -> float:
    """Of a set that the network gives these labels; the last poison is appended, and its label its own."""
    images, bases = (torch.tensor(own, dtype=torch.uint8)[:, None, None, None] for own in (of_poisons, of_bases))
    rows = torch.tensor([*range(len(labels) - 1), -1])
    # Poisons' labels count for nothing where they replace an image.
    given = torch.tensor([(label + 1) % 4 for label in labels[:-1]] + labels[-1:])
    poisons = PoisonSet(rows, images, given, bases)
    return transfer(ReadsALabel(), Normalize((0.0,), (1.0,)), poisons, torch.tensor(labels), score)


def test_shares_by_hand() -> None:
    labels = [0, 1, 2, 3, 0]
    made, bases = [1, 1, 0, 3, 2], [0, 1, 2, 0, 0]
    # Wrong on the 1st, 3rd and 5th of five.
    assert share(made, bases, labels, "misclassified") == pytest.approx(3 / 5)
    # Four bases are right; three of their poisons are wrong. The other base is wrong and its poison right: one more.
    assert share(made, bases, labels, "agreement") == pytest.approx((3 + 1) / 4)
    with pytest.raises(PoisonlabError, match="no clean image"):
        share(made, [1, 2, 3, 0, 1], labels, "agreement")


def test_means_over_seeds_and_bold_within_a_point_of_the_best() -> None:
    shares = pd.DataFrame(
        [
            {"attack": "a", "one": 0.90, "two": 0.4},
            {"attack": "a", "one": 0.94, "two": 0.6},
            {"attack": "b", "one": 0.91, "two": 0.1},
            {"attack": "c", "one": 0.905, "two": 0.1},
        ]
    )
    outcomes = pd.DataFrame({"attack": ["a", "b"], "peak_accuracy": [0.3, 0.31], "accuracy": [0.1, 0.2]})
    nothing = pd.DataFrame(columns=["row", "measure", "value"])
    table = transfer_table(shares, outcomes, nothing, {"a": "A", "b": "B", "c": "C", "d": "D"})
    assert list(table["n"]) == [2, 1, 1, 0]
    assert table.loc[0, ["transfer_one", "transfer_two", "transfer_average"]].tolist() == pytest.approx(
        [0.92, 0.5, 0.71]
    )
    text = transfer_layout(table, ["one", "two"], None)
    assert list(text["one"]) == ["**92.0**", "**91.0**", "90.5", "–"]
    assert list(text["Peak accuracy"]) == ["**30.0**", "**31.0**", "–", "–"]
    assert list(text["Test accuracy"]) == ["**10.0**", "20.0", "–", "–"]
    assert r"\textbf{92.0} " in latex(text)
    assert transfer_findings(table) == []


def test_attacks_with_a_goal_have_no_peak_accuracy() -> None:
    shares = pd.DataFrame({"attack": ["gm"], "resnet18": [0.4]})
    outcomes = pd.DataFrame({"attack": ["gm"], "success": [1.0], "accuracy": [0.9]})
    table = transfer_table(shares, outcomes, pd.DataFrame(columns=["row", "measure", "value"]), {"gm": "gm"})
    assert table[["accuracy", "peak_accuracy"]].isna().to_numpy().tolist() == [[False, True]]
    assert transfer_layout(table, ["resnet18"], None)["Peak accuracy"].tolist() == ["–"]
    assert transfer_findings(table) == []


def test_poisons_that_all_transfer_alike_have_no_correlation() -> None:
    shares = pd.DataFrame([{"attack": name, "one": 0.0} for name in "abc"])
    outcomes = pd.DataFrame({"attack": list("abc"), "peak_accuracy": [0.1, 0.2, 0.3], "accuracy": [0.1, 0.2, 0.3]})
    nothing = pd.DataFrame(columns=["row", "measure", "value"])
    table = transfer_table(shares, outcomes, nothing, {name: name for name in "abc"})
    assert transfer_findings(table) == []
    assert transfer_findings(table.assign(transfer_average=[0.1, 0.2, 0.3]))[0].startswith("Ours: over 3 poisons")


def test_the_papers_own_table() -> None:
    numbers = published(REFERENCE)
    numbers = numbers[numbers["table"] == 2]
    rows = {row.lower(): row for row in dict.fromkeys(numbers["row"])}
    nothing = pd.DataFrame(columns=["attack", *NETWORKS]), pd.DataFrame(columns=["attack", "peak_accuracy", "accuracy"])
    table = transfer_table(*nothing, numbers, rows)
    means = table[[f"published_transfer_{name}" for name in NETWORKS]].mean(axis=1)
    assert (means - table["published_transfer_average"]).abs().max() < 1.1e-4
    text = transfer_layout(table, NETWORKS, read_paper(REFERENCE))
    best = text[text["Published Avg."].str.startswith("**")]["Row"]
    assert list(best) == ["P250", "FCSD"]
    # As the reference's README has it.
    (finding,) = transfer_findings(table)
    assert finding.startswith(
        "Published: over 10 poisons, average transfer and peak accuracy have a rank correlation of -0.04"
    )


@pytest.mark.parametrize("name", ["learned-faster", "learned-faster-smoke"])
def test_the_graph_of_the_papers_study(name: str) -> None:
    study = read_study(yaml.safe_load((ROOT / f"config/{name}.yaml").read_text(encoding="utf-8")))
    assert study.transfer is not None
    numbers = published(REFERENCE)
    rows = list(dict.fromkeys(numbers[numbers["table"] == 2]["row"]))
    assert list(study.transfer.attacks) == [row.lower() for row in rows]
    graph = Graph(study, str(ROOT))
    jobs = graph.all_jobs()
    judged = [job for job in jobs if job.stage == "transfer"]
    assert len(judged) == 10 * len(study.seeds)
    assert graph.job("transfer", {"attack": "p10", "seed": "0"}).inputs["networks"][:1] == [
        f"results/surrogates/{name}/resnet18/seed0-0.safetensors"
    ]
    (table,) = [job for job in jobs if job.stage == "transfer_table"]
    assert [row["called"] for row in parse(table.settings)["rows"]] == rows
    assert table.options["reference"]


def test_the_table_is_told_of_networks_that_all_seeds_share() -> None:
    values = yaml.safe_load((ROOT / "config/learned-faster-smoke.yaml").read_text(encoding="utf-8"))
    own = parse(Graph(read_study(values), str(ROOT)).job("transfer_table", {"scope": ""}).settings)
    assert "shared" not in own
    values["surrogates"] = [
        each | {"seed": 0} if each["name"] == "mobilenet" else each for each in values["surrogates"]
    ]
    told = parse(Graph(read_study(values), str(ROOT)).job("transfer_table", {"scope": ""}).settings)
    assert told["shared"] == ["mobilenet"]


def test_tables_so_far_take_the_shares_that_stand_and_ask_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = yaml.safe_load((ROOT / "config/learned-faster-smoke.yaml").read_text(encoding="utf-8"))
    monkeypatch.chdir(tmp_path)

    def table(**changes: object) -> Job:
        graph = Graph(read_study({**values, **changes}), str(ROOT))
        assert {f"results/tables/learned-faster-smoke{scope}-transfer.csv" for scope in ("", "-so-far")} <= {
            path for scope in ("", "-so-far") for path in graph.tables.every(scope)
        }
        assert (
            "results/tables/learned-faster-smoke-so-far-transfer.json"
            in graph.job("page", {"scope": "-so-far"}).inputs["files"]
        )
        return graph.job("transfer_table", {"scope": "-so-far"})

    nothing = table()
    assert (nothing.inputs["measured"], "measured" in nothing.options) == ([], False)
    assert nothing.inputs["results"] == ["results/tables/learned-faster-smoke-so-far.csv"]
    path = Path("results/transfer/learned-faster-smoke/p10/seed0.json")
    path.parent.mkdir(parents=True)
    path.touch()
    now = table()
    assert (now.inputs["measured"], now.options["measured"]) == ([], [str(path)])
    assert now.depends != nothing.depends

    # What the shares must be of follows the settings of the poisons and of the networks, but not of the victims.
    def expected(job: Job) -> dict[str, str]:
        return {row["attack"]: row["settings"] for row in parse(job.settings)["rows"]}

    attacks = [{**attack, "eps": 3} if attack["name"] == "p10" else attack for attack in values["attacks"]]
    changed = expected(table(attacks=attacks))
    assert {name for name, digest in expected(now).items() if changed[name] != digest} == {"p10"}
