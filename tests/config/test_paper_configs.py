"""The studies of the paper at other scales have its graph: the same tables, figures and ablations come out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.attacks.metapoison import MetaPoison
from poisonlab.config.study import Study, read_study
from poisonlab.training.schedule import learning_rate

CONFIG = Path(__file__).resolve().parents[2] / "config"
OTHERS = ["smoke.yaml", "paper-mini.yaml"]


def read(name: str) -> Study:
    return read_study(yaml.safe_load((CONFIG / name).read_text(encoding="utf-8")))


@pytest.fixture(scope="module")
def paper() -> Study:
    return read("paper.yaml")


@pytest.fixture(scope="module", params=OTHERS)
def other(request: pytest.FixtureRequest) -> Study:
    return read(request.param)


def kept(settings: Any, *names: str) -> dict[str, Any]:
    """Those of the settings that say what is run, not at what scale."""
    values = settings.model_dump(mode="json")
    return {name: values[name] for name in names if values.get(name) is not None}


def shares(defense: Any) -> list[str]:
    """ABL's share follows the budget, AP's is in the row's name."""
    return ["share"] if defense.method == "adversarial-poisoning" else []


# Small studies craft MetaPoison on the base: its own recipe teaches little in so few epochs (docs/fidelity.md).
OWN = "metapoison"


def test_the_same_surrogates(paper: Study, other: Study) -> None:
    def surrogates(study: Study) -> list[tuple[str, list[str]]]:
        return [
            (each.name, [noise.distribution for noise in each.apply]) for each in study.surrogates if each.name != OWN
        ]

    assert surrogates(other) == surrogates(paper)


def test_the_same_victims(paper: Study, other: Study) -> None:
    def victims(study: Study) -> list[dict[str, Any]]:
        return [kept(each, "name", "scenario", "pretrained", "head", "batch_norm") for each in study.victims]

    assert victims(other) == victims(paper)


def test_the_same_attacks(paper: Study, other: Study) -> None:
    def attacks(study: Study) -> list[dict[str, Any]]:
        return [
            {
                **kept(each, "name", "method", "published"),
                "surrogates": tuple("base" if name == OWN else name for name in each.surrogates),
                "victims": [victim.name for victim in study.victims_of(each)],
                "adaptation": adaptation(each),
            }
            for each in study.attacks
        ]

    assert attacks(other) == attacks(paper)


def test_metapoison_s_networks_are_trained_as_in_its_code(paper: Study) -> None:
    """metapoison's parse.py and data.py: SGD at 0.1 without momentum or decay, batches of 125 as they are, a warm-up of
    five epochs, drops at 100 and 150 of 200. So all 24 stages that are unrolled are at the highest rate but the first
    five, and each unrolled batch is one of the surrogate's own epoch."""
    attack = paper.attack("metapoison")
    assert isinstance(attack, MetaPoison)
    assert attack.surrogates == (OWN,)
    surrogate = paper.surrogate(OWN)
    recipe = surrogate.recipe
    assert (recipe.optimizer, recipe.momentum, recipe.weight_decay) == ("sgd", 0, 0)
    assert (recipe.batch_size, recipe.augmentation.kind, recipe.label_smoothing) == (125, "none", 0)
    assert recipe.batch_size == attack.batch_size
    assert surrogate.model == paper.surrogate("base").model
    assert (attack.first_epoch, attack.ensemble, attack.stagger, attack.unroll_lr) == (0, 24, 1, 0.1)
    for epoch in range(200):
        expected = 0.1 * min(1, epoch / 5) * (0.1 if epoch >= 100 else 1) * (0.1 if epoch >= 150 else 1)
        assert learning_rate(recipe, epoch) == pytest.approx(expected)


def adaptation(attack: Any) -> dict[str, Any] | None:
    known = getattr(attack, "adaptation", None)
    if known is None:
        return None
    noise = known.random_noise.distribution if known.random_noise is not None else None
    return {**kept(known, "friendly_attack", "friendly_defense"), "random_noise": noise}


def test_the_same_defenses(paper: Study, other: Study) -> None:
    def defenses(study: Study) -> list[dict[str, Any]]:
        return [
            {
                **kept(row, "name", "attacks", "poisoned", "published"),
                "apply": [
                    kept(each, "method", "distribution", "donor", "fraction", "kind", "network", "bias", *shares(each))
                    for each in row.apply
                ],
            }
            for row in study.defenses
        ]

    assert defenses(other) == defenses(paper)


def test_the_same_ablations(paper: Study, other: Study) -> None:
    def ablations(study: Study) -> list[dict[str, Any]]:
        return [
            {**kept(each, "name", "defense", "method", "attacks"), "vary": list(each.vary)} for each in study.ablations
        ]

    assert ablations(other) == ablations(paper)


def test_every_ablation_varies(paper: Study, other: Study) -> None:
    """The study's own row, which all are compared with, and others."""
    for study in (paper, other):
        for ablation in study.ablations:
            own = [variant.own for variant in study.variants if variant.ablation == ablation.name]
            assert own.count(True) == 1, ablation.name
            assert own.count(False) >= 1, ablation.name
            assert all(len(values) > 1 for values in ablation.vary.values()), ablation.name


def test_the_same_figures(paper: Study, other: Study) -> None:
    assert [attack.name for attack in other.drawn_attacks] == [attack.name for attack in paper.drawn_attacks]
    assert other.figures.landscape.victims == paper.figures.landscape.victims


def test_the_same_tables_of_the_paper(paper: Study, other: Study) -> None:
    def tables(study: Study) -> set[int]:
        return {place.table for attack in study.attacks for place in attack.published}

    assert tables(other) == tables(paper) == set(range(1, 7))


def test_everyone_meets_whom_they_meet_in_the_paper(paper: Study, other: Study) -> None:
    def met(study: Study) -> list[tuple[str, str]]:
        rows = {row.name for row in study.defenses}
        return [(attack.name, row.name) for attack, _, row in study.meetings() if row.name in rows]

    assert met(other) == met(paper)
