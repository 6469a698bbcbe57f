"""The contents of a scan's page, of its table of images and of its summary, as plain values."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from poisonlab.config.class_folders import ClassOrder, class_folders, image_files, other_order
from poisonlab.config.data.image_folder import ImageFolder
from poisonlab.config.stages import read_stage
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.unread import unread
from poisonlab.errors import DataError
from poisonlab.scanning.duplicates import Neighbourhood
from poisonlab.scanning.ranking import Ranking, expected_repeats, held, still_flagged

LISTED = 100
"""Pairs of duplicates on the page; the table of images has the closest duplicate of every image."""
_THUMBNAIL = 64


@dataclass(frozen=True)
class Planted:
    """One attack's poisons and their scan.

    Attributes:
        attack: its name.
        method: its method.
        poisoned: (N,) bool, which examples of the planted data are poisons.
        ranking: of the planted data.
        success: the attack's success on the network that was trained on the poisons; None without such a network.
    """

    attack: str
    method: str
    poisoned: Tensor
    ranking: Ranking
    success: float | None


@dataclass(frozen=True)
class Scanned:
    """All that a scan has found.

    Attributes:
        dataset: the images.
        tests: number of test images, or 0 if they are no split of their own.
        names: of every image, training images first.
        rankings: of the training images, one per network; the suspects of the first ranking are shown.
        neighbourhood: of every image.
        planted: the planted poisons, which measure the power.
        suspects: how many images count as flagged.
    """

    dataset: ImageDataset
    tests: int
    names: Sequence[str]
    rankings: Sequence[Ranking]
    neighbourhood: Neighbourhood
    planted: Sequence[Planted]
    suspects: int

    @cached_property
    def labels(self) -> list[int]:
        """Labels of every image."""
        return [*self.dataset.train_labels.tolist(), *self.dataset.test_labels[: self.tests].tolist()]

    @property
    def training(self) -> int:
        """How many training images there are."""
        return len(self.dataset.train_labels)

    def named(self, number: int) -> str:
        """The name of an image's class."""
        return self.dataset.class_names[self.labels[number]]

    def split(self, number: int) -> str:
        """The split of an image."""
        return "train" if number < self.training else "test"

    def image(self, number: int) -> Tensor:
        """(C, H, W) uint8."""
        inside = number < self.training
        return self.dataset.train_images[number] if inside else self.dataset.test_images[number - self.training]


def voters(scan: Scanned, asked: int) -> dict[str, Any]:
    """How many neighbours vote in deep k-NN if ``asked`` are requested, and the smallest class."""
    counts = torch.bincount(scan.dataset.train_labels, minlength=len(scan.dataset.class_names))
    smallest = int(counts.argmin())
    return {
        "neighbours": min(asked, scan.training - 1),
        "smallest_class": scan.dataset.class_names[smallest],
        "smallest": int(counts[smallest]),
    }


def names_of(dataset: ImageDataset, tests: int, told: Mapping[str, Any]) -> list[str]:
    """The file name of every image; its split and row if it is not a file of an image folder.

    Args:
        dataset: the images.
        tests: how many test images count.
        told: settings of the data source.

    Raises:
        DataError: a folder no longer has the files that were read.
    """
    counts = (len(dataset.train_labels), tests)
    if told.get("source") != "image-folder":
        return [
            f"{split} {row}" for split, count in zip(("train", "test"), counts, strict=True) for row in range(count)
        ]
    settings = read_stage(ImageFolder, told)
    names: list[str] = []
    for folder, count in zip(settings.folders, counts, strict=True):
        if not count:
            continue
        files = [file for name in class_folders(folder, settings.class_order) for file in image_files(folder / name)[0]]
        if len(files) != count:
            raise DataError(f"{folder} had {count} images when it was read and has {len(files)} now: scan again")
        names += [str(file.relative_to(Path(settings.root))) for file in files]
    return names


def not_looked_at(told: Mapping[str, Any]) -> list[str]:
    """Files of an image folder that are in no split, such as images in folders below a class: number, kind and place.

    Args:
        told: settings of the data source.
    """
    if told.get("source") != "image-folder":
        return []
    settings = read_stage(ImageFolder, told)
    return [str(each) for each in unread(Path(settings.root), set(settings.folders))]


def other_class_order(dataset: ImageDataset, told: Mapping[str, Any]) -> ClassOrder | None:
    """The ``class_order`` that numbers the classes of an image folder otherwise, if there is one.

    Args:
        dataset: the images.
        told: settings of the data source.
    """
    if told.get("source") != "image-folder":
        return None
    return other_order(dataset.class_names, read_stage(ImageFolder, told).class_order)


# --- Power and false alarms ---


def power(scan: Scanned) -> list[dict[str, Any]]:
    """For each planted set, how many poisons are among the first suspects: joined, by each filter, and by chance.

    A single filter gives many images the same score. Its number is the expectation if equals are ordered at random.
    """
    return [
        {
            "attack": each.attack,
            "method": each.method,
            "planted": (count := int(each.poisoned.sum())),
            "held": held(each.ranking.first(scan.suspects), each.poisoned),
            "by_chance": round(count * scan.suspects / len(each.poisoned), 2),
            "by_filter": {
                name: round(float(each.ranking.chances(name, scan.suspects)[each.poisoned].sum()), 2)
                for name in each.ranking.filters
            },
            "success": each.success,
        }
        for each in scan.planted
    ]


def stability(scan: Scanned) -> dict[str, Any] | None:
    """Share of the flagged images that other networks flag as well; None with one network."""
    first, *others = scan.rankings
    if not others:
        return None
    return {
        "networks": len(scan.rankings),
        "share": round(still_flagged(first.first(scan.suspects), [each.first(scan.suspects) for each in others]), 4),
        "by_chance": round(scan.suspects / scan.training, 4),
        "by_filter": {
            name: round(
                expected_repeats(
                    first.chances(name, scan.suspects), [each.chances(name, scan.suspects) for each in others]
                ),
                4,
            )
            for name in first.filters
        },
    }


# --- What is shown of images ---


def suspects(scan: Scanned) -> list[dict[str, Any]]:
    """The first suspects, each with its places by filter, how many networks flag it, and its neighbours."""
    ranking, count = scan.rankings[0], scan.suspects
    agreement = ranking.agreement(count)
    return [
        {
            "place": place,
            **_shown(scan, row),
            "agreement": int(agreement[row]),
            "seeds": sum(bool((each.first(count) == row).any()) for each in scan.rankings),
            "joined": float(ranking.joined[row]),
            "places": [float(each) for each in ranking.places[:, row]],
            "scores": [float(each) for each in ranking.scores[:, row]],
            "neighbours": [
                {**_shown(scan, other), "distance": distance, "same": scan.labels[other] == scan.labels[row]}
                for other, distance in zip(
                    scan.neighbourhood.nearest[row].tolist(), scan.neighbourhood.distances[row].tolist(), strict=True
                )
            ],
        }
        for place, row in enumerate(ranking.first(count).tolist(), 1)
    ]


def classes(scan: Scanned) -> list[dict[str, Any]]:
    """For each class: images, suspects, neighbours of the same class, classes like its suspects, duplicates."""
    labels, nearest = torch.tensor(scan.labels), scan.neighbourhood.nearest
    same = (labels[nearest] == labels[:, None]).double().mean(1)
    flagged = scan.rankings[0].first(scan.suspects)
    repeated = torch.unique(scan.neighbourhood.pairs)
    found = []
    for label, name in enumerate(scan.dataset.class_names):
        own = torch.nonzero(labels[: scan.training] == label).flatten()
        theirs = flagged[labels[flagged] == label]
        others = Counter(each for each in labels[nearest[theirs]].flatten().tolist() if each != label)
        found.append(
            {
                "name": name,
                "images": len(own),
                "suspects": len(theirs),
                "same": float(same[own].mean()),
                "often": [(scan.dataset.class_names[other], count) for other, count in others.most_common(2)],
                "duplicates": int((labels[repeated] == label).sum()),
            }
        )
    return found


def duplicates(scan: Scanned) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """How many pairs there are of each kind, and the first ones: other labels first, then other splits, then the most
    alike."""
    pairs = []
    found = scan.neighbourhood
    for (one, other), difference in zip(found.pairs.tolist(), found.differences.tolist(), strict=True):
        relabelled, across = scan.labels[one] != scan.labels[other], scan.split(one) != scan.split(other)
        pairs.append((not relabelled, not across, difference, one, other))
    counts = {
        "exact": sum(pair[2] == 0 for pair in pairs),
        "near": sum(pair[2] > 0 for pair in pairs),
        "of different labels": sum(not pair[0] for pair in pairs),
        "across the splits": sum(not pair[1] for pair in pairs),
    }
    shown = [
        {
            "images": [_shown(scan, one), _shown(scan, other)],
            "difference": difference,
            "relabelled": not kept,
            "across": not inside,
        }
        for kept, inside, difference, one, other in sorted(pairs)[:LISTED]
    ]
    return counts, shown


def table(scan: Scanned) -> Iterator[list[Any]]:
    """The header and a line for every image; places and scores of training images only."""
    ranking, found = scan.rankings[0], scan.neighbourhood
    k = found.nearest.shape[1]
    yield [
        *("split", "row", "file", "label", "place", "joined", "agreement"),
        *(f"{name} {kind}" for name in ranking.filters for kind in ("place", "score")),
        *(f"neighbour {number} {kind}" for number in range(1, k + 1) for kind in ("file", "label", "distance")),
        *("duplicate of", "difference"),
    ]
    place = torch.empty(scan.training, dtype=torch.int64)
    place[ranking.order] = torch.arange(1, scan.training + 1)
    agreement = ranking.agreement(scan.suspects).tolist()
    twins: dict[int, tuple[int, float]] = {}
    alike = torch.sort(found.differences, stable=True).indices
    for (one, other), difference in zip(found.pairs[alike].tolist(), found.differences[alike].tolist(), strict=True):
        twins.setdefault(other, (one, difference))
        twins.setdefault(one, (other, difference))
    for number, (near, away) in enumerate(zip(found.nearest.tolist(), found.distances.tolist(), strict=True)):
        ranked = number < scan.training
        row = number if ranked else number - scan.training
        twin = twins.get(number)
        yield [
            *(scan.split(number), row, scan.names[number], scan.named(number)),
            *((int(place[row]), f"{float(ranking.joined[row]):.6f}", agreement[row]) if ranked else ("", "", "")),
            *(
                value
                for each in range(len(ranking.filters))
                for value in (
                    (f"{float(ranking.places[each, row]):g}", f"{float(ranking.scores[each, row]):.6g}")
                    if ranked
                    else ("", "")
                )
            ),
            *(
                value
                for other, distance in zip(near, away, strict=True)
                for value in (scan.names[other], scan.named(other), f"{distance:.6g}")
            ),
            *((scan.names[twin[0]], f"{twin[1]:.4g}") if twin else ("", "")),
        ]


def _shown(scan: Scanned, number: int) -> dict[str, Any]:
    return {
        "name": scan.names[number],
        "label": scan.named(number),
        "split": scan.split(number),
        "thumbnail": thumbnail(scan.image(number)),
    }


def thumbnail(image: Tensor) -> str:
    """``image`` (C, H, W) uint8 as a PNG in base64, at most 64 pixels a side.

    With two channels the first is shown, with more than three the first three.
    """
    pixels = image[:3].numpy() if len(image) >= 3 else image[:1].numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0)).squeeze())
    picture.thumbnail((_THUMBNAIL, _THUMBNAIL))
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode()
