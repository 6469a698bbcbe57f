"""The study of the fast protocol asks for the paper's threat model, at a price that can be paid often."""

from __future__ import annotations

from pathlib import Path

import pytest

from poisonlab.config.attacks.gradient_matching import GradientMatching
from poisonlab.config.merging import merged_config
from poisonlab.config.study import Study, read_study

CONFIG = Path(__file__).resolve().parents[2] / "config"
STUDY, OVERLAY = str(CONFIG / "cifar10-fast.yaml"), str(CONFIG / "overlays" / "cifar10-parquet.yaml")


@pytest.fixture(scope="module", params=[[], [OVERLAY]], ids=["torchvision", "parquet"])
def study(request: pytest.FixtureRequest) -> Study:
    return read_study(merged_config([STUDY, *request.param], []))


def test_all_images_and_the_paper_s_threat_model(study: Study) -> None:
    assert (study.dataset.train_limit, study.dataset.test_limit) == (None, None)
    attack = study.attacks[0]
    assert isinstance(attack, GradientMatching)
    assert (attack.budget * 50_000, attack.eps) == (500, 16)


def test_the_rows_of_friends_and_its_parts(study: Study) -> None:
    rows = {row.name: [defense.method for defense in row.apply] for row in study.defenses}
    noise, friendly = ["random-noise"], ["friendly-noise"]
    both = friendly + noise
    assert rows == {
        "none": [], "clean": [], "bernoulli": noise, "friendly": friendly,
        "friends-bernoulli": both, "friends-gaussian": both, "friends-uniform": both,
    }  # fmt: skip
    assert [row.name for row in study.defenses if not row.poisoned] == ["clean"]


def test_reported_seeds_are_not_those_of_tuning(study: Study) -> None:
    assert min(study.seeds) >= 10


def test_victims_train_as_the_attacker_does_for_twice_as_long(study: Study) -> None:
    surrogate, victim = study.surrogates[0], study.victims[0]
    assert surrogate.model == victim.model
    longer = {"epochs": 2 * surrogate.recipe.epochs, "evaluate_every": 2 * surrogate.recipe.evaluate_every}
    assert surrogate.recipe.model_copy(update=longer) == victim.recipe
