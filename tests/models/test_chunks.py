"""Passes over many images: what they return, and memory that runs out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from poisonlab.errors import PoisonlabError, TooLittleMemoryError, is_out_of_memory
from poisonlab.models.chunks import images_at_once, in_chunks, memory_for
from poisonlab.models.classifier import Normalize
from poisonlab.models.outputs import outputs_of

FULL = (
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    # Not of torch's allocator: the driver's, and a library's.
    RuntimeError(
        "CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported at some other API call"
    ),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
)
NAMES = ("python", "cpu", "gpu", "driver", "library")


def test_a_chunk_has_as_many_bytes_as_one_of_cifar_images() -> None:
    def at_once(*shape: int) -> int:
        return images_at_once(torch.empty(0, *shape))

    assert at_once(3, 32, 32) == at_once(1, 28, 28) == 1000
    assert at_once(3, 64, 64) == 250
    assert at_once(3, 224, 224) == 20
    assert at_once(3, 4000, 4000) == 1
    assert images_at_once(torch.empty(0, 3, 64, 64), 512) == 128


@pytest.mark.parametrize("count", [0, 1, 7, 10, 11])
def test_slices_cover_everything_in_order(count: int) -> None:
    places = torch.arange(count)
    parts = list(in_chunks(lambda part: places[part], count, 5))
    assert torch.equal(torch.cat(parts), places)
    assert all(len(part) <= 5 for part in parts)


@pytest.mark.parametrize("error", FULL, ids=NAMES)
@pytest.mark.parametrize("fits", [1, 2, 3])
def test_a_chunk_that_does_not_fit_is_halved(error: Exception, fits: int) -> None:
    tried = []

    def work(part: slice) -> Tensor:
        length = part.stop - part.start
        tried.append(length)
        if length > fits:
            raise error
        return torch.arange(part.start, part.stop)

    assert torch.equal(torch.cat(list(in_chunks(work, 13, 8))), torch.arange(13))
    # Halved once for all: later chunks begin with the size that fitted.
    assert tried == sorted(tried, reverse=True)
    assert tried[:2] == [8, 4]


def test_one_that_does_not_fit_is_named_with_the_cure() -> None:
    def work(part: slice) -> Tensor:
        raise MemoryError

    with pytest.raises(TooLittleMemoryError, match=r"even with one of the 3 photos at a time: run fewer jobs.*smaller"):
        list(in_chunks(work, 3, 1000, "3 photos"))


def test_other_errors_are_not_taken_for_it() -> None:
    def work(part: slice) -> Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        list(in_chunks(work, 3, 1000))
    with pytest.raises(RuntimeError, match="mat1"), memory_for("nothing", "no cure"):
        work(slice(0, 1))
    assert not is_out_of_memory(PoisonlabError("not enough memory"))


@pytest.mark.parametrize("error", FULL, ids=NAMES)
def test_a_block_names_what_it_needed_memory_for(error: Exception) -> None:
    message = "for batches of 4 images: lower batch_size, or run fewer"
    with pytest.raises(TooLittleMemoryError, match=message), memory_for("batches of 4 images", "lower batch_size"):
        raise error


class Limited(nn.Module):
    """A linear network that fails as a full GPU does on more images than fit."""

    def __init__(self, fits: int) -> None:
        super().__init__()
        self.fits, self.layer = fits, nn.Linear(12, 3).double()

    def forward(self, x: Tensor) -> Tensor:
        if len(x) > self.fits:
            raise FULL[2]
        logits: Tensor = self.layer(x.double().flatten(1))
        return logits


def test_outputs_do_not_depend_on_the_memory() -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (50, 3, 2, 2), dtype=torch.uint8)
    normalize, network = Normalize((0.5,) * 3, (0.2,) * 3), Limited(100)
    whole = outputs_of(network, normalize, images)
    expected = network.layer(((images / 255 - 0.5) / 0.2).double().flatten(1)).float()
    assert torch.allclose(whole, expected, atol=1e-5)
    network.fits = 3
    assert torch.allclose(outputs_of(network, normalize, images), whole, atol=1e-6)
    network.fits = 0
    with pytest.raises(TooLittleMemoryError, match="50 images of 3 x 2 x 2 that a network is evaluated on"):
        outputs_of(network, normalize, images)
