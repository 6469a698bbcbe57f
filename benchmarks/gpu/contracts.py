"""The contract tests on the device, and the tests of GPUs that jobs share."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path

from gpu.section import Check, FaultError, Notes

ROOT = Path(__file__).resolve().parents[2]
TESTS = (
    "tests/contracts",
    "tests/test_gpus.py",
    "tests/training/test_capture.py",
    "tests/defenses",
    "tests/filters",
    "tests/benchmarks",
    "tests/programs",
)
REHEARSED = ("tests/contracts/test_filters.py", "-k", "random-filter")
DEVICES = "POISONLAB_TEST_DEVICES"
_AT_ONCE = 8
_SHOWN = 20


def contracts(check: Check, notes: Notes) -> None:
    """Every test that takes a device, on this one only.

    Raises:
        FaultError: a test failed, or none ran.
    """
    report, log = check.folder / "tests.xml", check.folder / "tests.log"
    options = ["-q", "-p", "no:cacheprovider", f"--junitxml={report}", f"--basetemp={check.folder / 'files'}"]
    if not check.tiny and find_spec("xdist"):
        options += ["-n", str(min(_AT_ONCE, os.cpu_count() or 1))]
    chosen = REHEARSED if check.tiny else (*TESTS, "-k", "cuda or gpu")
    with log.open("w", encoding="utf-8") as file:
        code = subprocess.run(
            [check.python, "-m", "pytest", *options, *chosen],
            cwd=ROOT,
            env={**os.environ, DEVICES: check.device},
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        ).returncode
    if not report.is_file():
        raise FaultError(f"pytest ended with status {code}: {log.read_text(encoding='utf-8').strip()[-400:]}")
    passed = _told(report, notes)
    if code != 0:
        raise FaultError(f"pytest ended with status {code}; {passed} tests passed")
    if passed == 0:
        raise FaultError("no test ran")


def _told(report: Path, notes: Notes) -> int:
    """Note the counts and the first failures; returns how many tests passed."""
    # Written by pytest a moment ago.
    cases = list(ET.parse(report).getroot().iter("testcase"))
    broken = {case: part for case in cases for part in case if part.tag in ("failure", "error")}
    skipped = [case for case in cases if case.find("skipped") is not None]
    passed = len(cases) - len(broken) - len(skipped)
    notes.fact("passed", passed)
    notes.fact("skipped", len(skipped))
    notes.fact("failed", len(broken))
    lines = [
        f"{case.get('classname')}.{case.get('name')}: {' '.join((part.get('message') or '').split())[:200]}"
        for case, part in broken.items()
    ]
    notes.fact("failures", lines[:_SHOWN])
    return passed
