"""The sentences on a study's scale hold the numbers of its config file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.scale import scale_of
from poisonlab.config.study import Study, read_study

ROOT = Path(__file__).resolve().parents[2]


def values_of(name: str) -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    return values


def named(section: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(each for each in section if each["name"] == name)


def sentences(study: Study, *attacks: str) -> dict[str, str]:
    """By their first word."""
    chosen = [attack for attack in study.attacks if not attacks or attack.name in attacks]
    found = scale_of(study, chosen)
    assert all(sentence.endswith(".") and "\n" not in sentence for sentence in found)
    return dict(sentence.removesuffix(".").split(": ", 1) for sentence in found)


def test_the_default_study() -> None:
    values = values_of("config.yaml")
    victim, attack = values["victims"][0], values["attacks"][0]
    applied = [defense for row in values["defenses"] for defense in row.get("apply", [])]
    friendly = [each for each in applied if each["method"] == "friendly-noise"]
    random = [each for each in applied if each["method"] == "random-noise"]
    found = sentences(read_study(values))
    assert list(found) == ["Data", "Victims", "Poisons", "Friendly noise", "Random noise"]
    assert found["Data"] == f"digits-on-photos, {values['dataset']['train_size'] // 1000},000 training images"
    epochs, scenario = victim["recipe"]["epochs"], "from-scratch"
    assert found["Victims"].startswith(f"{victim['model']['name']}")
    assert found["Victims"].endswith(f", {epochs} epochs, {scenario}")
    poisons = f"{attack['name']} (eps {attack['eps']}, {attack['budget']:.0%} of the training set"
    assert found["Poisons"].replace(" %", "%").startswith(poisons)
    assert f"{attack['ensemble']} surrogates" in found["Poisons"]
    assert "targets that the surrogate recognises" in found["Poisons"]
    assert "restarts" not in found["Poisons"]
    # Each strength once, in the order of the rows.
    assert found["Friendly noise"] == " or ".join(
        dict.fromkeys(
            f"convention {each['convention']}, zeta {each['zeta']}, lr {each['lr']}, lambda {each['lam']}"
            for each in friendly
        )
    )
    assert found["Random noise"] == "mu " + " or ".join(dict.fromkeys(str(each["mu"]) for each in random))


@pytest.fixture(scope="module")
def paper() -> Study:
    return read_study(values_of("config/paper.yaml"))


# FRIENDS, section 4.1: 80 epochs of ResNet-18, 40 against Sleeper Agent; xi = 16 or 8, 1 % poisons. In transfer only
# the drops of the rate are stated: 15, 25 and 35.
EIGHTY, FORTY = "resnet18, 80 epochs, from-scratch", "resnet18, 40 epochs, from-scratch"


def test_the_paper_s_data_and_victims(paper: Study) -> None:
    assert sentences(paper)["Data"] == "cifar10, all training images"
    assert sentences(paper)["Victims"] == f"{EIGHTY}; {FORTY}; resnet18, 40 epochs, transfer"
    # Only those that the attacks face.
    assert sentences(paper, "gradient-matching")["Victims"] == EIGHTY
    assert sentences(paper, "sleeper-agent", "gradient-matching")["Victims"] == f"{EIGHTY}; {FORTY}"


def test_the_paper_s_poisons(paper: Study) -> None:
    parts = sentences(paper)["Poisons"].split("; ")
    attacks = values_of("config/paper.yaml")["attacks"]
    # Attacks that are alike in all that is told share a part.
    part_of = {name: part for part in parts for name in part.split(" (")[0].split(", ")}
    assert list(part_of) == [attack["name"] for attack in attacks]
    for attack in attacks:
        assert f"(eps {attack.get('eps', 16)}, 1 % of the training set" in part_of[attack["name"]]
    # Defaults that the papers give: eight restarts of gradient matching, 24 networks of MetaPoison.
    assert [part for part in parts if "8 restarts" in part] == parts[:2]
    assert [part for part in parts if "24 surrogates" in part] == parts[2:3]


def test_the_paper_s_noises(paper: Study) -> None:
    values = values_of("config/paper.yaml")
    both = sentences(paper, "gradient-matching")
    # Tables 1 and 4: 16 together with other noise, 32 alone.
    strength = {each["mu"] for row in values["defenses"] for each in row.get("apply", []) if "mu" in each}
    assert strength == {16, 32}
    assert both["Random noise"] == "mu 16 or 32"
    noise = "convention released, zeta {}, lr 100, lambda 1"
    assert both["Friendly noise"] == f"{noise.format(16)} or {noise.format(32)}"
    # Sleeper Agent meets only the former.
    assert sentences(paper, "sleeper-agent")["Random noise"] == "mu 16"
    assert sentences(paper, "sleeper-agent")["Friendly noise"] == noise.format(16)


def test_a_study_without_noise_does_not_speak_of_it() -> None:
    values = values_of("config.yaml")
    values["defenses"] = [{"name": "none"}]
    values["compare"] = ["none"]
    del values["figures"]
    assert list(sentences(read_study(values))) == ["Data", "Victims", "Poisons"]


@pytest.mark.parametrize(
    ("dataset", "text"),
    [
        ({"source": "digits-on-photos", "train_size": 12345}, "digits-on-photos, 12,345 training images"),
        ({"source": "cifar100", "train_limit": 5000}, "cifar100, 5,000 training images"),
        ({"source": "npz", "path": "x.npz"}, "npz x.npz, all training images"),
        ({"source": "parquet", "train": "a.parquet", "test": "b.parquet"}, "parquet a.parquet, all training images"),
        (
            {"source": "parquet", "train": ["a0", "a1", "a2"], "test": "b", "train_limit": 70},
            "parquet a0 and 2 more files, 70 training images",
        ),
        ({"source": "image-folder", "root": "photos"}, "image-folder photos, all training images"),
    ],
)
def test_how_many_images(dataset: dict[str, Any], text: str) -> None:
    assert sentences(read_study({**values_of("config.yaml"), "dataset": dataset}))["Data"] == text


def test_imported_poisons_have_no_bound_to_tell() -> None:
    values = values_of("config.yaml")
    values["attacks"] = [{"name": "theirs", "method": "imported", "path": "poisons/{seed}"}]
    assert sentences(read_study(values))["Poisons"] == "theirs, imported"


def test_an_architecture_is_named_with_what_is_not_its_default() -> None:
    values = values_of("config.yaml")
    values["victims"][0]["model"] = {"name": "small-resnet", "width": 24, "stem_stride": 4}
    victims = sentences(read_study(values))["Victims"]
    assert victims.startswith("small-resnet (width 24, stem_stride 4), ")
