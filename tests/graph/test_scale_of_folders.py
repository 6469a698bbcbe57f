"""The note below a table says how many images a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph

DEFAULT = Path(__file__).resolve().parents[2] / "config.yaml"


@pytest.mark.parametrize(("limit", "count"), [({}, "all 7"), ({"train_limit": 6}, "6"), ({"root": "no/such"}, "all")])
def test_the_images_of_a_folder_are_counted(tmp_path: Path, limit: dict[str, Any], count: str) -> None:
    for name, images in (("cats", 4), ("dogs", 3)):
        folder = tmp_path / "train" / name
        folder.mkdir(parents=True)
        for place in range(images):
            (folder / f"{place}.png").touch()
        (folder / "notes.txt").touch()
        (folder / ".hidden.png").touch()
    values = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    values["dataset"] = {"source": "image-folder", "root": str(tmp_path), **limit}
    study = read_study(values)
    scale = Graph(study, str(DEFAULT.parent)).tables.scale(study.attacks)
    assert scale[0] == f"Data: image-folder {values['dataset']['root']}, {count} training images."
