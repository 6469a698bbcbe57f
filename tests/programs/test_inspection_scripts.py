"""workflow/scripts/filter.py and detect.py, and train.py with a keep-list, on a tiny dataset and network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loading import program
from scipy import stats
from torch import Tensor

from poisonlab.artifacts.dataset import save_dataset
from poisonlab.artifacts.keep_list import KeepList, load_keep_list, save_keep_list
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.artifacts.tensors import read_tensors
from poisonlab.config.models.small_resnet import SmallResNet
from poisonlab.config.recipe import Augmentation, Recipe
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import PoisonlabError
from poisonlab.files import read_sealed
from poisonlab.models.classifier import Classifier
from poisonlab.models.networks import build_network, save_weights
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]
MODEL = SmallResNet(width=4, stem_stride=2)
MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.3, 0.2)
SCRATCH: dict[str, Any] = {"scenario": "from-scratch"}


def pictures(count: int, seed: int, size: int = 8) -> Tensor:
    return torch.randint(0, 256, (count, 3, size, size), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def dataset(size: int = 8) -> ImageDataset:
    labels = torch.arange(45) % 3
    return ImageDataset(pictures(30, 1, size), labels[:30], pictures(45, 2, size), labels, ("a", "b", "c"), MEAN, STD)


def poisons(indices: tuple[int, ...] = (22, -1, 28)) -> PoisonSet:
    base = pictures(len(indices), 3)
    return PoisonSet(
        indices=torch.tensor(indices),
        images=base,
        labels=torch.ones(len(indices), dtype=torch.int64),
        base_images=base,
        goal=Goal(pictures(20, 4), torch.arange(20) % 3, torch.ones(20, dtype=torch.int64), pictures(20, 5)),
    )


@torch.no_grad()
def victim(model: SmallResNet = MODEL) -> Classifier:
    """Its statistics are not those of its data; it is sure of some images and not of others."""
    network = build_network(model, dataset(), seed=3).eval()
    stream = torch.Generator().manual_seed(6)
    for name, buffer in network.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.3 * torch.rand(buffer.shape, generator=stream) + 0.5 * name.endswith("var"))
    network.head.weight *= 4
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))
    network.head.bias -= network((dataset().train_images.float() / 255 - mean) / std).mean(0)
    return network


@torch.no_grad()
def features_of(images: Tensor) -> np.ndarray[Any, Any]:
    """One image at a time."""
    network, (mean, std) = victim(), (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))
    rows = [network.extract(((image.double() / 255 - mean) / std).float()[None]).flatten() for image in images]
    return torch.stack(rows).double().numpy()


def probabilities_of(images: Tensor) -> np.ndarray[Any, Any]:
    head = victim().head
    logits = features_of(images) @ head.weight.detach().double().numpy().T + head.bias.detach().double().numpy()
    powers = np.exp(logits - logits.max(1, keepdims=True))
    chances: np.ndarray[Any, Any] = powers / powers.sum(1, keepdims=True)
    return chances


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """A folder with a dataset, poisons and the victim's weights."""
    folder = tmp_path / "inputs"
    folder.mkdir()
    save_dataset(folder / "data", dataset())
    poisons().save(folder / "poisons")
    save_weights(folder / "victim", victim(), {})
    return folder


def filtered(inputs: Path, name: str, filters: list[dict[str, Any]], *more: str, seed: int = 1, **changes: Any) -> Path:
    """Run filter.py; the keep-list."""
    settings = {"model": MODEL.model_dump(), "start": SCRATCH, "filters": filters, "seed": seed, **changes}
    output = inputs.parent / "outputs" / name
    arguments = {"spec": spec(**settings), "dataset": [inputs / "data"], "device": ["cpu"], "keep": [output]}
    arguments |= {"network": [inputs / "victim"], "card": [f"{output}.card"]}
    given = [part for key, values in arguments.items() for part in (f"--{key}", *map(str, values))]
    program("filter").main([*given, *more])
    return output


def detected(inputs: Path, name: str, detector: dict[str, Any], seed: int = 1, **changes: Any) -> dict[str, Path]:
    """Run detect.py; its outputs."""
    outputs = {kind: inputs.parent / "outputs" / f"{name}.{kind}" for kind in ("found", "metrics", "card")}
    settings = {"attack": "a", "victim": "v", "defense": "d", "model": MODEL.model_dump(), "clean_share": 0.5}
    settings["detector"] = detector
    arguments: dict[str, list[Any]] = {"spec": spec(**{**settings, "seed": seed, **changes}), "device": ["cpu"]}
    arguments |= {"dataset": [inputs / "data"], "poisons": [inputs / "poisons"], "network": [inputs / "victim"]}
    arguments |= {kind: [path] for kind, path in outputs.items()}
    program("detect").main([part for key, values in arguments.items() for part in (f"--{key}", *map(str, values))])
    return outputs


def trained(inputs: Path, name: str, keep: Path, **changes: Any) -> dict[str, Any]:
    """Run train.py for one epoch on what ``keep`` leaves; its metrics."""
    recipe = Recipe(epochs=1, batch_size=16, lr=0.01, augmentation=Augmentation(kind="none"))
    settings = {
        "attack": "a",
        "victim": "v",
        "defense": "d",
        "poisoned": True,
        "model": MODEL.model_dump(),
        "recipe": recipe.model_dump(mode="json", exclude={"base"}),
        "start": SCRATCH,
        "defenses": [],
        "seed": 1,
    }
    output = inputs.parent / "outputs" / name
    arguments: dict[str, list[Any]] = {"spec": spec(**{**settings, **changes}), "device": ["cpu"], "keep": [keep]}
    arguments |= {"dataset": [inputs / "data"], "poisons": [inputs / "poisons"]}
    arguments |= {kind: [f"{output}.{kind}"] for kind in ("weights", "metrics", "card", "checkpoint")}
    program("train").main([part for key, values in arguments.items() for part in (f"--{key}", *map(str, values))])
    metrics: dict[str, Any] = read_sealed(Path(f"{output}.metrics"))
    return metrics


def refused(inputs: Path, caught: pytest.ExceptionInfo[PoisonlabError], *words: object) -> None:
    """One line with the words, and nothing was written."""
    assert "\n" not in str(caught.value)
    for word in words:
        assert str(word) in str(caught.value)
    outputs = inputs.parent / "outputs"
    assert not outputs.exists() or list(outputs.iterdir()) == []


# --- filters --------------------------------------------------------------------------------------------------

L2 = {"method": "l2-centroid", "fraction": 0.2}
RANDOM = {"method": "random-filter", "fraction": 0.25}


def whole_set(rows: list[int]) -> tuple[Tensor, list[int]]:
    """Images and labels of the training rows with the poisons in their places, and the appended one behind them."""
    data, added = dataset(), poisons()
    images, labels = [data.train_images[row] for row in rows], [int(data.train_labels[row]) for row in rows]
    for index, image in zip(added.indices.tolist(), added.images, strict=True):
        if index < 0:
            images, labels = [*images, image], [*labels, 1]
        else:
            images[rows.index(index)], labels[rows.index(index)] = image, 1
    return torch.stack(images), labels


def by_hand(images: Tensor, labels: list[int]) -> tuple[list[float], list[int]]:
    """The distance of every example to the centre of its class, and who stays of L2."""
    features = features_of(images)
    distance, dropped = [0.0] * len(labels), set()
    for label in set(labels):
        own = [place for place, other in enumerate(labels) if other == label]
        for place in own:
            distance[place] = math.dist(features[place], features[own].mean(0))
        dropped |= set(sorted(own, key=lambda place: -distance[place])[: len(own) // 5])
    return distance, [place for place in range(len(labels)) if place not in dropped]


@pytest.mark.parametrize("per_class", [None, 4])
def test_a_keep_list_by_hand(inputs: Path, per_class: int | None) -> None:
    """Of all 30 rows and an appended poison, or of the last 4 of each class, which a victim is fine-tuned on."""
    start = {"scenario": "transfer", "fine_tune_per_class": per_class} if per_class else SCRATCH
    rows = list(range(18, 30)) if per_class else list(range(30))
    path = filtered(inputs, "keep", [L2], "--poisons", str(inputs / "poisons"), start=start)
    distance, stay = by_hand(*whole_set(rows))
    assert load_keep_list(path, len(rows) + 1).nonzero()[:, 0].tolist() == stay
    tensors, facts = read_tensors(path, "keep-list")
    assert tensors["score.0"].tolist() == pytest.approx(distance, rel=1e-4)
    lost = len(rows) + 1 - len(stay)
    assert facts == {"methods": ["l2-centroid"], "dropped": [lost]}
    card = read_sealed(Path(f"{path}.card"))
    assert (card["filters"], card["dropped"]) == (["l2-centroid"], [lost])
    assert card["seconds"] > 0


def test_a_control_is_filtered_as_clean_data(inputs: Path) -> None:
    keep = load_keep_list(filtered(inputs, "keep", [L2]), 30)
    data = dataset()
    _, stay = by_hand(data.train_images, data.train_labels.tolist())
    assert keep.nonzero()[:, 0].tolist() == stay


def test_a_chain_repeats_its_bytes_and_its_seed_decides(inputs: Path) -> None:
    first, again = (filtered(inputs, name, [L2, RANDOM]) for name in ("a", "b"))
    other = filtered(inputs, "c", [L2, RANDOM], seed=2)
    assert first.read_bytes() == again.read_bytes() != other.read_bytes()
    # Two of ten of each class, then a quarter of 24.
    assert read_tensors(first, "keep-list")[1] == {"methods": ["l2-centroid", "random-filter"], "dropped": [6, 6]}
    kept, alone = load_keep_list(first, 30), load_keep_list(filtered(inputs, "d", [L2]), 30)
    assert int(kept.sum()) == 18
    assert not bool((kept & ~alone).any())


def test_a_filter_without_a_network_is_one_line(inputs: Path) -> None:
    (inputs / "victim").unlink()
    with pytest.raises(PoisonlabError) as caught:
        filtered(inputs, "keep", [L2])
    refused(inputs, caught, inputs / "victim", "missing")


@pytest.mark.parametrize(
    ("filters", "words"),
    [
        ([{"method": "l3-centroid"}], ["l3-centroid", "filters"]),
        ([L2, {"method": "random-filter", "share": 0.1}], ["share"]),
        ([L2, {"method": "deep-knn", "k": 24}], ["k=24", "24 examples"]),
        ([{"method": "spectral-signatures", "expected": 0.5}], ["class 0"]),
    ],
)
def test_impossible_filters_are_one_line(inputs: Path, filters: list[dict[str, Any]], words: list[str]) -> None:
    with pytest.raises(PoisonlabError) as caught:
        filtered(inputs, "keep", filters)
    refused(inputs, caught, *words)


def spoil(inputs: Path, what: str) -> None:
    if what == "another architecture":
        save_weights(inputs / "victim", victim(SmallResNet(width=3, stem_stride=2)), {})
    elif what == "damaged weights":
        (inputs / "victim").write_bytes((inputs / "victim").read_bytes()[:-1])
    elif what == "no network":
        poisons().save(inputs / "victim")
    elif what == "a diverged network":
        network = victim()
        next(network.parameters()).data.fill_(math.nan)
        save_weights(inputs / "victim", network, {})
    elif what == "poisons of another dataset":
        save_dataset(inputs / "data", dataset(size=9))
    else:
        poisons((22, 31)).save(inputs / "poisons")


SPOILED = [
    ("another architecture", "weights of another architecture"),
    ("damaged weights", "damaged"),
    ("no network", "holds a poison set, not a network"),
    ("a diverged network", "diverged"),
]


@pytest.mark.parametrize(
    ("what", "words"),
    [*SPOILED, ("poisons of another dataset", "poisons are (3, 8, 8)"), ("a row too far", "training row 31")],
    ids=lambda part: part if isinstance(part, str) and " " in part else None,
)
def test_bad_input_of_a_filter_is_one_line(inputs: Path, what: str, words: str) -> None:
    spoil(inputs, what)
    with pytest.raises(PoisonlabError) as caught:
        filtered(inputs, "keep", [L2], "--poisons", str(inputs / "poisons"))
    refused(inputs, caught, words)


# --- training on what is left ---------------------------------------------------------------------------------


def keep_list(path: Path, length: int, dropped: tuple[int, ...]) -> Path:
    keep = torch.ones(length, dtype=torch.bool)
    keep[list(dropped)] = False
    save_keep_list(path, KeepList(keep, (), ()), [])
    return path


@pytest.mark.parametrize(
    ("dropped", "counts"),
    [
        # The poisons of the set of 31: rows 22 and 28, and 30, which was appended.
        ((22, 30, 0, 1, 2), {"poisons_dropped": 2, "poisons_kept": 1, "clean_dropped": 3, "clean_kept": 25}),
        ((), {"poisons_dropped": 0, "poisons_kept": 3, "clean_dropped": 0, "clean_kept": 28}),
    ],
)
def test_a_victim_says_what_it_was_spared(inputs: Path, dropped: tuple[int, ...], counts: dict[str, int]) -> None:
    metrics = trained(inputs, "victim", keep_list(inputs / "keep", 31, dropped))
    assert metrics["examples"] == counts
    last = metrics["history"][-1]
    assert (last["examples"], last["poisons"]) == (31 - len(dropped), counts["poisons_kept"])


def test_a_control_is_spared_clean_examples_only(inputs: Path) -> None:
    metrics = trained(inputs, "victim", keep_list(inputs / "keep", 30, (22, 28)), poisoned=False)
    assert metrics["examples"] == {"poisons_dropped": 0, "poisons_kept": 0, "clean_dropped": 2, "clean_kept": 28}


@pytest.mark.parametrize("length", [30, 32])
def test_a_keep_list_of_another_set_trains_nothing(inputs: Path, length: int) -> None:
    with pytest.raises(PoisonlabError) as caught:
        trained(inputs, "victim", keep_list(inputs / "keep", length, (3,)))
    refused(inputs, caught, inputs / "keep", "no keep-list of 31 examples")


def test_other_files_given_as_keep_lists_train_nothing(inputs: Path) -> None:
    for name, words in (("poisons", "holds a poison set, not a keep-list"), ("nowhere", "missing")):
        with pytest.raises(PoisonlabError) as caught:
            trained(inputs, "victim", inputs / name)
        refused(inputs, caught, inputs / name, words)


# --- detectors ------------------------------------------------------------------------------------------------


def test_strip_by_hand(inputs: Path) -> None:
    """In a blend of weight 0 an image stands for itself: unsure predictions are let in, sure ones turned away."""
    detector = {"method": "strip", "convention": "blend", "alpha": 0.0, "count": 2, "far": 0.4}
    outputs = detected(inputs, "strip", detector)
    data, attack = dataset(), poisons()
    tensors, facts = read_tensors(outputs["found"], "detection")
    metrics = read_sealed(outputs["metrics"])
    assert facts == {}
    # Half of 15 clean images set the threshold.
    calm = tensors["clean_entropies"].tolist()
    assert len(calm) == 7
    every = [float(value) for value in stats.entropy(probabilities_of(data.train_images), base=2, axis=1)]
    assert all(min(abs(value - other) for other in every) < 1e-5 for value in calm)
    limit = np.quantile(calm, 0.4)
    assert metrics["measures"]["threshold_bits"] == pytest.approx(limit, abs=1e-9)

    def looked_at(images: Tensor) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Chances, and whether an image is let in."""
        chances = probabilities_of(images)
        return chances, stats.entropy(chances, base=2, axis=1) >= limit

    chances, seen = looked_at(attack.goal.targets)
    assert 0 < seen.sum() < 20
    final, wanted = metrics["measures"], attack.goal.target_labels.numpy()
    assert final["targets_rejected"] == pytest.approx(1 - seen.mean())
    assert final["success"] == pytest.approx(((chances.argmax(1) == 1) & seen).mean())
    assert final["adversarial_confidence"] == pytest.approx((chances[:, 1] * seen).mean(), rel=1e-4)
    assert final["target_accuracy"] == pytest.approx(((chances.argmax(1) == wanted) & seen).mean())
    assert attack.goal.untriggered is not None
    chances, seen = looked_at(attack.goal.untriggered)
    assert final["untriggered_success"] == pytest.approx(((chances.argmax(1) == 1) & seen).mean())
    chances, seen = looked_at(data.test_images)
    assert final["accuracy"] == pytest.approx(((chances.argmax(1) == data.test_labels.numpy()) & seen).mean())
    assert final["false_alarms"] == pytest.approx(1 - seen.mean())
    assert [metrics[key] for key in ("attack", "victim", "defense", "seed", "targets")] == ["a", "v", "d", 1, 20]
    assert read_sealed(outputs["card"])["measures"] == final


def weights_in(path: Path) -> dict[str, Tensor]:
    tensors, _ = read_tensors(path, "detection")
    return {name.removeprefix("network."): value for name, value in tensors.items() if name.startswith("network.")}


def undefended(network: Classifier) -> dict[str, float]:
    """Success and accuracy of a network whose inputs are not watched."""
    data, attack = dataset(), poisons()
    mean, std = (torch.tensor(part).view(3, 1, 1) for part in (MEAN, STD))

    @torch.no_grad()
    def predicted(images: Tensor) -> Tensor:
        classes: Tensor = network.eval()((images.float() / 255 - mean) / std).argmax(1)
        return classes

    return {
        "success": float((predicted(attack.goal.targets) == 1).double().mean()),
        "accuracy": float((predicted(data.test_images) == data.test_labels).double().mean()),
    }


@pytest.mark.parametrize("easy", [True, False])
def test_neural_cleanse_repairs_what_it_flags(inputs: Path, easy: bool) -> None:
    """A trigger for few images is soon found for every class; one for all is not, so that nothing is flagged."""
    search = {"method": "neural-cleanse", "batch_size": 8, "limit": 0.1, "repair_epochs": 3, "repair_lr": 0.5}
    search |= {"epochs": 8, "lr": 0.5, "success": 0.05} if easy else {"epochs": 1, "lr": 0.01, "success": 1.0}
    outputs = detected(inputs, "cleansed", search)
    tensors, _ = read_tensors(outputs["found"], "detection")
    metrics = json.loads(outputs["metrics"].read_text("utf-8"))
    flagged = (tensors["reached"] & (tensors["outlier_indices"] > 0.1)).nonzero()[:, 0].tolist()
    assert metrics["facts"] == {"flagged_classes": flagged}
    assert (len(flagged) > 0) == easy
    weights, before = weights_in(outputs["found"]), victim().state_dict()
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[name], before[name]) for name in before) == (not flagged)
    repaired = victim()
    repaired.load_state_dict(weights)
    expected = undefended(repaired)
    assert {name: metrics["measures"][name] for name in expected} == pytest.approx(expected)
    assert "false_alarms" not in metrics["measures"]


@pytest.mark.parametrize("detector", [{"method": "strip", "count": 3}, {"method": "neural-cleanse", "epochs": 2}])
def test_a_detection_repeats_its_bytes_and_its_seed_decides(inputs: Path, detector: dict[str, Any]) -> None:
    first, again, other = (detected(inputs, name, detector, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2)))
    for kind in ("found", "metrics"):
        assert first[kind].read_bytes() == again[kind].read_bytes(), kind
    assert first["found"].read_bytes() != other["found"].read_bytes()


def test_the_share_of_clean_images_is_the_defenders(inputs: Path) -> None:
    detector = {"method": "strip", "count": 2}
    for share, count in ((1.0, 15), (0.2, 3), (0.01, 1)):
        tensors, _ = read_tensors(detected(inputs, "s", detector, clean_share=share)["found"], "detection")
        assert tensors["clean_entropies"].shape == (count,)


@pytest.mark.parametrize(
    ("detector", "words"),
    [
        ({"method": "strap"}, ["strap", "detection"]),
        ({"method": "strip", "network": 3}, ["network"]),
        ({"method": "strip", "overlays": 3}, ["overlays"]),
        ({"method": "neural-cleanse", "limit": 0}, ["limit"]),
    ],
)
def test_impossible_detectors_are_one_line(inputs: Path, detector: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(PoisonlabError) as caught:
        detected(inputs, "d", detector)
    refused(inputs, caught, *words)


def test_a_detector_without_a_network_is_one_line(inputs: Path) -> None:
    (inputs / "victim").unlink()
    with pytest.raises(PoisonlabError) as caught:
        detected(inputs, "d", {"method": "strip"})
    refused(inputs, caught, inputs / "victim", "missing")


@pytest.mark.parametrize(("what", "words"), SPOILED, ids=[what for what, _ in SPOILED])
def test_bad_input_of_a_detector_is_one_line(inputs: Path, what: str, words: str) -> None:
    spoil(inputs, what)
    with pytest.raises(PoisonlabError) as caught:
        detected(inputs, "d", {"method": "strip", "count": 2})
    refused(inputs, caught, words)
