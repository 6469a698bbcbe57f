"""Networks that seeds share, and networks that stand in for others: jobs, what reruns, and what tables say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from test_graph import counts, graph_of

from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError
from poisonlab.graph.cells import Cell
from poisonlab.graph.graph import Graph

ADVERSARIAL = {"method": "adversarial-training", "eps": 8, "steps": 2}


def study(**changes: Any) -> dict[str, Any]:
    """Two seeds of an attack on a victim that begins as a network of its own."""
    short = {"epochs": 1, "batch_size": 50, "augmentation": {"kind": "none"}}
    made = {
        "model": {"name": "small-resnet", "width": 4, "stem_stride": 4},
        "recipe": short,
        "held_out_per_class": 4,
    }
    return {
        "study": "networks",
        "compare": ["none"],
        "dataset": {"source": "digits-on-photos", "train_size": 100, "test_size": 20},
        "seeds": [0, 1],
        "surrogates": [
            {"name": "crafted-on", **made},
            {"name": "own", **made},
            {"name": "robust", **made, "apply": [ADVERSARIAL]},
        ],
        "victims": [
            {"name": "moved", "scenario": "transfer", "pretrained": "own", "fine_tune_per_class": 2, "recipe": short}
        ],
        "attacks": [{"name": "mixed", "method": "convex-polytope", "surrogate": "crafted-on", "budget": 0.05}],
        "defenses": [
            {"name": "none"},
            {"name": "near", "apply": [{"method": "deep-knn", "k": 2, "surrogate": "robust"}]},
            {"name": "robust-features", "pretrained": {"own": "robust"}},
        ],
        "figures": {"attacks": [], "landscape": {"victims": []}},
        **changes,
    }


def made(change: Callable[[dict[str, Any]], object] = lambda values: None) -> Graph:
    values = study()
    change(values)
    return Graph(read_study(values))


def share(values: dict[str, Any], *places: int, seed: int = 7) -> None:
    for place in places or range(3):
        values["surrogates"][place]["seed"] = seed


def depends(graph: Graph) -> dict[tuple[str, str], tuple[Any, ...]]:
    """All that Snakemake compares of each computing job."""
    return {
        (job.stage, job.name): (tuple(job.settings), str(job.inputs), tuple(graph.code(job)))
        for job in graph.all_jobs()
        if job.computes
    }


# --- shared by all seeds ----------------------------------------------------------------------------------------


def test_one_job_trains_the_network_of_all_seeds() -> None:
    own, shared = made(), made(share)
    assert (counts(own)["pretrain"], counts(shared)["pretrain"]) == (6, 3)
    assert {stage: counts(shared)[stage] for stage in ("craft", "filter", "train")} == {
        stage: counts(own)[stage] for stage in ("craft", "filter", "train")
    }
    assert sorted(job.name for job in shared.all_jobs() if job.stage == "pretrain") == [
        "crafted-on/7/0",
        "own/7/0",
        "robust/7/0",
    ]


def test_crafting_filters_and_victims_of_every_seed_read_it() -> None:
    graph = made(share)
    place = "results/surrogates/networks/{}/seed7-0.safetensors"
    for seed in (0, 1):
        cell = Cell("mixed", "moved", "near", seed)._asdict()
        assert graph.job("craft", {"attack": "mixed", "seed": str(seed)}).inputs["surrogates"] == [
            place.format("crafted-on")
        ]
        assert graph.job("filter", cell).inputs["network"] == [place.format("robust")]
        assert graph.job("train", cell).inputs["pretrained"] == [place.format("own")]
        # The seed goes on deciding the head, the order of the batches and the target.
        assert f"seed={seed}" in graph.job("train", cell).settings


def test_sharing_one_of_the_study_s_seeds_leaves_its_jobs_as_they_are() -> None:
    before, after = depends(made()), depends(made(lambda values: share(values, 1, seed=0)))
    gone = set(before) - set(after)
    changed = {name for name in after if after[name] != before[name]}
    assert gone == {("pretrain", "own/1/0")}
    # What began as the network of seed 1 begins as another one now.
    assert changed == {("train", f"mixed/moved/{row}/1") for row in ("none", "near")}


def test_trials_from_elsewhere_answer_only_for_the_same_network() -> None:
    cells = [Cell("mixed", "moved", row, 0) for row in ("none", "near", "robust-features")]

    def outcomes(graph: Graph) -> list[str]:
        return [graph.computing.outcome(cell) for cell in cells]

    own = outcomes(made())
    for places, changed in (((0,), [True, True, True]), ((1,), [True, True, False]), ((2,), [False, True, True])):
        shared = outcomes(made(lambda values, places=places: share(values, *places)))  # type: ignore[misc]
        other = outcomes(made(lambda values, places=places: share(values, *places, seed=8)))  # type: ignore[misc]
        # A row that looks at victims of another row depends on its network, too: "near" looks at a surrogate.
        assert [one != two for one, two in zip(own, shared, strict=True)] == changed
        assert [one != two for one, two in zip(shared, other, strict=True)] == changed


def test_a_victim_that_begins_as_another_member_has_another_outcome() -> None:
    def second(values: dict[str, Any]) -> None:
        values["victims"][0]["member"] = 1

    for row in ("none", "near", "robust-features"):
        first, other = (graph.computing.outcome(Cell("mixed", "moved", row, 0)) for graph in (made(), made(second)))
        assert first != other


def test_tables_say_that_seeds_are_no_draws_of_the_network() -> None:
    def notes(graph: Graph) -> list[str]:
        return [line for line in graph.tables.scale(graph.study.attacks) if line.startswith("Shared networks")]

    assert notes(made()) == []
    assert notes(made(lambda values: share(values, 1))) == [
        "Shared networks: own. All seeds have the same one, so n counts targets and poisons, and intervals do not say "
        "how results vary from network to network."
    ]
    assert graph_of().tables.scale(graph_of().study.attacks) == [
        line for line in graph_of().tables.scale(graph_of().study.attacks) if "Shared" not in line
    ]


def test_a_seed_of_an_attack_that_does_not_run_with_it_serves_all_the_same() -> None:
    graph = made(lambda values: (share(values, seed=5), values["attacks"][0].update(seeds=[1])))
    assert counts(graph)["pretrain"] == 3
    assert counts(graph)["craft"] == 1


# --- robust features --------------------------------------------------------------------------------------------


def test_an_adversarially_trained_network_is_a_surrogate() -> None:
    job = made().job("pretrain", {"surrogate": "robust", "seed": "0", "member": "0"})
    assert 'apply.0.method="adversarial-training"' in job.settings
    assert "apply.0.eps=8.0" in job.settings
    assert "poisonlab.defenses.adversarial_training" in job.roots


def test_a_row_may_have_a_stand_in_for_each_victim_s_network() -> None:
    graph = made()
    jobs = {
        row: graph.job("train", Cell("mixed", "moved", row, 1)._asdict()) for row in ("none", "near", "robust-features")
    }
    begun = {row: job.inputs["pretrained"] for row, job in jobs.items()}
    assert begun["robust-features"] == ["results/surrogates/networks/robust/seed1-0.safetensors"]
    assert begun["none"] == begun["near"] == ["results/surrogates/networks/own/seed1-0.safetensors"]
    assert len({tuple(job.inputs["poisons"]) for job in jobs.values()}) == 1


def test_a_stand_in_that_only_rows_need_is_trained() -> None:
    graph = made(lambda values: values["defenses"].pop(1))
    assert counts(graph)["pretrain"] == 6


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"pretrained": {"own": "other"}}, "names pretrained 'other'"),
        ({"pretrained": {"crafted-on": "robust"}}, "has no network for victim 'moved', which begins as 'own'"),
        ({"pretrained": {"own": "robust"}, "apply": [{"method": "strip"}]}, "strip trains no victim"),
        ({"pretrained": {"own": "robust"}, "apply": [{"method": "deep-knn", "k": 5}]}, "at which one deep-knn looks"),
        ({"pretrained": {"own": "small"}}, "'small' in place of 'own': give both the same model"),
    ],
)
def test_impossible_stand_ins_are_one_line(row: dict[str, Any], words: str) -> None:
    values = study()
    values["surrogates"].append({**values["surrogates"][2], "name": "small", "model": {"name": "lenet"}})
    values["defenses"].append({"name": "bad", **row})
    with pytest.raises(SettingsError, match=words):
        read_study(values)


# --- targets that no network has seen ---------------------------------------------------------------------------


def test_networks_must_not_have_seen_the_target() -> None:
    def unseen(values: dict[str, Any], among: int = 4) -> None:
        values["attacks"][0]["unseen_target"] = {"among_last": among}

    def robust_sees(values: dict[str, Any]) -> None:
        unseen(values)
        values["defenses"].pop()
        values["surrogates"][2]["held_out_per_class"] = 0

    def misspelt(values: dict[str, Any]) -> None:
        unseen(values)
        values["defenses"].append({"name": "looked", "apply": [{"method": "deep-knn", "surrogate": "robst"}]})

    made(unseen)
    with pytest.raises(SettingsError, match="defense 'looked' looks at surrogate 'robst', which is not one of"):
        made(misspelt)
    with pytest.raises(SettingsError, match="surrogate 'robust' is trained on them"):
        made(robust_sees)
    with pytest.raises(SettingsError, match=r"of which victims leave 2, one for each seed .*: seed 2 has no target"):
        made(lambda values: (unseen(values), values.update(seeds=[0, 1, 2])))
    with pytest.raises(SettingsError, match="surrogate 'crafted-on' is trained on them: set its held_out_per_class"):
        made(lambda values: unseen(values, 5))
    with pytest.raises(SettingsError, match="victim 'moved' is fine-tuned on all of them"):
        made(lambda values: unseen(values, 2))


def test_the_dataset_s_code_is_that_of_both_sources() -> None:
    of = {"source": "digits-on-photos", "train_size": 100, "test_size": 20}
    graph = made(
        lambda values: values.update(dataset={"source": "set-apart", "last_per_class": 4, "first": 2, "of": of})
    )
    job = graph.job("dataset")
    assert {"poisonlab.data.set_apart", "poisonlab.data.digits_on_photos"} <= set(job.roots)
    assert "dataset.of.train_size=100" in job.settings
    assert "digits-on-photos, 100 training images" in graph.tables.scale(graph.study.attacks)[0]
