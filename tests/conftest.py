"""The devices that tests run on: all there are, or those that POISONLAB_TEST_DEVICES names (``cpu``, ``cuda``).

``elsewhere`` is a device simulated on the CPU: for tests with the mark ``elsewhere``, and for all where it is named.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from unittest import mock

import pytest
import torch
from simulated import NAME, register, simulated

from poisonlab import precision

# cuBLAS repeats its bits only with a workspace of fixed size, which it reads when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


register()


def _devices() -> list[str]:
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    named = os.environ.get("POISONLAB_TEST_DEVICES", ",".join(there)).split(",")
    if missing := [name for name in named if name not in (*there, NAME)]:
        raise pytest.UsageError(f"POISONLAB_TEST_DEVICES: there is no {missing[0]!r} here, only {', '.join(there)}")
    return named


DEVICES = _devices()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that run Snakemake come first, whole studies before all: with the short ones last no worker ends early."""
    items.sort(key=lambda item: (item.get_closest_marker("workflow") is None, "test_smoke" not in item.nodeid))


def pytest_collection_finish() -> None:
    """What thousands of tests are made of stays: garbage collectors need not look through it again and again."""
    gc.collect()
    gc.freeze()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "device" in metafunc.fixturenames:
        marked = metafunc.definition.get_closest_marker(NAME) is not None and "POISONLAB_TEST_DEVICES" not in os.environ
        metafunc.parametrize("device", [*DEVICES, *([NAME] if marked else [])], indirect=True)


@pytest.fixture(autouse=True, scope="session")
def bfloat16_everywhere() -> Iterator[None]:
    """Tests of mixed precision are in bfloat16 on every machine, however slow; programs that tests start are not."""
    with mock.patch.object(precision, "multiplies_bfloat16", return_value=True):
        yield


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device, set up for repeated bits as the stage programs set it up."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    if request.param == NAME:
        with simulated() as found:
            yield found
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Tests compare with other ways to compute the same, to float32's rounding; TF32 has a thousandth of its own.
    torch.backends.cudnn.allow_tf32 = False
    yield torch.device("cuda")
    torch.backends.cudnn.allow_tf32 = True
    torch.use_deterministic_algorithms(False)
