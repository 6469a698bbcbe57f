"""Features on a plane and distances by layer: against plain formulas in numpy and networks worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.config.start import Start
from poisonlab.data.dataset import ImageDataset
from poisonlab.errors import DataError
from poisonlab.landscapes.feature_view import ADVERSARIAL, OWN, POISON, examples_of, shown_examples, view_of
from poisonlab.landscapes.layer_distances import by_layer, layer_distances, layers_of
from poisonlab.landscapes.projection import projected
from poisonlab.models import alexnet_lrn, lenet, mobilenet_v2, small_resnet
from poisonlab.models.classifier import Classifier, Normalize
from poisonlab.models.outputs import outputs_of

PLAIN = Normalize((0.0,), (1.0,))


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class TestProjection:
    features = drawn(9, 6)
    own = torch.tensor([1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=torch.bool)
    adversarial = torch.tensor([0, 0, 0, 1, 1, 1, 1, 0, 0], dtype=torch.bool)
    target, weights = drawn(6, seed=1), drawn(2, 6, seed=2)

    def test_is_the_formula(self) -> None:
        found = projected(self.features, self.target, self.own, self.adversarial, self.weights)
        features, target = self.features.double().numpy(), self.target.double().numpy()
        first, second = features[:3].mean(0), features[3:7].mean(0)
        size = np.sqrt(((second - first) ** 2).sum())
        x = (second - first) / size
        wanted = (self.weights[1] - self.weights[0]).double().numpy()
        y = wanted - (wanted * x).sum() * x
        y /= np.sqrt((y**2).sum())
        assert abs((x * y).sum()) < 1e-12
        for place, each in enumerate(features):
            expected = [((each - first) * axis).sum() / size for axis in (x, y)]
            assert found.points[place].tolist() == pytest.approx(expected)
            assert found.to_target[place].item() == pytest.approx(np.linalg.norm(each - target) / size)
        assert found.target.tolist() == pytest.approx([((target - first) * axis).sum() / size for axis in (x, y)])
        assert found.between == pytest.approx(size)

    def test_centroids_are_at_0_and_1_whatever_the_scale(self) -> None:
        found = projected(7 * self.features, 7 * self.target, self.own, self.adversarial, self.weights)
        assert found.points[self.own].mean(0).tolist() == pytest.approx([0, 0], abs=1e-9)
        assert found.points[self.adversarial].mean(0).tolist() == pytest.approx([1, 0], abs=1e-9)
        same = projected(self.features, self.target, self.own, self.adversarial, 3 * self.weights)
        assert torch.allclose(found.points, same.points)

    def test_weights_along_the_line_leave_no_second_direction(self) -> None:
        features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [1.0, 5.0]])
        masks = torch.tensor([True, False, False]), torch.tensor([False, True, False])
        found = projected(features, features[2], *masks, torch.tensor([[0.0, 0.0], [3.0, 0.0]]))
        assert found.points.tolist() == [[0, 0], [1, 0], [0.5, 0]]

    @pytest.mark.parametrize(
        ("own", "features", "words"),
        [(torch.zeros(9, dtype=torch.bool), drawn(9, 6), "no clean"), (None, torch.ones(9, 6), "same centroid")],
    )
    def test_what_cannot_be_projected_is_one_line(self, own: Tensor | None, features: Tensor, words: str) -> None:
        with pytest.raises(DataError, match=words):
            projected(features, self.target, self.own if own is None else own, self.adversarial, self.weights)


def two_layers() -> Classifier:
    """(1, 1, 2) images (a, b): first layer relu(a + b, a - b), second (first, 2 * second) of these."""
    first, second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
    first.weight.data = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    second.weight.data = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    return Classifier(nn.Sequential(nn.Flatten(), first, nn.ReLU(), second), nn.Linear(2, 3))


def images(*pairs: tuple[float, float]) -> Tensor:
    return torch.tensor(pairs).view(-1, 1, 1, 2)


class TestLayers:
    def test_distances_are_those_worked_out_by_hand(self) -> None:
        found = layer_distances(
            two_layers(),
            PLAIN,
            target=images((0.5, 0.25)),  # (0.75, 0.25), then (0.75, 0.5)
            poisons=images((0.5, 0.5), (0.25, 0.5)),  # (1, 0), (1, 0); (0.75, 0), (0.75, 0)
            bases=images((1.0, 0.0), (0.5, 0.25)),  # (1, 1), (1, 2); the target itself
            others=images((0.25, 0.5), (1.0, 1.0)),  # norms 0.75 and 2 in both layers
        )
        assert found.norms.tolist() == pytest.approx([1.375, 1.375])
        poisons = [[np.hypot(0.25, 0.25), 0.25], [np.hypot(0.25, 0.5), 0.5]]
        bases = [[np.hypot(0.25, 0.75), 0.0], [np.hypot(0.25, 1.5), 0.0]]
        assert found.poisons.numpy() * 1.375 == pytest.approx(np.array(poisons))
        assert found.bases.numpy() * 1.375 == pytest.approx(np.array(bases))
        assert found.layers == ("Linear 1", "Linear 3")

    def test_layers_that_work_in_place_leave_the_target_s_outputs_as_they_were(self) -> None:
        class Overwriting(nn.Module):
            """The first layer, whose outputs the second layer overwrites with 0 once it has read them."""

            def __init__(self) -> None:
                super().__init__()
                self.first, self.second = two_layers().extract[1], two_layers().extract[3]  # type: ignore[index]

            def forward(self, x: Tensor) -> Tensor:
                between = self.first(x.flatten(1))
                found: Tensor = self.second(between)
                between.zero_()
                return found

        network = Classifier(Overwriting(), nn.Linear(2, 3))
        pair = images((0.5, 0.25))
        found = layer_distances(network, PLAIN, pair, pair, pair, pair)
        assert found.poisons.tolist() == found.bases.tolist() == [[0], [0]]

    @pytest.mark.parametrize("chunk", [1, 256])
    @pytest.mark.parametrize(
        ("network", "count"),
        [
            (lenet.build(4, (3, 16, 16)), 4),
            (small_resnet.build(4, (3, 16, 16), width=4, stem_stride=4), 4),
            (alexnet_lrn.build(4, (3, 16, 16)), 4),
            (mobilenet_v2.build(4, (3, 16, 16)), 19),
        ],
    )
    def test_the_last_layer_is_the_features(
        self, network: Classifier, count: int, chunk: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("poisonlab.landscapes.layer_distances.images_at_once", lambda images, most: chunk)
        shown, normalize = torch.rand(3, 3, 16, 16), Normalize((0.5,) * 3, (0.25,) * 3)
        assert len(layers_of(network.extract)) == count
        norms = by_layer(network, normalize, shown, lambda _, output: output.norm(dim=1))
        assert norms.shape == (count, 3)
        features = outputs_of(nn.Sequential(network.extract, nn.Flatten()), normalize, shown)
        assert norms[-1].tolist() == pytest.approx(features.norm(dim=1).tolist(), rel=1e-5)
        assert not any(module._forward_hooks for module in network.modules())

    def test_what_wraps_a_single_part_is_taken_apart(self) -> None:
        class Wrapped(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = two_layers().extract

            def forward(self, x: Tensor) -> Tensor:
                return self.inner(x)  # type: ignore[no-any-return]

        extract = Wrapped()
        assert list(layers_of(extract)) == ["inner.1", "inner.3"]
        assert list(layers_of(extract).values()) == [extract.inner[2], extract]  # type: ignore[index]

    def test_a_network_without_layers_or_outputs_is_one_line(self) -> None:
        with pytest.raises(DataError, match="no layer with weights"):
            layers_of(nn.Flatten())
        network = two_layers()
        network.extract[1].weight.data.zero_()  # type: ignore[index]
        with pytest.raises(DataError, match="silent on every image"):
            layer_distances(network, PLAIN, *(images((0.5, 0.25)),) * 4)


def dataset() -> ImageDataset:
    pixels = torch.randint(0, 256, (24, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return ImageDataset(pixels, torch.arange(24) % 3, pixels[:6], torch.arange(6) % 3, ("a", "b", "c"), (0.5,), (0.25,))


def poison_set(data: ImageDataset, **changes: Any) -> PoisonSet:
    """Rows 19 and 22 of class b are replaced, another image of b is appended; the target is of class c."""
    base = torch.cat([data.train_images[[19, 22]], data.test_images[1:2]])
    goal = Goal(data.test_images[2:4], torch.tensor([2, 0]), torch.tensor([1, 1]))
    given = {"indices": torch.tensor([19, 22, -1]), "labels": torch.ones(3, dtype=torch.int64), "goal": goal, **changes}
    return PoisonSet(images=255 - base, base_images=base, **given)


class TestExamples:
    def test_shown_are_both_classes_of_the_training_set(self) -> None:
        data = dataset()
        shown = shown_examples(data, poison_set(data), Start(scenario="transfer", fine_tune_per_class=3))
        # The last three of each class are rows 15 to 23; positions are within these, and the appended one is the tenth.
        assert shown.total == 10
        assert shown.places.tolist() == [1, 2, 4, 5, 7, 8, 9]
        assert shown.group.tolist() == [ADVERSARIAL, OWN, POISON, OWN, POISON, OWN, POISON]
        assert torch.equal(shown.images[[0, 1, 3, 5]], data.train_images[[16, 17, 20, 23]])
        assert torch.equal(shown.images[shown.group == POISON], poison_set(data).images)
        assert shown.classes == (2, 1)
        assert torch.equal(shown.target, data.test_images[2:3])
        assert torch.equal(shown.poisons, 255 - shown.bases)

    def test_poisons_without_a_goal_or_of_other_classes_are_one_line(self) -> None:
        data = dataset()
        with pytest.raises(DataError, match="without a target"):
            shown_examples(data, poison_set(data, goal=None), Start())
        with pytest.raises(DataError, match="no poison has the label"):
            shown_examples(data, poison_set(data, labels=torch.zeros(3, dtype=torch.int64)), Start())

    def test_a_network_puts_each_where_its_features_are(self) -> None:
        data = dataset()
        shown = shown_examples(data, poison_set(data), Start())
        network, normalize = small_resnet.build(3, (1, 4, 4), width=4, stem_stride=1), Normalize((0.5,), (0.25,))
        projection, layers = view_of(network, normalize, shown)
        features = outputs_of(network.extract, normalize, torch.cat([shown.images, shown.target])).double()
        distances = (features[:-1] - features[-1]).norm(dim=1)
        assert (projection.to_target * projection.between).tolist() == pytest.approx(
            distances.tolist(), rel=1e-4, abs=1e-5
        )
        # Up is where the head tells the adversarial class, 1, from the target's own, 2.
        points, weights = features[:-1], network.head.weight.detach().double()
        origin, other = (points[shown.group == group].mean(0) for group in (OWN, ADVERSARIAL))
        x, across = (other - origin) / (other - origin).norm(), weights[1] - weights[2]
        y = across - (across @ x) * x
        heights = (points - origin) @ (y / y.norm()) / (other - origin).norm()
        assert projection.points[:, 1].tolist() == pytest.approx(heights.tolist(), rel=1e-4, abs=1e-5)
        # The last layer's distances are of the features, too.
        unit = features[:-1][shown.group != POISON].norm(dim=1).mean()
        of_poisons = distances[shown.group == POISON] / unit
        assert layers.poisons[-1].tolist() == pytest.approx(of_poisons.tolist(), rel=1e-4)

    def test_the_seed_draws_what_was_dropped_and_kept(self) -> None:
        data = dataset()
        shown = shown_examples(data, poison_set(data), Start())
        dropped = torch.zeros(len(shown.group), dtype=torch.bool)
        dropped[torch.nonzero(shown.group == OWN).flatten()[:2]] = True
        dropped[torch.nonzero(shown.group == ADVERSARIAL).flatten()[:1]] = True
        one, same, other = (examples_of(shown, dropped, 4, seed) for seed in (0, 0, 1))
        assert all(torch.equal(one[name], same[name]) for name in one)
        assert any(not torch.equal(one[name], other[name]) for name in one)
        assert shown.group[one["dropped"]].tolist() == [ADVERSARIAL, OWN, OWN]
        assert bool(dropped[one["dropped"]].all())
        # As many of the target's class as were dropped; the rest of the other.
        assert shown.group[one["kept"]].tolist() == [ADVERSARIAL, ADVERSARIAL, OWN, OWN]
        assert not bool(dropped[one["kept"]].any())
        assert sorted(one["poisons"].tolist()) == torch.nonzero(shown.group == POISON).flatten().tolist()
        nothing = examples_of(shown, torch.zeros_like(dropped), 4, 0)
        assert len(nothing["dropped"]) == 0
