"""The study of the deep k-NN paper states what its sources state, and the smoke study has the same rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from poisonlab.config.study import Study, read_study
from poisonlab.evaluation.published import published
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
SCALES = ("deep-knn", "deep-knn-mini", "deep-knn-smoke")


def read(name: str) -> Study:
    return read_study(yaml.safe_load((ROOT / "config" / f"{name}.yaml").read_text(encoding="utf-8")))


def test_both_tables_are_claimed_with_every_defense_of_theirs() -> None:
    numbers = published(ROOT / "reference" / "deep-knn")
    for study in map(read, SCALES):
        for number, name in ((1, "feature-collision"), (2, "convex-polytope")):
            (place,) = study.attack(name).published
            assert place.table == number
            called = [row.published for row in study.defenses if row.published is not None and row.faces(name)]
            assert called == list(numbers[numbers["table"] == number]["defense"].unique())


def test_the_smoke_study_has_the_same_rows() -> None:
    def rows(study: Study) -> list[Any]:
        return [(row.name, row.attacks, row.line, [each.method for each in row.apply]) for row in study.defenses]

    def attacks(study: Study) -> list[Any]:
        return [(each.name, each.method, each.published) for each in study.attacks]

    paper, smoke = read("deep-knn"), read("deep-knn-smoke")
    assert rows(smoke) == rows(paper)
    assert attacks(smoke) == attacks(paper)


def test_feature_collision_is_the_authors() -> None:
    collision: Any = read("deep-knn").attack("feature-collision")
    assert (collision.watermark, collision.beta, collision.lr, collision.decay) == (0.3, 0.1, 0.01, 0.2)
    assert (collision.steps, collision.tolerance, collision.bases) == (12_000, 1e-5, "test")
    assert (collision.target_label, collision.adversarial_label, collision.target) == ("bird", "dog", "recognised")
    assert round(collision.budget * 50_000) == 50
    assert len(collision.seeds) == 30
    retraining = read("deep-knn").victim("retrained").recipe
    assert (retraining.optimizer, retraining.lr, retraining.milestones, retraining.epochs) == ("adam", 1.8e-5, (), 10)
    assert (retraining.batch_size, retraining.weight_decay, retraining.augmentation.kind) == (128, 0, "none")
    own = [each for each in read("deep-knn").surrogates if each.model.name == "alexnet-lrn"]
    assert [(each.name, each.model.model_dump()["penalty"], each.recipe.weight_decay) for each in own] == [
        *(("alexnet", 0.004, 0), ("alexnet-robust", 0.004, 0))
    ]


def test_convex_polytope_is_the_authors() -> None:
    study = read("deep-knn")
    polytope: Any = study.attack("convex-polytope")
    crafted = [next(each for each in study.surrogates if each.name == name) for name in polytope.surrogates]
    grey = {"dpn92", "googlenet", "mobilenet-v2", "resnet50", "resnext29", "senet18"}
    found = [(each.model.name, each.model.model_dump()["dropout"]) for each in crafted]
    assert sorted(found) == sorted((name, rate) for name in grey for rate in (0.2, 0.25, 0.3))
    assert (polytope.steps, polytope.lr, polytope.space, polytope.dropout) == (4000, 0.04, "normalised", True)
    assert polytope.eps == 25.5
    victims = [study.victim(name) for name in polytope.victims]
    own = [next(each for each in study.surrogates if each.name == victim.pretrained) for victim in victims]
    assert {each.model.name for each in own} == grey | {"densenet121", "resnet18"}
    assert all(each.model.model_dump().get("dropout", 0) == 0 for each in own)
    for each in (*crafted, *own):
        recipe = each.recipe
        assert (recipe.epochs, recipe.milestones, recipe.lr, recipe.weight_decay) == (300, (150, 225), 0.1, 5e-4)
        assert each.held_out_per_class == 200
    for victim in victims:
        assert (victim.fine_tune_per_class, victim.head, victim.scenario) == (50, "kept", "transfer")
        assert (victim.recipe.epochs, victim.recipe.milestones, victim.recipe.batch_size) == (60, (30, 45), 64)
        assert (victim.recipe.optimizer, victim.recipe.lr, victim.recipe.weight_decay) == ("adam", 0.1, 0)
    assert round(polytope.budget * 500) == 5
    unseen = polytope.unseen_target
    assert (unseen.among_last, unseen.target_label, unseen.adversarial_label, unseen.bases) == (
        *(200, "frog", "ship"),
        "first",
    )
    dataset: Any = study.dataset
    assert (dataset.source, dataset.last_per_class, dataset.first) == ("set-apart", 200, 50)


def test_every_filter_stands_in_one_line_against_all_attacks() -> None:
    for study in map(read, SCALES):
        methods = {row.line: [each.method for each in row.apply] for row in study.defenses}
        filters = ["deep-knn", "l2-centroid", "one-class-svm", "random-filter"]
        assert {line: methods[line] for line in filters} == {name: [name] for name in filters}
        assert methods["deep-knn-friends"] == ["deep-knn", "friendly-noise", "random-noise"]
        assert all([each.method for each in row.apply] == methods[row.line] for row in study.defenses)
        for attack in study.attacks:
            faced = {row.line for row in study.defenses if row.faces(attack.name)}
            assert {"none", "deep-knn", "friends-bernoulli", "deep-knn-friends"} <= faced


def test_networks_are_the_same_for_all_targets_and_each_has_a_robust_one() -> None:
    for study in map(read, SCALES):
        assert None not in {each.seed for each in study.surrogates}
        (row,) = [each for each in study.defenses if each.pretrained]
        begun = {victim.pretrained for name in row.attacks or () for victim in study.victims_of(study.attack(name))}
        assert begun <= row.pretrained.keys()
        for name in row.pretrained.values():
            (training,) = study.surrogate(name).apply
            assert training.method == "adversarial-training"
    (robust,) = read("deep-knn").surrogate("resnet18-robust").apply
    assert (robust.eps, robust.steps) == (8, 8)


def test_k_nn_of_standard_victims_also_looks_at_their_robust_features() -> None:
    for study in map(read, SCALES):
        standard, robust = study.defense("deep-knn-polytope"), study.defense("deep-knn-robust")
        assert study.network_of(robust) == "robust-features"
        assert robust == standard.model_copy(
            update={
                "name": "deep-knn-robust",
                "published": None,
                "joined_as": None,
                "apply": (standard.apply[0].model_copy(update={"network": "robust-features"}),),
            }
        )


def test_ablations_vary_the_neighbours_and_the_votes() -> None:
    for study in map(read, SCALES):
        neighbours, votes = study.ablations
        own: Any = study.defense(neighbours.defense).filters[0]
        assert (neighbours.name, neighbours.defense, votes.name, votes.defense) == (
            *("neighbours", "deep-knn-collision"),
            *("votes", "deep-knn-polytope"),
        )
        assert own.k in neighbours.vary["k"]
        assert neighbours.vary["k"][0] == 3
        assert votes.vary["self_counts"] == (False, True)
        assert {"paper", "smallest-label"} <= set(votes.vary["rule"])
        assert {study.attack(name).method for each in study.ablations for name in each.attacks or ()} == {
            *("feature-collision", "convex-polytope")
        }


def test_grey_boxes_differ_from_the_substitutes_in_their_seed() -> None:
    """The same architecture and seed would be the same weights to begin with, and the same batches."""
    study = read("deep-knn")
    polytope: Any = study.attack("convex-polytope")
    substitutes = {study.surrogate(name).seed for name in polytope.surrogates}
    rows = [row for row in study.defenses if row.faces(polytope.name)]
    victims = {
        study.surrogate(str(study.pretrained_of(victim, row))).seed
        for victim in study.victims_of(polytope)
        for row in rows
    }
    assert not substitutes & victims


def test_attacks_that_fail_undefended_are_also_left_out_and_the_claim_is_judged() -> None:
    for study in map(read, SCALES):
        assert (study.only_successes, study.compare, study.mean_over_victims) == (True, ("none",), True)
        assert study.filter_claim is not None
        assert study.filter_claim.found == 0.99


def test_the_small_study_has_four_networks_and_four_attacks_each_filtered_at_its_class_size() -> None:
    study = read("deep-knn-mini")
    assert [each.method for each in study.attacks] == [
        "feature-collision",
        "convex-polytope",
        "bullseye-polytope",
        "gradient-matching",
    ]
    polytope: Any = study.attack("convex-polytope")
    networks = [study.surrogate(str(victim.pretrained)) for victim in study.victims_of(polytope)]
    assert len({each.model.name for each in networks}) == 4
    # White boxes: poisons are made on the victims' own networks, which have not seen the targets.
    assert {each.name for each in networks} == set(polytope.surrogates)
    assert {each.held_out_per_class for each in networks} == {polytope.unseen_target.among_last}
    for attack in study.attacks:
        rows = [row.filters[0] for row in study.defenses if row.faces(attack.name) and row.filters]
        victim = study.victims_of(attack)[0]
        first: Any = next(each for each in rows if each.method == "deep-knn")
        assert (first.rule, first.k) == ("paper", victim.fine_tune_per_class or 2000)


def test_filters_have_the_class_size_and_the_fitted_shares() -> None:
    rows = {row.name: row.filters for row in read("deep-knn").defenses if len(row.filters) == 1}
    first: dict[str, Any] = {name: filters[0] for name, filters in rows.items()}
    assert (first["deep-knn-collision"].k, first["deep-knn-polytope"].k) == (5000, 50)
    assert {first[name].rule for name in ("deep-knn-collision", "deep-knn-polytope")} == {"paper"}
    assert (first["l2-collision"].fraction, first["l2-polytope"].fraction) == (0.01, 0.1)
    assert (first["random-collision"].fraction, first["random-polytope"].fraction) == (0.1, 0.1)
    assert (first["svm-collision"].nu, first["svm-polytope"].nu) == (0.01, 0.01)
    # Feature collision is filtered before the retraining, at the network as it was.
    assert {first[name].surrogate for name in ("deep-knn-collision", "l2-collision", "svm-collision")} == {"alexnet"}


def test_the_page_says_where_every_figure_of_the_paper_is() -> None:
    page = (ROOT / "docs" / "reproduce-deep-knn.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `figures/<study>/([\w/-]+)` \| (?:figure (\d))?", page, re.MULTILINE)
    assert {name for name, _ in named} - {"feature-collision/"} <= set(Graph(read("deep-knn")).figures.every())
    assert [number for _, number in named if number] == ["2", "3", "4", "5", "6", "7"]


def test_victims_that_begin_as_a_robust_network_are_not_undefended() -> None:
    values = yaml.safe_load((ROOT / "config/deep-knn-mini.yaml").read_text("utf-8"))
    robust = next(row for row in values["defenses"] if row["name"] == "robust-features")
    others = [row for row in values["defenses"] if row is not robust]
    for compared, expected in (["none"], "none"), ([], "none"):
        told = {**values, "defenses": [robust, *others], "compare": compared}
        if not compared:  # what needs a row to compare with
            told = {key: value for key, value in told.items() if key not in ("only_successes", "ablations")}
            told["defenses"] = [robust, next(row for row in others if row["name"] == "none")]
            told["figures"] = {}
        undefended = read_study(told).undefended
        assert undefended is not None
        assert undefended.name == expected
