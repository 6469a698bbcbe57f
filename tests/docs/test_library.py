"""docs/library.md: its blocks are one program, and it prints what the page says."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from doc_pages import blocks
from torch import nn

PAGE = "library.md"


@pytest.fixture(scope="module")
def ran() -> Iterator[tuple[dict[str, Any], str]]:
    """The names the page defines, and what it prints; the tests compute with as many threads as the page."""
    names: dict[str, Any] = {}
    printed = io.StringIO()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with contextlib.redirect_stdout(printed):
        for number, body in enumerate(blocks(PAGE, "python")):
            exec(compile(body, f"docs/{PAGE}, block {number}", "exec"), names)
    yield names, printed.getvalue()
    torch.set_num_threads(threads)


def test_it_prints_what_the_page_says(ran: tuple[dict[str, Any], str]) -> None:
    assert [ran[1]] == blocks(PAGE, "text")


def test_the_noise_fits_and_is_bounded(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    assert names["noise"].shape == names["images"].shape == (64, 1, 28, 28)
    assert 0 < float(names["noise"].abs().max()) <= 16 / 255 + 1e-6
    assert float(names["protected"].min()) >= 0
    assert float(names["protected"].max()) <= 1


def test_the_model_is_handed_back_trainable(ran: tuple[dict[str, Any], str]) -> None:
    model: nn.Module = ran[0]["model"]
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_lab_s_loop_measures(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    assert [record["epoch"] for record in names["history"]] == [0, 1, 2]
    assert 0 <= names["measured"] <= 1
    assert set(names["outcome"]) == {"success", "adversarial_confidence", "target_accuracy"}


def test_an_attack_by_its_name_is_the_attack(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    assert torch.equal(names["in_short"].images, names["poisons"].images)
    assert torch.equal(names["in_short"].indices, names["poisons"].indices)


def test_an_availability_poison_is_the_whole_set_and_has_an_outcome(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    spoiled, dataset = names["spoiled"], names["dataset"]
    assert spoiled.goal is None
    assert spoiled.indices.tolist() == list(range(100))
    assert torch.equal(spoiled.base_images, dataset.train_images)
    assert 0 < spoiled.largest_change() <= 8
    accuracies = [record["accuracy"] for record in names["epochs"]]
    assert len(accuracies) == 3
    assert names["spoiling"]["peak_accuracy"] == max(accuracies)
    assert names["spoiling"]["peak_epoch"] == 1 + accuracies.index(max(accuracies))


def test_the_filter_keeps_what_its_score_allows(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    keep, score = names["verdict"].keep, names["verdict"].score
    assert 0 < len(names["kept"]) == int(keep.sum()) < len(keep)
    assert torch.equal(keep, score <= 0)


def test_every_defense_trains_a_victim(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    assert len(names["successes"]) == 6
    assert all(0 <= value <= 1 for value in names["successes"].values())
    assert names["guarantee"]["privacy_epsilon"] > 0
    assert names["guarantee"]["privacy_delta"] == pytest.approx(1 / 100)


def test_filters_and_detectors_say_something_of_every_example(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    assert set(names["found"]) == set(names["verdicts"])
    for name, each in names["found"].items():
        assert each.poisons_dropped + each.poisons_kept == 5
        assert each.clean_dropped + each.clean_kept == 95
        assert name == "EPIC" or each.clean_dropped + each.poisons_dropped > 0
    assert names["suspicious"].shape == (1,)
    assert [trigger.target for trigger in names["triggers"]] == list(range(10))
    assert not names["repaired"].training


def test_the_transferred_victim_keeps_its_features(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    pretrained, transferred = names["surrogate"].extract.state_dict(), names["transferred"].extract.state_dict()
    assert pretrained
    for name, tensor in pretrained.items():
        assert torch.equal(tensor, transferred[name])
    fresh = names["build_network"](names["architecture"], names["dataset"], seed=3).head
    assert not torch.equal(fresh.weight, names["transferred"].head.weight)


def test_the_victim_starts_as_the_donor_did(ran: tuple[dict[str, Any], str]) -> None:
    names = ran[0]
    again = names["build_network"](names["architecture"], names["dataset"], seed=2)
    defenses = names["build_defenses"](names["rows"], noise=names["made"])
    names["train"](again, names["normalize"], names["data"], names["recipe"], seed=2, defenses=defenses, until=1)
    for ours, theirs in zip(again.state_dict().values(), names["donor"].state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
