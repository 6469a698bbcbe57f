"""Messages stay one line that a terminal can show, whatever they quote."""

from __future__ import annotations

import pickle

import pytest

from poisonlab.errors import DataError
from poisonlab.runtime import program


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.npz is damaged: copy it again", "a.npz is damaged: copy it again"),
        ("é and ü", "é and ü"),
        ("two\n lines\r\nand\u2028three", "two lines and three"),
        ("a \x1b[31mcolour\x1b[0m and a\0b", "a \\x1b[31mcolour\\x1b[0m and a\\x00b"),
        ("half \udcff", "half \\udcff"),
    ],
)
def test_a_message_is_one_printable_line(text: str, shown: str) -> None:
    error = DataError(text)
    assert str(error) == shown
    assert str(pickle.loads(pickle.dumps(error))) == shown


def test_a_message_keeps_its_beginning_and_its_cure() -> None:
    text = str(DataError("a.npz holds " + "x" * 1_000_000 + ": copy it again"))
    assert len(text) < 4000
    assert text.startswith("a.npz holds xxx")
    assert text.endswith("xxx: copy it again")


def test_a_batch_of_one_tiny_image_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    def train(_: object) -> None:
        torch.nn.BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))

    with pytest.raises(SystemExit) as caught:
        program.run(train)
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith("error: batch norm cannot train on one example")


@pytest.mark.parametrize(
    ("text", "on_gpu"),
    [
        ("CUDA error: out of memory\nFor debugging consider passing CUDA_LAUNCH_BLOCKING=1", True),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried to ...", False),
    ],
)
def test_memory_that_ran_out_outside_torch_s_allocator_is_one_line(
    text: str, on_gpu: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where several jobs fill a GPU, which CUDA itself needs some of."""

    def compute(_: object) -> None:
        raise RuntimeError(text)

    with pytest.raises(SystemExit) as caught:
        program.run(compute)
    assert caught.value.code == 2
    message = program.OUT_OF_MEMORY_ON_GPU if on_gpu else program.OUT_OF_MEMORY
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def stop(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        program.run(stop)
    assert caught.value.code == 130
    assert capsys.readouterr().err == "error: interrupted: call it again to go on\n"
