"""progress, estimate, verify and archive called where Snakemake was called, which need not be the checkout."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from loading import program

from poisonlab.config.merging import checkout, merged_config
from poisonlab.errors import SettingsError
from poisonlab.graph.graph import Graph
from poisonlab.graph.scanning import read_config

ROOT = Path(__file__).resolve().parents[2]


def seen_from(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, list[list[str]]]:
    """Where the workflow's files are, and the code of two jobs of the default study with another seed."""
    monkeypatch.chdir(folder)
    study, _ = read_config(merged_config([], ["seeds=[3]"]))
    graph = Graph(study, checkout())
    network = {"surrogate": "base", "seed": "3", "member": "0"}
    return checkout(), [graph.code(graph.job("dataset")), graph.code(graph.job("pretrain", network))]


def test_another_folder_sees_the_same_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, code_here = seen_from(ROOT, monkeypatch)
    there, code_there = seen_from(tmp_path, monkeypatch)
    assert here == "."
    assert Path(there).resolve() == ROOT
    assert code_here == code_there
    assert all(code_here)


def test_verify_asks_snakemake_for_the_same_workflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def answer(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    verify = program("verify")
    monkeypatch.setattr(verify.subprocess, "run", answer)
    for folder in (ROOT, tmp_path):
        monkeypatch.chdir(folder)
        verify.snakemake("--summary", [], [])
    here, there = asked
    assert "--snakefile" not in here
    assert Path(there[there.index("--snakefile") + 1]).resolve() == ROOT / "Snakefile"


def test_verify_says_what_is_wrong_with_the_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scan.yaml").write_text("data: nowhere\n", "utf-8")
    for file, message in (("scan.yaml", "nowhere is missing"), ("none.yaml", "none.yaml: No such file")):
        assert program("verify").main(["--configfile", file]) == 4
        assert message in capsys.readouterr().err


def test_a_config_that_is_no_yaml_is_named(tmp_path: Path) -> None:
    (tmp_path / "first.yaml").write_text("seeds: [3]\n", "utf-8")
    (tmp_path / "second.yaml").write_text("seeds: [3\n", "utf-8")
    with pytest.raises(SettingsError, match=r"second\.yaml:2: no YAML: expected"):
        merged_config([str(tmp_path / "first.yaml"), str(tmp_path / "second.yaml")], [])
