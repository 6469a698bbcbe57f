"""Runs every stage through Snakemake, several jobs at once on the device; a second call must have nothing to do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from gpu.section import Check, FaultError, Notes
from poisonlab.runtime.failures import last_errors

ROOT = Path(__file__).resolve().parents[2]
SMOKE, REHEARSED = ROOT / "config/smoke.yaml", Path(__file__).with_name("rehearsal.yaml")
JOBS_PER_GPU = 12
# These run the same code as other rows of the smoke test.
SPARED = {"ap-0.5", "ap-0.75", "epic-0.2", "gaussian", "uniform"}
SPARED_ABLATIONS = {"begin", "search"}
_LOG = "snakemake.log"
# For Snakemake to end its jobs, and for the notes.
_GRACE = 8.0


def workflow(check: Check, notes: Notes) -> None:
    """Run the study twice in its own folder.

    Raises:
        FaultError: a job failed, the second call had something to do, or a job did not run on the device.
    """
    study = check.folder / "study.yaml"
    study.write_text(yaml.safe_dump(study_on(check.device, tiny=check.tiny), sort_keys=False), encoding="utf-8")
    begin, began = time.monotonic(), time.time()
    try:
        code, output = _snakemake(check, study, check.seconds - _GRACE)
    finally:
        notes.fact("first_call_s", round(time.monotonic() - begin, 1))
        _tell_of_jobs(check, notes)
    errors = last_errors(sorted((check.folder / "results").rglob("*.log")), began)
    notes.fact("errors", errors)
    if code != 0:
        last = " ".join(output.strip().splitlines()[-3:])
        raise FaultError(f"Snakemake ended with status {code}: {errors[0] if errors else last}")
    begin = time.monotonic()
    code, output = _snakemake(check, study, check.seconds - _GRACE - (time.time() - began))
    notes.fact("second_call_s", round(time.monotonic() - begin, 1))
    if code != 0 or "Nothing to be done" not in output:
        raise FaultError(f"the second call did not find everything done: {' '.join(output.strip().splitlines()[-3:])}")
    if (elsewhere := _elsewhere(check)) and check.device == "cuda":
        raise FaultError(f"{len(elsewhere)} jobs did not run on the GPU: {elsewhere[0]}")


def study_on(device: str, *, tiny: bool = False) -> dict[str, Any]:
    """The study: config/smoke.yaml in mixed precision without rows that run no other code, or one for a rehearsal."""
    study: dict[str, Any] = yaml.safe_load((REHEARSED if tiny else SMOKE).read_text(encoding="utf-8"))
    study |= {"device": device, "jobs_per_gpu": JOBS_PER_GPU, "threads": 1}
    if not tiny:
        for network in (*study["surrogates"], *study["victims"]):
            network["recipe"] = {**network["recipe"], "precision": "bfloat16"}
        study["defenses"] = [row for row in study["defenses"] if row["name"] not in SPARED]
        study["ablations"] = [each for each in study["ablations"] if each["name"] not in SPARED_ABLATIONS]
    return study


def _snakemake(check: Check, study: Path, seconds: float) -> tuple[int, str]:
    """Exit status and output of one call, which is ended after ``seconds``."""
    command = [check.python, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--configfile", str(study)]
    command += ["--directory", str(check.folder), "--cores", str(2 if check.tiny else os.cpu_count() or 1)]
    # One call finds all faults.
    command += ["--keep-going"]
    with (check.folder / _LOG).open("w+", encoding="utf-8") as file:
        with subprocess.Popen(command, cwd=check.folder, stdout=file, stderr=subprocess.STDOUT) as process:
            try:
                code = process.wait(timeout=max(1.0, seconds))
            except subprocess.TimeoutExpired:
                process.terminate()
                try:
                    process.wait(timeout=_GRACE / 2)
                except subprocess.TimeoutExpired:
                    process.kill()
                raise FaultError(f"Snakemake did not end within {seconds:.0f} s") from None
        file.seek(0)
        return code, file.read()


def _tell_of_jobs(check: Check, notes: Notes) -> None:
    """Note which jobs were started, how many computed at once, and the largest memory of a job."""
    log = (check.folder / _LOG).read_text(encoding="utf-8")
    notes.fact("jobs", dict(Counter(re.findall(r"^(?:local)?rule (\w+):$", log, flags=re.MULTILINE))))
    cards = _cards(check)
    spans = [(_finished(card) - card["seconds"], _finished(card)) for card in cards]
    notes.fact("run_cards", len(cards))
    notes.fact("most_at_once", max((sum(a <= begin < b for a, b in spans) for begin, _ in spans), default=0))
    notes.fact("slowest_job_s", max((card["seconds"] for card in cards), default=0.0))
    notes.fact("peak_host_mib", max((card["peak_host_mib"] for card in cards), default=0))
    notes.fact("peak_device_mib", max((card["peak_device_mib"] or 0 for card in cards), default=0))


def _cards(check: Check) -> list[dict[str, Any]]:
    found = sorted((check.folder / "results").rglob("*.card.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


def _finished(card: dict[str, Any]) -> float:
    return datetime.fromisoformat(card["finished"]).timestamp()


def _elsewhere(check: Check) -> list[str]:
    """Settings of the jobs that computed on the CPU."""
    return [" ".join(card["spec"])[:200] for card in _cards(check) if card["peak_device_mib"] is None]
