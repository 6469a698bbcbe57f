"""What every contract is tested on: the processor, and a GPU where there is one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch

# cuBLAS repeats its bits only with a workspace of fixed size, which it reads when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """The device, set up for repeated bits as the stage programs set it up."""
    if request.param == "cpu":
        yield torch.device("cpu")
        return
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield torch.device("cuda")
    torch.use_deterministic_algorithms(False)
