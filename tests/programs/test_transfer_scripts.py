"""workflow/scripts/transfer.py and transfer_table.py: from a poison set and weights to the table of the paper."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from loading import program
from torch import Tensor

from poisonlab.artifacts.dataset import save_dataset
from poisonlab.artifacts.poison_set import PoisonSet
from poisonlab.attacks.transfer import transfer
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.data.dataset import ImageDataset
from poisonlab.files import read_sealed, write_sealed
from poisonlab.models.networks import build_network, build_normalize, save_weights
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]
MODELS = {"resnet18": SmallResNet(width=4, stem_stride=2), "vgg19": SmallResNet(width=8, stem_stride=2)}


def pictures(count: int, seed: int) -> Tensor:
    return torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def measured(folder: Path, attack: str) -> Path:
    labels = torch.arange(30) % 3
    data = ImageDataset(pictures(30, 1), labels, pictures(6, 2), labels[:6], ("a", "b", "c"), (0.5,) * 3, (0.2,) * 3)
    save_dataset(folder / "data.safetensors", data)
    poisons = PoisonSet(torch.arange(30), pictures(30, len(attack)), labels, data.train_images)
    poisons.save(folder / "poisons.safetensors")
    expected = {}
    for name, model in MODELS.items():
        network = build_network(model, data, seed=5)
        save_weights(folder / f"{name}.safetensors", network, {})
        expected[name] = transfer(network, build_normalize(data), poisons, labels, "misclassified")
    out = folder / f"{attack}.json"
    told = [{"name": name, "model": model.told()} for name, model in MODELS.items()]
    program("transfer").main(
        [
            *("--spec", *spec(attack=attack, networks=told, score="misclassified", seed=0)),
            *("--dataset", str(folder / "data.safetensors"), "--poisons", str(folder / "poisons.safetensors")),
            *("--networks", *(str(folder / f"{name}.safetensors") for name in MODELS)),
            *("--measured", str(out), "--device", "cpu", "--settings", f"of {attack}"),
        ]
    )
    assert read_sealed(out) == {"attack": attack, "seed": 0, "shares": expected, "settings": f"of {attack}"}
    return out


def test_from_weights_to_the_table(tmp_path: Path) -> None:
    found = [measured(tmp_path, attack) for attack in ("p250", "fc")]
    results = pd.DataFrame(
        [
            {"attack": "p250", "victim": "net", "defense": "none", "peak_accuracy": 0.5, "accuracy": 0.25},
            {"attack": "p250", "victim": "net", "defense": "jpeg", "peak_accuracy": 0.8, "accuracy": 0.75},
            {"attack": "p250", "victim": "plain", "defense": "none", "peak_accuracy": 0.1, "accuracy": 0.1},
        ]
    )
    results.to_csv(tmp_path / "results.csv", index=False)
    rows = [{"attack": attack, "victim": "net", "called": attack.upper()} for attack in ("p250", "fc")]
    texts = {kind: tmp_path / f"table.{kind}" for kind in ("csv", "md", "tex", "json")}
    told = spec(
        description="Made up.",
        rows=rows,
        defense="none",
        networks=list(MODELS),
        shared=["vgg19"],
        score="misclassified",
        table=2,
    )
    program("transfer_table").main(
        [
            *("--spec", *told, "--measured", *map(str, found), "--results", str(tmp_path / "results.csv")),
            *("--reference", str(ROOT / "reference" / "learned-faster")),
            *(part for kind, path in texts.items() for part in (f"--{kind}", str(path))),
        ]
    )
    table = pd.read_csv(texts["csv"]).set_index("row")
    shares = read_sealed(found[0])["shares"]
    assert table.loc["P250", "transfer_vgg19"] == shares["vgg19"]
    assert table.loc["P250", "transfer_average"] == pytest.approx(sum(shares.values()) / 2)
    assert table.loc["P250", ["peak_accuracy", "accuracy"]].tolist() == [0.5, 0.25]
    assert table.loc["P250", "published_transfer_vgg19"] == pytest.approx(0.8458)
    assert table.loc["FC", "published_peak_accuracy"] == pytest.approx(0.8709)
    lines = texts["md"].read_text("utf-8").splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")][2:6] == [
        *("ResNet-18", "Published ResNet-18", "VGG-19", "Published VGG-19")
    ]
    assert "- Learned faster, table 2. Ours: Made up." in lines
    assert "- Peak and final accuracy are of victim net." in lines
    same = "- n: seeds, each with its own networks and poisons, but the same vgg19; transfer is their mean."
    assert any(line.startswith(same) for line in lines)


def test_names_that_look_like_numbers_or_nothing_are_names(tmp_path: Path) -> None:
    found = measured(tmp_path, "7")
    row = {"attack": "7", "victim": "nan", "defense": "null", "peak_accuracy": 0.5, "accuracy": 0.25}
    pd.DataFrame([row]).to_csv(tmp_path / "results.csv", index=False)
    rows = [{"attack": "7", "victim": "nan", "called": "seven"}]
    told = spec(description="Made up.", rows=rows, defense="null", networks=list(MODELS), score="misclassified")
    texts = [part for kind in ("csv", "md", "tex", "json") for part in (f"--{kind}", str(tmp_path / f"table.{kind}"))]
    given = ["--measured", str(found), "--results", str(tmp_path / "results.csv")]
    program("transfer_table").main(["--spec", *told, *given, *texts])
    table = pd.read_csv(tmp_path / "table.csv").set_index("row")
    assert table.loc["seven", ["peak_accuracy", "accuracy"]].tolist() == [0.5, 0.25]


def so_far(folder: Path, *found: Path) -> tuple[pd.DataFrame, list[str]]:
    """The table and the notes of an unfinished study of p250 and fc with two seeds each."""
    (folder / "results.csv").write_text("attack,victim,defense,peak_accuracy,accuracy\n", "utf-8")
    rows = [
        {"attack": attack, "victim": "net", "called": attack, "settings": f"of {attack}", "seeds": [0, 1]}
        for attack in ("p250", "fc")
    ]
    told = spec(description="Made up.", rows=rows, defense="none", networks=list(MODELS), score="misclassified")
    texts = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex", "json")}
    given = ["--measured", *map(str, found)] if found else []
    written = [part for kind, path in texts.items() for part in (f"--{kind}", str(path))]
    program("transfer_table").main(["--spec", *told, *given, "--results", str(folder / "results.csv"), *written])
    notes = [line.removeprefix("- ") for line in texts["md"].read_text("utf-8").splitlines() if line.startswith("- ")]
    return pd.read_csv(texts["csv"]).set_index("row"), notes


def test_a_table_so_far_counts_what_is_missing_and_refuses_other_settings(tmp_path: Path) -> None:
    first = measured(tmp_path, "p250")
    other = read_sealed(measured(tmp_path, "fc"))
    write_sealed(tmp_path / "fc.json", {**other, "settings": "of another eps", "seed": 1})
    table, notes = so_far(tmp_path, first, tmp_path / "fc.json")
    assert table["n"].to_dict() == {"p250": 1, "fc": 0}
    assert table.loc["p250", "transfer_vgg19"] == read_sealed(first)["shares"]["vgg19"]
    assert notes[-2:] == [
        "Not measured yet: 3 of 4 poison sets.",
        "Refused, because made with other settings than this study's: fc (seeds 1).",
    ]


def test_a_table_so_far_of_nothing_is_empty(tmp_path: Path) -> None:
    table, notes = so_far(tmp_path)
    assert table["n"].to_dict() == {"p250": 0, "fc": 0}
    assert notes[-1] == "Not measured yet: 4 of 4 poison sets."
