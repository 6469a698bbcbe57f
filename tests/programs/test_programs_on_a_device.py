"""Every program that computes, in the order of a study, on a device whose tensors cannot be taken for the CPU's."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from gpu.workflow import REHEARSED
from loading import program

from poisonlab import stage_program
from poisonlab.config.study import read_study
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
STAGES = {"pretrain", "craft", "filter", "noise", "train", "detect"}
LANDSCAPES = {"landscape_poison", "landscape_victims", "output_std", "feature_view"}


@pytest.mark.elsewhere
def test_all_of_a_study(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = yaml.safe_load(REHEARSED.read_text(encoding="utf-8"))
    for network in (*settings["surrogates"], *settings["victims"]):
        network["recipe"] = {**network["recipe"], "precision": "float32"}  # as the simulated device has no other
    graph = Graph(read_study(settings), str(ROOT))
    monkeypatch.chdir(tmp_path)
    done = []
    for job in graph.all_jobs():
        if not job.computes and job.stage != "dataset":
            continue
        options = {"code": ["none"], "checkpoint-seconds": ["0"]} if job.saves else {}
        stage = program(job.program.removesuffix(".py"))
        if job.computes:
            monkeypatch.setattr(stage_program, "prepare_torch", lambda *arguments: device)
        for path in job.outputs.values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        stage.main(shlex.split(job.command("python", "scripts", options))[2:])
        assert all(Path(path).is_file() for name, path in job.outputs.items() if name != "checkpoint")
        done.append(job.stage)
    assert set(done) > STAGES | LANDSCAPES
    metrics = sorted(Path("results/victims").rglob("*.metrics.json"))
    assert metrics
    assert all("accuracy" in json.loads(path.read_text(encoding="utf-8"))["measures"] for path in metrics)
