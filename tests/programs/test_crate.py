"""workflow/scripts/crate.py: the description of an archive, beyond what tests/workflow/test_archive.py shows."""

from __future__ import annotations

import json

import pytest
from loading import program

from poisonlab.provenance import ROOT


def test_the_media_types_of_a_machine_change_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    crate = program("crate")
    files = {f"results/tables/a{ending}": "0" * 64 for ending in crate.FORMATS}
    run = crate.Run("a", "", "results/archives/a.yaml", files, (), 0.0, 1.0, "unknown")
    members = crate.sources() | {run.config: b"study: a\n"}
    before = crate.metadata(run, members)
    monkeypatch.setattr("mimetypes.guess_type", lambda *_, **__: ("text/odd", None))
    assert crate.metadata(run, members) == before
    types = {each["@id"]: each.get("encodingFormat") for each in json.loads(before)["@graph"]}
    assert types["results/tables/a.md"] == "text/markdown"
    assert types["results/tables/a.tex"] == "application/x-tex"
