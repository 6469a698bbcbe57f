"""Damage: bytes, zip archives, PNGs, JSON and pickles that are a little or a lot other than they should be.

Everything is a function of a ``random.Random``, so that a number repeats an input.
"""

from __future__ import annotations

import copy
import io
import struct
import zipfile
import zlib
from random import Random
from typing import Any

_ODD_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)


def damaged(data: bytes, random: Random) -> bytes:
    """``data`` with one to four faults: flipped, missing, repeated, foreign or cut-off bytes, or odd numbers."""
    changed = bytearray(data)
    for _ in range(random.randint(1, 4)):
        place, length = random.randint(0, len(changed)), random.choice((1, 2, 4, 8, 30, 200))
        kind = random.randrange(7)
        if kind == 0 and changed:
            changed[place % len(changed)] ^= 1 << random.randrange(8)
        elif kind == 1 and changed:
            changed[place % len(changed)] = random.randrange(256)
        elif kind == 2:
            del changed[place : place + length]
        elif kind == 3:
            changed[place:place] = changed[place : place + length]
        elif kind == 4:
            changed[place:place] = random.randbytes(length)
        elif kind == 5:
            number = struct.pack("<Q", random.choice(_ODD_NUMBERS))[: random.choice((1, 2, 4, 8))]
            changed[place : place + len(number)] = number if random.random() < 0.5 else number[::-1]
        elif random.random() < 0.3:
            del changed[place:]
    return bytes(changed)


def damaged_zip(data: bytes, random: Random) -> bytes:
    """An intact archive with a damaged member, so that no checksum gives it away."""
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        names = source.namelist()
        chosen = random.choice(names)
        for name in names:
            content = source.read(name)
            if name == chosen:
                content = damaged(content, random)
                if random.random() < 0.05:
                    name = random.choice(("../../escaped", "/tmp/escaped", "a\0b", name.upper(), names[0]))
            packing = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
            target.writestr(zipfile.ZipInfo(name), content, packing)
    return made.getvalue()


def damaged_png(data: bytes, random: Random) -> bytes:
    """A PNG with a damaged chunk whose checksum is right all the same."""
    chunks, place = [], 8
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    chosen = random.randrange(len(chunks))
    kind, body = chunks[chosen]
    if kind == b"IDAT" and random.random() < 0.5:
        body = zlib.compress(damaged(zlib.decompress(body), random))
    else:
        body = damaged(body, random)
    chunks[chosen] = (kind, body)
    if random.random() < 0.2:
        bomb = zlib.compress(bytes(1 << 22), 9)
        chunks.insert(1, random.choice(((b"iCCP", b"x\0\0" + bomb), (b"zTXt", b"x\0\0" + bomb), (b"acTL", bytes(8)))))
    lengths = [struct.pack(">I", len(body)) for _, body in chunks]
    sums = [struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return data[:8] + b"".join(b"".join(part) for part in zip(lengths, *zip(*chunks, strict=True), sums, strict=True))


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, 2**63, 10**30, 10**400, -(10**400), 0.5, 1e-30, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "x", "none", "a/b", "../x", "-x", "$(touch canary)", "`x`", "{seed}"),
    *("a\0b", "é", "\ud800", "a\nb", "x" * 5000, [], [[]], {}, {"": 1}, [None], [1, 1], [0.1, "a"], {"name": "x"}),
    *({"method": "epic"}, "9" * 5000, "1e5", "0x10", "yes", "=1+1", "nan", b"x", (1, 2), {1: 2}, {None: 1}),
)


def mangled(value: Any, random: Random, values: tuple[Any, ...] = VALUES) -> Any:
    """Nested lists and dicts with one to four entries replaced, taken away, added, renamed or copied elsewhere."""
    changed = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3, 4))):
        places = list(_places(changed))
        if not places:
            return random.choice(values)
        container, key = random.choice(places)
        kind = random.randrange(8)
        if kind <= 3:
            container[key] = copy.deepcopy(random.choice(values))
        elif kind == 4:
            del container[key]
        elif kind == 5:
            other, there = random.choice(places)
            if there in other if isinstance(other, dict) else there < len(other):
                container[key] = copy.deepcopy(other[there])
        elif isinstance(container, list):
            container.insert(key, copy.deepcopy(random.choice((*values, *container))))
        else:
            name = random.choice(("x", "", "name", "seeds", "epochs", f"{key}s", "a\nb", 3))
            container[name] = random.choice(values)
    return changed


def _places(value: Any) -> Any:
    """(container, key) of every entry of every container."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


_NAMES = tuple(
    name.replace(" ", "\n").encode()
    for name in (
        *("posix system", "os system", "builtins eval", "builtins exec", "builtins __import__", "builtins getattr"),
        *("subprocess Popen", "torch load", "numpy load", "pickle loads", "builtins open", "os path.join"),
        *("numpy dtype", "numpy ndarray", "PIL.Image Image", "collections OrderedDict", "_codecs encode"),
        *("numpy.core.multiarray _reconstruct", "numpy._core.multiarray scalar", "numpy._core.numeric _frombuffer"),
        *("torch.storage _load_from_bytes", "torch._utils _rebuild_tensor_v2", "torch FloatStorage"),
        *("torch._utils _rebuild_parameter", "torch._utils _rebuild_sparse_tensor", "torch._utils _rebuild_qtensor"),
        *("torch._utils _rebuild_meta_tensor_no_storage", "torch._utils _rebuild_nested_tensor", "torch Tensor"),
        *("torch.serialization _get_layout", "torch LongStorage", "torch float32", "torch int64", "torch device"),
    )
)
_PLAIN = tuple(
    bytes([code]) for code in b"()]}N.0120aebdlstuoRQ\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98"
)
_TEXTS = (b"Vtouch canary\n", b"X\x03\0\0\0cpu", b"Vu1\n", b"Vlatin1\n", b"F1e999\n", b"C\x08" + bytes(8))
_ENDS = (b"t", b"l", b"d", b"tR", b"\x81", b"tb")


def operation(random: Random) -> bytes:
    """One pickle operation with some argument, right or wrong."""
    kind = random.randrange(13)
    name = random.choice(_NAMES)
    number = random.choice(_ODD_NUMBERS)
    if kind <= 3:
        return random.choice(_PLAIN)
    if kind == 4:
        return b"c" + name + b"\n"
    if kind == 5:
        return b"".join(b"\x8c" + bytes([len(part)]) + part for part in name.split(b"\n")) + b"\x93"
    if kind == 6:
        return b"K" + bytes([number % 256]) if random.random() < 0.7 else b"I%d\n" % number
    if kind == 7:
        return random.choice(_TEXTS)
    if kind == 8:
        return random.choice((b"q", b"h")) + bytes([random.randrange(4)])
    if kind == 9:  # a length of eight bytes
        return bytes([random.choice(b"\x8e\x8d\x96\x95")]) + struct.pack("<Q", number) + b"abc"
    if kind == 10:  # of four
        return bytes([random.choice(b"BX\x8brjT")]) + struct.pack("<Q", number)[:4] + b"abc"
    if kind == 11:
        return random.choice((b"i" + name + b"\n", b"Pid\n", b"\x82\x01", b"\x80\x04", b"\x80\x02"))
    return b"(" + b"".join(operation(random) for _ in range(random.randrange(4))) + random.choice(_ENDS)


def pickled(random: Random) -> bytes:
    """A pickle of random operations, or of one structure without end."""
    many = random.choice((10, 1000, 100_000))
    if random.random() < 0.03:
        deep = (b"]" * many + b"a" * (many - 1), b")" + b"\x85" * many, b")" + b"q\0h\0\x86" * 60, b"(" * many)
        return random.choice(deep) + b"."
    return b"\x80\x04" * random.randrange(2) + b"".join(operation(random) for _ in range(random.randint(1, 30))) + b"."


def damaged_pickle(data: bytes, random: Random) -> bytes:
    """A pickle with foreign operations among its own."""
    changed = data
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(changed))
        changed = changed[:place] + operation(random) + changed[place + random.randrange(3) :]
    return changed
