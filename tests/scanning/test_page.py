"""What the page and the table show of images, on data of a few images made by hand."""

from __future__ import annotations

import torch

from poisonlab.data.dataset import ImageDataset
from poisonlab.scanning.duplicates import Neighbourhood
from poisonlab.scanning.page import Planted, Scanned, classes, duplicates, power, stability, table, voters
from poisonlab.scanning.ranking import join

POWERLESS = torch.zeros(1, 4, dtype=torch.float64)


def made() -> Scanned:
    """Three training images of class a and one of b, and a test image of b; pairs by hand."""
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    dataset = ImageDataset(
        images, torch.tensor([0, 0, 0, 1]), images[:1], torch.ones(1).long(), ("a", "b"), (0.5,) * 3, (0.2,) * 3
    )
    near = Neighbourhood(
        torch.tensor([[1, 4], [0, 2], [1, 3], [2, 1], [0, 1]]),
        torch.ones(5, 2),
        torch.tensor([[0, 1], [1, 2], [0, 4]]),
        torch.tensor([0.0, 7, 3]),
    )
    ranking = join(("blind",), POWERLESS)
    poisoned = torch.tensor([True, False, False, False])
    return Scanned(dataset, 1, list("01234"), [ranking] * 2, near, [Planted("p", "p", poisoned, ranking, None)], 2)


def test_classes_count_their_images_neighbours_and_duplicates() -> None:
    first, second = classes(made())
    assert (first["images"], first["suspects"], first["same"], first["duplicates"]) == (3, 2, 4 / 6, 3)
    assert first["often"] == [("b", 1)]
    assert (second["images"], second["suspects"], second["same"], second["duplicates"]) == (1, 0, 0, 1)


def test_no_more_neighbours_vote_than_there_are() -> None:
    assert voters(made(), 2) == {"neighbours": 2, "smallest_class": "b", "smallest": 1}
    assert voters(made(), 50)["neighbours"] == 3


def test_the_table_names_the_most_alike_of_every_image() -> None:
    head, *lines = table(made())
    twins = [dict(zip(head, line, strict=True)) for line in lines]
    assert [(line["duplicate of"], line["difference"]) for line in twins] == [
        *(("1", "0"), ("0", "0"), ("1", "7"), ("", ""), ("0", "3"))
    ]
    assert [line["split"] for line in twins] == ["train"] * 4 + ["test"]


def test_pairs_of_other_labels_and_splits_are_counted_and_come_first() -> None:
    counts, pairs = duplicates(made())
    assert counts == {"exact": 1, "near": 2, "of different labels": 1, "across the splits": 1}
    assert [[image["name"] for image in pair["images"]] for pair in pairs] == [["0", "4"], ["0", "1"], ["1", "2"]]


def test_a_filter_that_cannot_tell_holds_and_repeats_what_chance_gives() -> None:
    scan = made()
    assert power(scan)[0]["by_filter"] == {"blind": 0.5}
    assert power(scan)[0]["by_chance"] == 0.5
    found = stability(scan)
    assert found is not None
    assert found["by_filter"] == {"blind": 0.5}
    assert found["by_chance"] == 0.5
