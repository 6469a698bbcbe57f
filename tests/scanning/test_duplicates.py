"""Neighbours against all distances, duplicates against pairs that were made."""

from __future__ import annotations

import pytest
import torch

from poisonlab.scanning.duplicates import neighbourhood


@pytest.mark.parametrize("tied", [False, True])
def test_neighbours_are_the_nearest_of_all_in_order(tied: bool) -> None:
    features = torch.randn(70, 6, generator=torch.Generator().manual_seed(2))
    features = features.round().clamp(-1, 1) if tied else features
    features[10] = features[3]
    images = torch.randint(0, 256, (70, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    found = neighbourhood(features, images, k=4, near=1, memory=10_000)
    distances = torch.cdist(features.double(), features.double(), compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    sorted_, expected = distances.sort(dim=1, stable=True)
    assert torch.equal(found.nearest, expected[:, :4])
    assert torch.allclose(found.distances.double(), sorted_[:, :4])
    assert tied or found.nearest[10, 0] == 3
    assert len(found.pairs) == 0


def test_equal_and_alike_images_are_found_and_others_are_not() -> None:
    images = torch.randint(0, 200, (12, 3, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images[5], images[9] = images[2], images[2]
    images[7] = images[1] + 6
    images[8] = images[0] + 9
    found = neighbourhood(images.flatten(1).float(), images, k=2, near=8, memory=2**20)
    assert found.pairs.tolist() == [[2, 5], [2, 9], [1, 7]]
    assert found.differences.tolist() == [0, 0, 6]


def test_two_images_have_one_neighbour_each() -> None:
    images = torch.zeros(2, 1, 2, 2, dtype=torch.uint8)
    found = neighbourhood(torch.zeros(2, 3), images, k=5, near=8)
    assert found.nearest.tolist() == [[1], [0]]
    assert found.pairs.tolist() == [[0, 1]]
