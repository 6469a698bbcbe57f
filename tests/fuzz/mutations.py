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
    parts = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return data[:8] + b"".join(parts)


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 10**9, 2**31, 2**63, 10**30, 10**400, -(10**400), 0.5, 1e-30, 1e308, -0.0),
    *(float("nan"), float("inf"), "", "x", "none", "a/b", "../x", "-x", "$(touch canary)", "`x`", "{seed}", "a\0b", "é"),
    *("\ud800", "a\nb", "x" * 5000, [], [[]], {}, {"": 1}, [None], [1, 1], [0.1, "a"], {"name": "x"}, {"method": "epic"}),
    *("9" * 5000, "1e5", "0x10", "yes", "=1+1", "nan", b"x", (1, 2), {1: 2}, {None: 1}),
)


def mangled(value: Any, random: Random, values: tuple[Any, ...] = VALUES) -> Any:
    """Nested lists and dicts with one to four entries replaced, taken away, added, renamed or copied to another place."""
    changed = copy.deepcopy(value)
    for _ in range(random.randint(1, 4)):
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
            container[random.choice(("x", "", "name", "seeds", "epochs", str(key) + "s", "a\nb", 3))] = random.choice(values)
    return changed


def _places(value: Any) -> Any:
    """(container, key) of every entry of every container."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield value, key
        yield from _places(inner)


_NAMES = (
    *(b"posix\nsystem", b"os\nsystem", b"builtins\neval", b"builtins\nexec", b"builtins\n__import__", b"builtins\ngetattr"),
    *(b"subprocess\nPopen", b"torch\nload", b"numpy\nload", b"pickle\nloads", b"builtins\nopen", b"os\npath.join"),
    *(b"numpy\ndtype", b"numpy\nndarray", b"PIL.Image\nImage", b"collections\nOrderedDict", b"_codecs\nencode"),
    *(b"numpy.core.multiarray\n_reconstruct", b"numpy._core.multiarray\nscalar", b"numpy._core.numeric\n_frombuffer"),
    *(b"torch.storage\n_load_from_bytes", b"torch._utils\n_rebuild_tensor_v2", b"torch\nFloatStorage", b"torch\nLongStorage"),
    *(b"torch._utils\n_rebuild_parameter", b"torch._utils\n_rebuild_sparse_tensor", b"torch._utils\n_rebuild_qtensor"),
    *(b"torch._utils\n_rebuild_meta_tensor_no_storage", b"torch._utils\n_rebuild_nested_tensor", b"torch\nTensor"),
    *(b"torch.serialization\n_get_layout", b"torch\nfloat32", b"torch\nint64", b"torch\ndevice", b"torch\nSize"),
)
_PLAIN = tuple(bytes([code]) for code in b"()]}N.0120aebdlstuoR\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94\x97\x98Q")


def operation(random: Random) -> bytes:
    """One pickle operation with some argument, right or wrong."""
    kind = random.randrange(12)
    if kind <= 3:
        return random.choice(_PLAIN)
    if kind == 4:
        return b"c" + random.choice(_NAMES) + b"\n"
    if kind == 5:
        module, name = random.choice(_NAMES).split(b"\n")
        return b"\x8c" + bytes([len(module)]) + module + b"\x8c" + bytes([len(name)]) + name + b"\x93"
    if kind == 6:
        return b"K" + bytes([random.randrange(256)]) if random.random() < 0.7 else b"I%d\n" % random.choice(_ODD_NUMBERS)
    if kind == 7:
        return random.choice((b"Vtouch canary\n", b"X\x03\0\0\0cpu", b"Vu1\n", b"Vlatin1\n", b"F1e999\n", b"C\x08" + bytes(8)))
    if kind == 8:
        return random.choice((b"q", b"h")) + bytes([random.randrange(4)])
    if kind == 9:
        code, size = random.choice(((b"\x8e", 8), (b"\x8d", 8), (b"\x96", 8), (b"\x95", 8), (b"B", 4), (b"X", 4), (b"\x8b", 4), (b"r", 4), (b"j", 4), (b"T", 4)))
        return code + struct.pack("<Q", random.choice(_ODD_NUMBERS))[:size] + b"abc"
    if kind == 10:
        return random.choice((b"i" + random.choice(_NAMES) + b"\n", b"Pid\n", b"\x82\x01", b"\x80\x04", b"\x80\x02"))
    return b"(" + b"".join(operation(random) for _ in range(random.randrange(4))) + random.choice((b"t", b"l", b"d", b"tR", b"\x81", b"tb"))


def pickled(random: Random) -> bytes:
    """A pickle of random operations, or of one structure without end."""
    many = random.choice((10, 1000, 100_000))
    if random.random() < 0.03:
        return random.choice((b"]" * many + b"a" * (many - 1), b")" + b"\x85" * many, b")" + b"q\0h\0\x86" * 60, b"(" * many)) + b"."
    return b"\x80\x04" * random.randrange(2) + b"".join(operation(random) for _ in range(random.randint(1, 30))) + b"."


def damaged_pickle(data: bytes, random: Random) -> bytes:
    """A pickle with foreign operations among its own."""
    changed = data
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(changed))
        changed = changed[:place] + operation(random) + changed[place + random.randrange(3) :]
    return changed
