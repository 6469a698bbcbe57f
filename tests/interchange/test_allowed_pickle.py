"""Pickles of plain data are read; everything else ends in one line and is not run."""

from __future__ import annotations

import builtins
import collections
import io
import os
import pickle
import resource
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_poisons import as_pil, pil_pairs, pixels, refusal
from PIL import Image

from poisonlab.errors import DataError
from poisonlab.interchange import allowed_pickle
from poisonlab.interchange.allowed_pickle import RgbImage, load

PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def read(folder: Path, data: bytes) -> Any:
    path = folder / "some.pickle"
    path.write_bytes(data)
    return load(path)


def refused(folder: Path, data: bytes, *words: object) -> str:
    with pytest.raises(DataError) as caught:
        read(folder, data)
    return refusal(caught, folder / "some.pickle", "nothing in it was run", *words)


# --- plain data -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_images_labels_and_indices_come_back(tmp_path: Path, protocol: int) -> None:
    images = pixels(3)
    found = read(tmp_path, pickle.dumps(pil_pairs(images, [1, np.int64(2), torch.tensor(3)]), protocol))
    for image, (read_image, label), expected in zip(images, found, (1, 2, 3), strict=True):
        assert isinstance(read_image, RgbImage)
        assert torch.equal(read_image.pixels, image)
        assert int(label) == expected


ARRAYS = [
    np.arange(6),
    np.arange(6, dtype=np.uint8).reshape(2, 3),
    np.arange(6, dtype=">i4"),
    np.eye(3, dtype=np.float32)[:, ::2],
    np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.array([True, False]),
    np.zeros((0, 3)),
    np.array(7),
    np.array([1.5, np.nan], dtype=np.float16),
]


def old_names(data: bytes) -> bytes:
    """A protocol 0 to 2 pickle as numpy 1 wrote it."""
    assert b"numpy._core" in data
    return data.replace(b"cnumpy._core.", b"cnumpy.core.")


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=str)
def test_arrays_come_back(tmp_path: Path, array: np.ndarray[Any, Any], protocol: int) -> None:
    data = pickle.dumps([array, array], protocol)
    for written in [data] + ([old_names(data)] if protocol <= 2 else []):
        first, second = read(tmp_path, written)
        assert first is second
        assert first.shape == array.shape
        assert first.dtype == array.dtype.newbyteorder("=")
        assert np.array_equal(first, array, equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_scalars_come_back(tmp_path: Path, protocol: int) -> None:
    values = [
        np.int64(-5),
        np.uint8(200),
        np.float32(1.5),
        np.bool_(True),
        2**70,
        -1,
        0.5,
        None,
        True,
        "é",
        b"",
        b"\xff",
    ]
    data = pickle.dumps(values, protocol)
    assert read(tmp_path, data) == values
    if protocol <= 2:
        assert read(tmp_path, old_names(data)) == values


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float32, torch.float64, torch.bool])
def test_tensors_come_back(tmp_path: Path, dtype: torch.dtype, protocol: int) -> None:
    whole = torch.arange(24).view(2, 3, 4).to(dtype)
    for tensor in (whole, whole[1, :, 1:], whole.permute(2, 0, 1), whole[0, 0, 0], whole[:0]):
        found = read(tmp_path, pickle.dumps({"t": tensor}, protocol))["t"]
        assert found.dtype == dtype
        assert torch.equal(found, tensor)


def test_parameters_come_back_without_a_gradient(tmp_path: Path) -> None:
    found = read(tmp_path, pickle.dumps(torch.nn.Parameter(torch.ones(2))))
    assert torch.equal(found, torch.ones(2))
    assert not found.requires_grad


def test_the_oldest_storages_are_read(tmp_path: Path) -> None:
    data = b"ctorch._utils\n_rebuild_tensor\n(ctorch\nLongStorage\n((I5\nI6\nI7\nltRI1\n(I2\nt(I1\nttR."
    assert read(tmp_path, data).tolist() == [6, 7]


def test_a_python_2_array_is_read(tmp_path: Path) -> None:
    """Python 2 wrote bytes as str."""
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R(K\x01K\x02\x85"
    dtype = b"cnumpy\ndtype\nU\x02i4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    data = head + dtype + b"\x89U\x08" + struct.pack("<2i", 200, -3) + b"tb."
    assert read(tmp_path, data).tolist() == [200, -3]


def test_images_opened_from_files_are_read(tmp_path: Path) -> None:
    image = pixels(1)[0]
    for name in ("a.png", "a.jpg"):
        as_pil(image).save(tmp_path / name)
        with Image.open(tmp_path / name) as opened:
            opened.load()
            found = read(tmp_path, pickle.dumps((opened, 3)))
            assert np.array_equal(found[0].pixels.permute(1, 2, 0).numpy(), np.asarray(opened))


def test_a_list_that_occurs_often_is_decoded_once(tmp_path: Path) -> None:
    nested: Any = [as_pil(pixels(1)[0])]
    for _ in range(20):
        nested = [nested, nested]
    found = read(tmp_path, pickle.dumps(nested))
    assert found[0] is found[1]


# --- hostile pickles ------------------------------------------------------------------------------------------


class Calls:
    """Pickles to a call."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def touch(folder: Path) -> str:
    return f"touch {folder / 'hacked'}"


def payloads(folder: Path) -> dict[str, tuple[Any, str]]:
    code = f"open({str(folder / 'hacked')!r}, 'w').close()"
    return {
        "system": (Calls(os.system, touch(folder)), "system"),
        "eval": (Calls(eval, code), "eval"),
        "exec": (Calls(exec, code), "exec"),
        "getattr": (Calls(getattr, "", "join"), "getattr"),
        "import": (Calls(builtins.__import__, "os"), "__import__"),
        "torch.load": (Calls(torch.load, "x"), "load"),
        "from_numpy": (Calls(np.load, "x"), "load"),
        "class": (collections.Counter, "Counter"),
    }


PAYLOADS = sorted(payloads(Path()))


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", PAYLOADS)
def test_forbidden_names_are_named_and_not_called(tmp_path: Path, name: str, protocol: int) -> None:
    payload, word = payloads(tmp_path)[name]
    data = pickle.dumps([as_pil(pixels(1)[0]), {"a": (1, payload)}], protocol)
    refused(tmp_path, data, f".{word}", "asks for")
    assert not (tmp_path / "hacked").exists()


def test_the_payloads_of_these_tests_would_work(tmp_path: Path) -> None:
    for name in ("system", "eval", "exec"):
        pickle.loads(pickle.dumps(payloads(tmp_path)[name][0]))
        (tmp_path / "hacked").unlink()


def by_hand(folder: Path) -> dict[str, bytes]:
    command = touch(folder).encode()
    return {
        "posix.system": b"cposix\nsystem\n(V" + command + b"\ntR.",
        "os.system": b"\x80\x02(cos\nsystem\nV" + command + b"\no.",
        "OBJ": b"(V" + command + b"\no.",
        "INST": b"(V" + command + b"\niposix\nsystem\n.",
        "EXT1": b"\x82\x01.",
        "BINPERSID": b"V1\nQ.",
        "PERSID": b"P1\n.",
        "NEXT_BUFFER": b"\x80\x05\x97.",
        "NEWOBJ_EX": b"\x80\x04N)}\x92.",
        "os.path.join": b"\x80\x04\x8c\x02os\x8c\x09path.join\x93.",
    }


@pytest.mark.parametrize("name", sorted(by_hand(Path())))
def test_every_way_to_call_is_refused_by_name(tmp_path: Path, name: str) -> None:
    refused(tmp_path, by_hand(tmp_path)[name], name)
    assert not (tmp_path / "hacked").exists()


def test_a_name_with_line_breaks_stays_on_one_line(tmp_path: Path) -> None:
    name = "x\nTraceback\r\u2028" * 30
    data = b"\x80\x04" + pickle.dumps(name, 4)[2:-1] + b"\x8c\x01y\x93."
    with pytest.raises(DataError) as caught:
        read(tmp_path, data)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


class Inner:
    """Pickles to torch.storage._load_from_bytes of any bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def __reduce__(self) -> Any:
        return torch.storage._load_from_bytes, (self.data,)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_hostile_pickle_inside_a_tensor_is_not_run(tmp_path: Path, zipped: bool) -> None:
    inner = io.BytesIO()
    torch.save(Calls(os.system, touch(tmp_path)), inner, _use_new_zipfile_serialization=zipped)
    data = pickle.dumps(Inner(inner.getvalue()))
    refused(tmp_path, data, "weights_only")
    assert not (tmp_path / "hacked").exists()
    pickle.loads(data)
    assert (tmp_path / "hacked").exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_array_of_objects_is_refused(tmp_path: Path, protocol: int) -> None:
    array = np.array([Calls(os.system, touch(tmp_path)), 1], dtype=object)
    refused(tmp_path, pickle.dumps(array, protocol))
    refused(tmp_path, pickle.dumps(np.array([1, None], dtype=object), protocol), "Python objects")
    assert not (tmp_path / "hacked").exists()


@pytest.mark.parametrize(
    "array",
    [np.array(["a"]), np.array([b"a"]), np.zeros(2, dtype=[("a", "i4")]), np.array([1j]), np.zeros(1, "M8[s]")],
    ids=str,
)
def test_arrays_of_other_than_numbers_are_refused(tmp_path: Path, array: np.ndarray[Any, Any]) -> None:
    refused(tmp_path, pickle.dumps(array))


def array_state(shape: bytes, data: bytes) -> bytes:
    head = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntVb\ntR(I1\n"
    return head + shape + b"cnumpy\ndtype\n(Vu1\nI0\nI1\ntRI00\nV" + data + b"\ntb."


@pytest.mark.parametrize(
    "shape", [b"(I2\nt", b"(I-1\nt", b"(I9999999999999\nI9999999999999\nt", b"Va\n", b"(Va\nt", b"(F1\nt"]
)
def test_arrays_of_another_shape_than_their_bytes_are_refused(tmp_path: Path, shape: bytes) -> None:
    assert read(tmp_path, array_state(b"(I3\nt", b"abc")).tolist() == [97, 98, 99]
    refused(tmp_path, array_state(shape, b"abc"))


def image_state(mode: bytes, size: bytes, data: bytes) -> bytes:
    return b"\x80\x02cPIL.Image\nImage\n)\x81](}V" + mode + b"\n(" + size + b"tNU" + bytes([len(data)]) + data + b"eb."


def test_images_are_checked_before_they_are_decoded(tmp_path: Path) -> None:
    assert read(tmp_path, image_state(b"RGB", b"K\x02K\x01", b"abcdef")).pixels.tolist() == [
        [[97, 100]],
        [[98, 101]],
        [[99, 102]],
    ]
    refused(tmp_path, image_state(b"RGB", b"K\x02K\x01", b"abcde"), "2x1", "5 bytes")
    refused(tmp_path, image_state(b"RGB", b"M\xff\xffM\xff\xff", b"a"), "65535x65535")
    refused(tmp_path, image_state(b"RGB", b"K\x00K\x01", b""))
    refused(tmp_path, image_state(b"RGB", b"K\x01", b"abc"))
    refused(tmp_path, image_state(b"RGB", b"Va\nK\x01", b"abc"))
    refused(tmp_path, image_state(b"L", b"K\x01K\x01", b"a"), "mode L", "convert")
    refused(tmp_path, image_state(b"R" * 5000, b"K\x01K\x01", b"a"), "unknown")
    refused(tmp_path, b"\x80\x02cPIL.Image\nImage\n)\x81.")
    refused(tmp_path, b"\x80\x02cPIL.Image\nImage\n.")


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "I", "CMYK"])
def test_other_modes_are_named(tmp_path: Path, mode: str) -> None:
    refused(tmp_path, pickle.dumps(Image.new(mode, (2, 2))), f"mode {mode},")


def tensor_call(offset: int, size: str, stride: str) -> bytes:
    """A call of _rebuild_tensor_v2 on a storage of three elements."""
    numbers = f"I{offset}\n({size}t({stride}t".encode()
    return b"ctorch._utils\n_rebuild_tensor_v2\n(ctorch\nLongStorage\n((I5\nI6\nI7\nltR" + numbers + b"I00\nNtR."


def test_tensors_never_reach_beyond_their_memory(tmp_path: Path) -> None:
    assert read(tmp_path, tensor_call(1, "I2\n", "I1\n")).tolist() == [6, 7]
    for offset, size, stride in [
        (2, "I2\n", "I1\n"),
        (0, "I2\n", "I3\n"),
        (0, "I99999999999\n", "I0\n"),
        (-1, "I1\n", "I1\n"),
        (0, "I-1\n", "I1\n"),
        (0, "I3\n", "I-1\n"),
        (0, "I3\n", ""),
        (2**70, "I1\n", "I1\n"),
    ]:
        refused(tmp_path, tensor_call(offset, size, stride))


@pytest.mark.parametrize(
    "made",
    [
        b"cnumpy\ndtype\n",
        b"cnumpy\nndarray\n",
        b"c_codecs\nencode\n",
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"cPIL.Image\nImage\n",
        b"cPIL.Image\nImage\n)\x81",
        b"ctorch\nLongStorage\n)R",
        b"cnumpy\ndtype\n(Vu1\ntR",
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nNNtR",
        b"]",
        b"}",
        b"V\n",
        b"K\x01",
    ],
)
@pytest.mark.parametrize("state", [b"}V__class__\nK\x01s", b"N}V__setstate__\nK\x01s\x86", b"K\x01", b"(lt"])
def test_nothing_lets_a_pickle_set_its_state(tmp_path: Path, made: bytes, state: bytes) -> None:
    refused(tmp_path, b"\x80\x02" + made + state + b"b.")
    # The next file is read as ever.
    assert len(read(tmp_path, pickle.dumps([as_pil(pixels(1)[0]), np.arange(3), torch.arange(3)]))) == 3


# --- damage and denial ----------------------------------------------------------------------------------------


def test_missing_large_and_foreign_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in (tmp_path / "absent.pickle", tmp_path):
        with pytest.raises(DataError) as caught:
            load(path)
        refusal(caught, path, "missing")
    for data in (
        b"",
        b".",
        b"hello",
        b"\x89PNG\r\n\x1a\n",
        b"\x80\x04",
        b"\x80\x63K\x01.",
        b"0.",
        b"t.",
        b"(((.",
        b"\x80\x04N.N.",
    ):
        refused(tmp_path, data)
    monkeypatch.setattr(allowed_pickle, "LARGEST_FILE", 10)
    (tmp_path / "large.pickle").write_bytes(pickle.dumps("x" * 20))
    with pytest.raises(DataError) as caught:
        load(tmp_path / "large.pickle")
    refusal(caught, "more than the 10")


def test_deep_and_circular_lists_are_refused(tmp_path: Path) -> None:
    circular: list[Any] = []
    circular.append(circular)
    refused(tmp_path, pickle.dumps(circular), "contains itself")
    refused(tmp_path, b"]" * 200_000 + b"a" * 199_999 + b".", "deep")
    refused(tmp_path, b")" + b"\x85" * 500_000 + b".", "deep")
    refused(tmp_path, b"(" * 300_000 + b"t" * 300_000 + b".", "deep")


def test_keys_that_take_for_ever_to_hash_are_refused(tmp_path: Path) -> None:
    doubled = b")" + b"q\x00h\x00\x86" * 60
    refused(tmp_path, b"\x80\x02}" + doubled + b"K\x01s.", "tuple")
    refused(tmp_path, b"\x80\x02}(" + doubled + b"K\x01u.", "tuple")
    refused(tmp_path, b"\x80\x02(" + doubled + b"K\x01d.", "tuple")
    refused(tmp_path, b"}" + b")" + b"\x85" * 200_000 + b"K\x01s.", "tuple")
    for nested in (doubled, b")" + b"\x85" * 200_000):
        refused(tmp_path, b"\x80\x02cnumpy\ndtype\n" + nested + b"\x85R.")
        refused(tmp_path, b"\x80\x02" + nested + nested + b"\x93.")


def test_a_memo_takes_no_room_before_it_is_used(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert read(tmp_path, b"\x80\x02Nr" + struct.pack("<I", 2**31 - 1) + b".") is None
    assert read(tmp_path, b"Np99999999999\n.") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024
    refused(tmp_path, b"Np-5\n.")
    refused(tmp_path, b"g7\n.")


@pytest.mark.parametrize("opcode", [b"\x8e", b"\x8d", b"\x96", b"\x95"])
def test_lengths_beyond_the_file_are_refused(tmp_path: Path, opcode: bytes) -> None:
    for length in (2**40, 2**63 - 1, 2**64 - 1):
        refused(tmp_path, b"\x80\x05" + opcode + struct.pack("<Q", length) + b"abc.")


def test_too_many_operations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allowed_pickle, "_MOST_OPERATIONS", 100)
    refused(tmp_path, b"](" + b"N" * 200 + b"e.", "more than 100")


def valid(protocol: int) -> bytes:
    image = as_pil(pixels(1)[0][:, :2, :2])
    return pickle.dumps([(image, 1), (image, np.int64(2)), np.arange(3), torch.arange(2), {"a": 0.5}], protocol)


def test_truncation_is_refused(tmp_path: Path) -> None:
    for protocol in (0, 2, 4, 5):
        data = valid(protocol)
        for length in range(0, len(data), 5):
            refused(tmp_path, data[:length])


VALID = [valid(protocol) for protocol in PROTOCOLS]
OPCODES = b"()]}NKVUXcRbtlds.\x80\x81\x85\x86\x87\x93\x94h0q12eau\x8c\x8aMJIL\x95BCTQPio"
NAMES = [b"cposix\nsystem\n", b"cnumpy\ndtype\n", b"cPIL.Image\nImage\n", b"cnumpy.core.multiarray\n_reconstruct\n"]
NAMES += [b"c_codecs\nencode\n", b"ctorch.storage\n_load_from_bytes\n", b"ctorch._utils\n_rebuild_tensor_v2\n"]
NAMES += [b"ctorch\nLongStorage\n", b"cnumpy\nndarray\n", b"cnumpy.core.numeric\n_frombuffer\n", b"Vx\n", b"I5\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for thousands of inputs: some disks take longer to remove a folder than the lab to read a file."""
    return tmp_path_factory.mktemp("random")


def survives(folder: Path, data: bytes) -> None:
    path = folder / "some.pickle"
    path.write_bytes(data)
    message = ""
    try:
        load(path)
    except DataError as error:
        message = str(error)
    assert message == "" or str(path) in message
    assert len(message.splitlines()) <= 1
    assert os.listdir(folder) == ["some.pickle"]
    path.unlink()


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_random_bytes_end_in_one_line(folder: Path, data: bytes) -> None:
    survives(folder, data)


@given(
    st.lists(
        st.one_of(st.sampled_from([bytes([code]) for code in OPCODES]), st.sampled_from(NAMES), st.binary(max_size=2))
    )
)
@settings(max_examples=500, deadline=None)
def test_random_operations_end_in_one_line(folder: Path, pieces: list[bytes]) -> None:
    survives(folder, b"".join(pieces) + b".")


@given(
    data=st.sampled_from(VALID),
    flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), min_size=1, max_size=3),
)
@settings(max_examples=800, deadline=None)
def test_flipped_bytes_end_in_one_line_or_in_data(folder: Path, data: bytes, flips: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for place, mask in flips:
        changed[place % len(data)] ^= mask
    survives(folder, bytes(changed))
