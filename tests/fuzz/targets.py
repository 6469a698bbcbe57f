"""What is fuzzed: every reader of files that someone else may have made, and the schema of configs.

A target makes an input from a ``random.Random``, writes it into a folder and reads it as the workflow does.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import pickle
import shutil
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import torch
import yaml
from mutations import damaged, damaged_pickle, damaged_png, damaged_zip, mangled, pickled
from PIL import Image
from safetensors.torch import load, save

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow/scripts"), str(ROOT / "tests/interchange")]

from made_poisons import as_pil, dataset, poison_set  # noqa: E402

import craft  # noqa: E402
import dataset as dataset_program  # noqa: E402
import train  # noqa: E402
import trials as trials_program  # noqa: E402
from poisonlab.artifacts.arrays import write_arrays  # noqa: E402
from poisonlab.artifacts.dataset import read_dataset, save_dataset  # noqa: E402
from poisonlab.artifacts.keep_list import load_keep_list  # noqa: E402
from poisonlab.artifacts.noise import load_noise  # noqa: E402
from poisonlab.artifacts.poison_set import PoisonSet  # noqa: E402
from poisonlab.artifacts.stored import digest  # noqa: E402
from poisonlab.artifacts.tensors import _bytes, write_tensors  # noqa: E402
from poisonlab.config.data.cifar import Cifar  # noqa: E402
from poisonlab.config.data.idx import Idx  # noqa: E402
from poisonlab.config.data.image_folder import ImageFolder  # noqa: E402
from poisonlab.config.data.npz import Npz  # noqa: E402
from poisonlab.config.data.parquet import Parquet  # noqa: E402
from poisonlab.config.data.svhn import Svhn  # noqa: E402
from poisonlab.config.data.tiny_imagenet import TinyImageNet  # noqa: E402
from poisonlab.config.data.webdataset import WebDataset  # noqa: E402
from poisonlab.config.measures import ACCURACY, SUCCESS  # noqa: E402
from poisonlab.config.merging import merged_config  # noqa: E402
from poisonlab.config.models.small_resnet import SmallResNet  # noqa: E402
from poisonlab.config.stages import read_stage  # noqa: E402
from poisonlab.config.study import read_study  # noqa: E402
from poisonlab.data.decoding import decode  # noqa: E402
from poisonlab.data.sources import load_dataset  # noqa: E402
from poisonlab.data.training_set import training_set  # noqa: E402
from poisonlab.evaluation.published import published, read_paper  # noqa: E402
from poisonlab.evaluation.trials import COLUMNS, read_trials  # noqa: E402
from poisonlab.figures.ablation import read_ablation  # noqa: E402
from poisonlab.figures.learning_curves import read_history  # noqa: E402
from poisonlab.figures.outcome import read_results  # noqa: E402
from poisonlab.figures.reading import read_arrays  # noqa: E402
from poisonlab.figures.reading import read_tensors as read_arrays_of_tensors  # noqa: E402
from poisonlab.files import _seal, read_sealed  # noqa: E402
from poisonlab.interchange.benchmark import write_benchmark  # noqa: E402
from poisonlab.interchange.imported import complete, read_poisons  # noqa: E402
from poisonlab.interchange.png_folder import write_png_folder  # noqa: E402
from poisonlab.interchange.setups import read_setups  # noqa: E402
from poisonlab.interchange.tensors import write_tensors_pth  # noqa: E402
from poisonlab.models.networks import build_network, load_weights, save_weights  # noqa: E402
from poisonlab.provenance import spec  # noqa: E402
from poisonlab.runtime.program import settings as parsed  # noqa: E402


@dataclass(frozen=True)
class Target:
    """A reader and how to make inputs for it.

    Attributes:
        make: write one input into the folder, which holds nothing else.
        read: read it; anything but a PoisonlabError of one line is a fault.
        valid: write an input that must be read.
    """

    make: Callable[[Path, Random], object]
    read: Callable[[Path], object]
    valid: Callable[[Path], object]


DATASET = dataset()
SET = poison_set(2)


def _bytes_target(
    name: str, files: Mapping[str, bytes], read: Callable[[Path], object], *damages: Callable[[bytes, Random], bytes]
) -> Target:
    """One of the ``files`` stands in the folder as ``name``, damaged in one of the ways."""

    def make(folder: Path, random: Random) -> None:
        chosen = files[random.choice(sorted(files))]
        (folder / name).write_bytes(random.choice(damages or (damaged,))(chosen, random))

    def valid(folder: Path) -> None:
        (folder / name).write_bytes(next(iter(files.values())))

    return Target(make, lambda folder: read(folder / name), valid)


def _folder_target(
    files: Mapping[str, bytes], read: Callable[[Path], object], *damages: Callable[[bytes, Random], bytes]
) -> Target:
    """All ``files`` stand in the folder, one of them damaged."""

    def make(folder: Path, random: Random) -> None:
        valid(folder)
        chosen = random.choice(sorted(files))
        fitting = [damage for damage in damages if damage is not damaged_png or chosen.endswith(".png")]
        (folder / chosen).write_bytes(random.choice(fitting)(files[chosen], random))

    def valid(folder: Path) -> None:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)

    return Target(make, read, valid)


def _written(folder: Path, write: Callable[[Path], object]) -> dict[str, bytes]:
    """The files that ``write`` makes below a new path."""
    path = folder / "made"
    write(path)
    found = {file.relative_to(path).as_posix(): file.read_bytes() for file in path.rglob("*") if file.is_file()}
    return found or {"": path.read_bytes()}


def _imported(path: Path) -> None:
    found = read_poisons(path)
    aimed = found.targets is not None or found.changes or len(found.images) != len(DATASET.train_images)
    poisons = complete(found, DATASET, targeted=aimed and path.suffix not in (".npz", ".npy", ".pickle"))
    training_set(DATASET, poisons)


def _forms() -> dict[str, bytes]:
    """Poisons as other programs save them, by the names of their files."""
    images, rows, labels = SET.images.numpy(), SET.indices.numpy(), SET.labels.numpy()
    assert SET.goal is not None
    files = {}
    made = io.BytesIO()
    np.savez(made, poisons=images, indices=rows, labels=labels)
    files["a.npz"] = made.getvalue()
    made = io.BytesIO()
    np.save(made, DATASET.train_images.numpy() ^ 1)
    files["a.npy"] = made.getvalue()
    pairs = [(as_pil(image), 1) for image in SET.images]
    files["a.pickle"] = pickle.dumps([pairs, rows])
    for kind, shown, at, split in (
        ("train", SET.images, rows.tolist(), "1"),
        ("test", DATASET.test_images[2:3], [2], "2"),
    ):
        told = {}
        for image, row in zip(shown, at, strict=True):
            made = io.BytesIO()
            as_pil(image).save(made, "PNG")
            files[f"bd_{kind}_dataset/{split}/{row}.png"] = made.getvalue()
            files[f"{'train' if kind == 'train' else 'targets'}/b/{row}.png"] = made.getvalue()
            told[np.int64(row)] = {"path": "x", "other_info": [1, int(split)]}
        files[kind] = pickle.dumps({"bd_data_container": {"data_dict": told}, "original_index_array": rows})
    made = io.BytesIO()
    states = {f"bd_{kind}": pickle.loads(files.pop(kind)) for kind in ("train", "test")}
    torch.save({**states, "model": torch.nn.Linear(2, 2).state_dict()}, made)
    files["attack_result.pt"] = made.getvalue()
    return files


def _odd_operations(data: bytes, random: Random) -> bytes:
    """An intact archive with odd operations in its pickle."""
    if not data.startswith(b"PK"):
        return damaged(data, random)
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as source, zipfile.ZipFile(made, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name.endswith("data.pkl"):
                content = damaged_pickle(content, random) if random.random() < 0.7 else pickled(random)
            target.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


def _poison_set(path: Path) -> None:
    training_set(DATASET, PoisonSet.load(path))
    _imported(path)


def _encoded(form: str) -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).save(made, form)
    return made.getvalue()


def _pickled(_: bytes, random: Random) -> bytes:
    return pickled(random)


def _json_damages(content: Any) -> Callable[[bytes, Random], bytes]:
    """Other content, most often behind a right checksum."""

    def change(_: bytes, random: Random) -> bytes:
        told = json.loads(json.dumps(mangled(content, random), default=str, skipkeys=True))
        return _sealed(told) if isinstance(told, dict) and random.random() < 0.9 else _encoded_json(told)

    return change


def _encoded_json(content: Any) -> bytes:
    return json.dumps(content).encode("utf-8", "surrogatepass")


def _sealed(content: dict[str, Any]) -> bytes:
    """As ``write_sealed`` writes it."""
    return _encoded_json({**content, "sha256": _seal(content)})


def _arrays(**arrays: Any) -> bytes:
    """As ``write_arrays`` writes them."""
    with TemporaryDirectory() as folder:
        write_arrays(Path(folder, "a.npz"), **arrays)
        return Path(folder, "a.npz").read_bytes()


def _odd_arrays(_: bytes, random: Random) -> bytes:
    """Arrays of any shape and type behind a right checksum, and sometimes not the ones that are wanted."""
    names = random.sample(["losses", "points", "sha256x", "../losses"], random.randint(1, 4))
    return _arrays(
        **{
            name: np.zeros(
                [random.randint(0, 3) for _ in range(random.randint(0, 3))],
                random.choice(["f4", ">f8", "i1", "U3", "?", "c8", "M8[s]"]),
            )
            for name in names
        }
    )


def _csv(columns: Any, lines: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *lines])
    return text.getvalue().encode()


_CELLS = (
    *("", "nan", "inf", "-inf", "1e999", "-1", "2", "9" * 5000, "=1+1", "x" * 200_000, "a\0b"),
    *('"', "\n", "١", "0x1", "1_0"),
)


def _damaged_csv(data: bytes, random: Random) -> bytes:
    lines = list(csv.reader(io.StringIO(data.decode())))
    for _ in range(random.randint(1, 3)):
        line = random.choice(lines)
        if line:
            line[random.randrange(len(line))] = random.choice(_CELLS)
    if random.random() < 0.2:
        lines.append(list(random.choice(lines)))
    marks = random.choice((b"", b"", b"", b"\xef\xbb\xbf"))
    ending = random.choice(("\n", "\r\n"))
    text = io.StringIO()
    csv.writer(text, lineterminator=ending).writerows(lines)
    return marks + text.getvalue().encode()


# --- datasets ---------------------------------------------------------------------------------------------


def _npz(**changes: Any) -> bytes:
    arrays: dict[str, Any] = {
        "x_train": DATASET.train_images.numpy(),
        "y_train": DATASET.train_labels.numpy(),
        "x_test": DATASET.test_images.numpy(),
        "y_test": DATASET.test_labels.numpy(),
    }
    made = io.BytesIO()
    np.savez_compressed(made, **{**arrays, **changes})
    return made.getvalue()


def _odd_npz(_: bytes, random: Random) -> bytes:
    """An intact archive of arrays of other kinds and shapes."""
    count = random.choice((0, 1, 40))
    shapes = ((count,), (count, 1), (), (count, 3, 5, 7), (count, 5, 7), (count, 0, 5, 3), (40, 3, 1, 1), (0, 2**40))
    shape = random.choice(shapes)
    kinds = ("u1", ">i4", "<u8", "f4", "f2", "c8", "?", "M8[s]", "m8[s]", "S3", "U2", "V3", "O", [("a", "i4")])
    kind = random.choice(kinds)
    array = np.zeros(shape, kind) if 0 in shape or random.random() < 0.5 else np.full(shape, 1).astype(kind)
    return _npz(**{random.choice(("x_train", "y_train", "x_test", "y_test")): np.asfortranarray(array)})


def _parquet(images: list[Any], labels: Any, image: str = "img", label: str = "label", **options: Any) -> bytes:
    cells = pa.array([{"bytes": each} for each in images], pa.struct([("bytes", pa.binary())]))
    table = pa.table([cells, labels], names=[image, label])
    if "metadata" in options:
        table = table.replace_schema_metadata({"huggingface": options.pop("metadata")})
    made = io.BytesIO()
    pq.write_table(table, made, row_group_size=2, **options)
    return made.getvalue()


def _odd_parquet(_: bytes, random: Random) -> bytes:
    """An intact file with an odd image, label, schema or record of class names."""
    images: list[Any] = [_encoded("PNG")] * 4
    if random.random() < 0.6:
        images[random.randrange(4)] = random.choice((damaged, damaged_png))(images[0], random)
    labels = random.choice(
        (
            pa.array([0, 1, 0, 1]),
            pa.array([0, 2**62, 0, 1]),
            pa.array([0, 2**64 - 1, 0, 1], pa.uint64()),
            pa.array([0.0, float("nan"), 1.0, 1.0]),
            pa.array([0, None, 0, 1]),
            pa.array(["a", "b", "a", "b"]),
            pa.array([[0], [1], [0], [1]]),
            pa.array([0, 1, 0, 1]).dictionary_encode(),
            pa.array([0, 1, 0, 1], pa.int8()),
            pa.array([0, 1, 0, 1], pa.time32("s")),
        )
    )
    names = b'{"info": {"features": {"label": {"names": [1, 2]}}}}'
    metadata = random.choice((b"{", b"[" * 100_000, b"\xff", b"{}", names))
    options: dict[str, Any] = {} if random.random() < 0.7 else {"metadata": metadata}
    image = random.choice(("img", "img", "img", "a.b", "label", "é", "img.bytes", ""))
    return _parquet(images, labels, image, random.choice(("label", "label", "label", "img", "l")), **options)


def _parquet_pair(folder: Path) -> None:
    file = str(folder / "a.parquet")
    load_dataset(Parquet(source="parquet", train=file, test=file))


def _idx() -> dict[str, bytes]:
    """The four files, one of them packed."""
    files = {}
    for split, count in (("train", 6), ("t10k", 3)):
        images = struct.pack(">HBB3I", 0, 8, 3, count, 5, 4) + bytes(range(20)) * count
        labels = struct.pack(">HBBI", 0, 8, 1, count) + bytes([0, 1, 2] * count)[:count]
        files |= {f"{split}-images-idx3-ubyte": images, f"{split}-labels-idx1-ubyte": labels}
    files["train-labels-idx1-ubyte"] = gzip.compress(files["train-labels-idx1-ubyte"])
    return files


_SVHN_IMAGES = np.random.default_rng(0).integers(0, 256, (30, 40, 3, 10), np.uint8)


def _svhn() -> dict[str, bytes]:
    """One file packed, one not."""
    files = {}
    for split, packed in (("train", False), ("test", True)):
        made = io.BytesIO()
        labels = np.arange(1, 11, dtype=np.uint8)[:, None]
        scipy.io.savemat(made, {"X": _SVHN_IMAGES, "y": labels}, do_compression=packed)
        files[f"{split}_32x32.mat"] = made.getvalue()
    return files


def _odd_mat(_: bytes, random: Random) -> bytes:
    """An intact file of other variables."""
    odd = (
        np.zeros((5, 4, 3, 10)),
        np.zeros(3, "O"),
        {"a": {"b": 1}},
        "text",
        np.arange(10),
        1j,
        np.zeros((0, 4, 3, 1)),
    )
    made = io.BytesIO()
    content = {"X": _SVHN_IMAGES, "y": np.arange(10), random.choice("XyZ"): random.choice(odd)}
    scipy.io.savemat(made, content, do_compression=random.random() < 0.5, long_field_names=True)
    return made.getvalue()


def _tiny_imagenet() -> dict[str, bytes]:
    image = _encoded("JPEG")
    files = {f"train/{name}/images/{name}_{place}.JPEG": image for name in ("n1", "n2") for place in range(2)}
    files |= {f"val/images/val_{place}.JPEG": image for place in range(2)}
    return files | {"wnids.txt": b"n1\nn2\n", "val/val_annotations.txt": b"val_0.JPEG\tn1\t0\nval_1.JPEG\tn2\t0\n"}


def _zipped(files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"tiny-imagenet-200/{name}"), content)
    return made.getvalue()


def _tar(form: int, members: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return made.getvalue()


_EXAMPLES = {"0.png": b"", "0.cls": b"0", f"{'x' * 120}/1.jpg": b"", f"{'x' * 120}/1.json": b'{"label": 1}'}


def _odd_tar(_: bytes, random: Random) -> bytes:
    """An archive of odd headers with right checksums."""
    made = io.BytesIO()
    for name, content in _examples().items():
        member = tarfile.TarInfo(
            random.choice((name, name, name, "../../x.png", "/etc/passwd.png", "a\0b.png", ".cls"))
        )
        member.size = len(content)
        content += bytes(-len(content) % 512)
        if random.random() < 0.4:
            member.type = bytes([random.choice(b"0123456789ALKSgxX\0")])
            member.linkname = "/etc/passwd"
        if random.random() < 0.3:
            member.size = random.choice((0, 1, 511, 2**30))
        if random.random() < 0.2:
            member.pax_headers = {random.choice(("size", "path", "GNU.sparse.map", "GNU.sparse.major", "x")): "1,2,9e9"}
        made.write(
            member.tobuf(random.choice((tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT))) + content
        )
    return made.getvalue() + bytes(random.choice((0, 512, 1024)))


def _examples() -> dict[str, bytes]:
    images = {"png": _encoded("PNG"), "jpg": _encoded("JPEG")}
    return {name: images.get(name[-3:], content) for name, content in _EXAMPLES.items()}


def _webdataset(folder: Path) -> None:
    file = str(folder / "a.tar")
    load_dataset(WebDataset(source="webdataset", train=file, test=file))


# --- artifacts --------------------------------------------------------------------------------------------


def _odd_tensor(random: Random) -> torch.Tensor:
    shapes = ((), (0,), (1,), (3,), (3, 1), (3, 3, 5, 7), (3, 3, 0, 0), (2, 3, 5, 7), (40,), (40, 3, 5, 7))
    kinds = (torch.uint8, torch.int64, torch.int32, torch.float32, torch.float16, torch.bool, torch.bfloat16)
    shape, kind = random.choice(shapes), random.choice(kinds)
    return torch.full(shape, random.choice((0, 1, -1, 7, 200))).to(kind)


def _artifact(write: Callable[[Path], object], read: Callable[[Path], object], folder: Path) -> Target:
    """A safetensors file: damaged, or with a right checksum over odd content."""
    (content,) = _written(folder, write).values()
    (folder / "made").unlink()
    header = json.loads(json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]["poisonlab"])
    kind, facts, tensors = header["kind"], json.loads(header["facts"]), load(content)

    def make(folder: Path, random: Random) -> None:
        if random.random() < 0.4:
            (folder / "a.safetensors").write_bytes(damaged(content, random))
            return
        changed, told = dict(tensors), facts
        for _ in range(random.randrange(3)):
            name = random.choice([*sorted(tensors), "x"])
            if random.random() < 0.2:
                changed.pop(name, None)
            else:
                changed[name] = _odd_tensor(random)
        if random.random() < 0.5:
            told = json.loads(json.dumps(mangled(facts, random), default=str, skipkeys=True))
        write_facts(folder / "a.safetensors", kind, changed, told)

    def write_facts(path: Path, kind: str, tensors: dict[str, torch.Tensor], told: Any) -> None:
        # As write_tensors, which takes no facts but a mapping's.
        text = json.dumps(told)
        header = {"kind": kind, "facts": text, "sha256": digest(tensors, kind, text, _bytes)}
        path.write_bytes(save(tensors, metadata={"poisonlab": json.dumps(header)}))

    def valid(folder: Path) -> None:
        (folder / "a.safetensors").write_bytes(content)

    return Target(make, lambda folder: read(folder / "a.safetensors"), valid)


def _weights(path: Path) -> None:
    load_weights(path, build_network(SmallResNet(width=1), DATASET, seed=0))


# --- results ----------------------------------------------------------------------------------------------

METRICS: dict[str, Any] = {
    "attack": "a", "victim": "net", "defense": "none", "seed": 0, "targets": 1,
    "measures": {"success": 1.0, "adversarial_confidence": 0.9, "accuracy": 0.8, "privacy_epsilon": 3.0},
    "examples": {"poisons_dropped": 0, "poisons_kept": 3, "clean_dropped": 0, "clean_kept": 37},
    "history": [{"epoch": 0, "loss": 1.0, "accuracy": 0.5, "adversarial_confidence": 0.1}, {"epoch": 1, "loss": 0.5}],
}  # fmt: skip
CARD: dict[str, Any] = {"seconds": 3.5, "settings": "abc", "device": "cpu", "threads": 1, "software": {"torch": "2"}}
LINE: dict[str, Any] = {
    "attack": "a", "victim": "net", "defense": "none", "seeds": [0], "settings": None,
    "detector": False, "noise": False, "filter": False, "network": None, "network_settings": None,
}  # fmt: skip


def _gather(folder: Path) -> None:
    # Their folders are named in the spec, and so no part of the input.
    options = [part for kind in ("victims", "detections", "noise", "filters") for part in (f"--{kind}", str(folder))]
    trials_program.write_trials, kept = (lambda *_: None), trials_program.write_trials  # type: ignore[assignment]
    try:
        trials_program.main(["--spec", *spec(lines=[LINE]), *options, "--trials", str(folder / "out.csv")])
    finally:
        trials_program.write_trials = kept


# --- configs ----------------------------------------------------------------------------------------------

CONFIGS = [
    json.loads(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    for path in [ROOT / "config.yaml", *sorted((ROOT / "config").glob("*.yaml"))]
]
SPECS: list[tuple[Any, dict[str, Any]]] = [
    (dataset_program.Reading, {"dataset": {"source": "digits-on-photos", "train_size": 10}}),
    (craft.Crafting, {"surrogates": [], "attack": {"method": "imported", "path": "x"}, "seed": 0}),
    (train.Victim, {"model": {"name": "lenet"}, "recipe": {"epochs": 2}, "seed": 0, "attack": "a", "victim": "v",
                    "defense": "b", "poisoned": True, "defenses": [{"method": "epic"}],
                    "start": {"scenario": "from-scratch"}}),
]  # fmt: skip


def _config(folder: Path, random: Random) -> None:
    # As pickle, because JSON and YAML cannot hold all that a config read from YAML can.
    (folder / "config.pickle").write_bytes(pickle.dumps(mangled(random.choice(CONFIGS), random)))


def _read_config(folder: Path) -> None:
    values = pickle.loads((folder / "config.pickle").read_bytes())
    study = read_study(values)
    study.meetings()
    for attack in study.attacks:
        for surrogate in study.surrogates:
            study.members(surrogate.name, study.seeds_of(attack)[0])


def _read_config_file(folder: Path) -> None:
    read_study(merged_config([str(folder / "config.yaml")], []))


_SMALL = b"""study: a
description: &x "some text"
dataset: {source: digits-on-photos, train_size: 100, test_size: 20}
seeds: [0, 1]
surrogates: [{name: base, model: {name: lenet}}]
attacks: [{name: a, method: gradient-matching, surrogate: base, budget: 0.05}]
victims: [{name: v, model: {name: lenet}}]
defenses: [{name: none}]
"""
_LINES = (
    *(b"__use_yte__: true\n", b"?if True:\n", b"x: ?__import__('os').system('touch canary')\n"),
    *(b"x: !!python/object/apply:os.system [touch canary]\n", b"x: !!python/name:os.system\n", b"x: !!set {a, b}\n"),
    *(b"x: *x\n", b"x: &x [*x]\n", b"<<: {study: b}\n", b"x: 2020-01-01\n", b"x: 0o17\n", b"x: 1_000\n", b"x: .nan\n"),
    *(b"x: !!binary aGk=\n", b"\t- x\n", b"--- \n", b"%TAG ! tag:yaml.org,2002:\n", b"seeds: [3]\n"),
    *(b"x: " + b"9" * 5000 + b"\n", b"x: " + b"[" * 3000 + b"\n"),
)


def _damaged_yaml(data: bytes, random: Random) -> bytes:
    lines = data.splitlines(keepends=True)
    for _ in range(random.randint(1, 3)):
        lines.insert(random.randrange(len(lines) + 1), random.choice(_LINES))
    return b"".join(lines)


def _spec(folder: Path, random: Random) -> None:
    kind, values = random.choice(list(enumerate(values for _, values in SPECS)))
    strings = spec(**values)
    for _ in range(random.randint(1, 3)):
        place = random.randrange(len(strings))
        strings[place] = damaged(strings[place].encode(), random).decode("utf-8", "replace")
    (folder / "spec.json").write_text(json.dumps([kind, strings]), encoding="utf-8")


def _read_spec(folder: Path) -> None:
    kind, strings = json.loads((folder / "spec.json").read_text(encoding="utf-8"))
    read_stage(SPECS[kind][0], parsed(strings))


def targets(folder: Path) -> Iterator[tuple[str, Target]]:
    """Name and target; ``folder`` is empty and used to make valid files."""

    def written(write: Callable[[Path], object]) -> dict[str, bytes]:
        made = folder / "made"
        try:
            return _written(folder, write)
        finally:
            shutil.rmtree(made) if made.is_dir() else made.unlink()

    pickles = written(lambda path: write_benchmark(path, SET))
    yield "poisons.pickle", _folder_target(pickles, _imported, damaged, damaged_pickle, _pickled)
    entry = {"target class": 2, "target index": 0, "base class": 1, "base indices": np.arange(3)}
    setups = {str(protocol): pickle.dumps([entry], protocol) for protocol in range(6)}
    yield "setups", _bytes_target("a", setups, read_setups, damaged, damaged, damaged_pickle, _pickled)

    def write_pth(path: Path) -> None:
        write_tensors_pth(path.with_suffix(".pth"), SET)
        path.with_suffix(".pth").rename(path)

    zipped = written(write_pth)[""]
    old = io.BytesIO()
    torch.save(torch.load(io.BytesIO(zipped)), old, _use_new_zipfile_serialization=False)

    yield "pth", _bytes_target("a.pth", {"new": zipped}, _imported, damaged, damaged_zip, _odd_operations)
    yield "old pth", _bytes_target("a.pth", {"old": old.getvalue()}, _imported, damaged, damaged_pickle)
    forms = _forms()
    for name, files in (("npz poisons", "npz"), ("npy poisons", "npy"), ("pickle of two", "pickle")):
        damages = (damaged, damaged_zip) if files == "npz" else (damaged, damaged_pickle, _pickled)
        chosen = {made: content for made, content in forms.items() if made.endswith(files)}
        yield name, _bytes_target(f"a.{files}", chosen, _imported, *(damages if files != "npy" else (damaged,)))
    records = {name: content for name, content in forms.items() if name.startswith(("attack", "bd_"))}
    yield "backdoorbench", _folder_target(records, _imported, damaged, _odd_operations, damaged_png)
    classes = {name: content for name, content in forms.items() if name.startswith(("train/", "targets/"))}
    yield "class folders", _folder_target(classes, _imported, damaged, damaged_png)
    pngs = written(lambda path: write_png_folder(path, SET))
    facts = json.loads(pngs["poisons.json"])

    def png_facts(data: bytes, random: Random) -> bytes:
        return _json_damages(facts)(data, random) if data.startswith(b"{") else damaged(data, random)

    yield "png folder", _folder_target(pngs, _imported, damaged, damaged_png, png_facts)

    archive = {"npz": _npz()}
    yield (
        "npz",
        _bytes_target(
            "a.npz",
            archive,
            lambda path: load_dataset(Npz(source="npz", path=str(path))),
            damaged,
            damaged_zip,
            _odd_npz,
        ),
    )
    tables = {
        packing: _parquet([_encoded("PNG")] * 4, pa.array([0, 1, 0, 1]), compression=packing)
        for packing in ("none", "snappy", "gzip", "zstd", "lz4", "brotli")
    }
    read_parquet = _bytes_target("a.parquet", tables, lambda path: _parquet_pair(path.parent), damaged, _odd_parquet)
    yield "parquet", read_parquet
    images = {form: _encoded(form) for form in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")}
    yield "image", _bytes_target("a", images, lambda path: decode(path.read_bytes(), str(path)))
    yield "png", _bytes_target("a", {"": images["PNG"]}, lambda path: decode(path, str(path)), damaged_png)
    places = itertools.product(("train", "test"), "ab", ("png", "webp"))
    folders = {f"{split}/{name}/0.{form}": images[form.upper()] for split, name, form in places}
    yield (
        "image folder",
        _folder_target(
            folders,
            lambda folder: load_dataset(ImageFolder(source="image-folder", root=str(folder))),
            damaged,
            damaged_png,
        ),
    )
    yield "idx", _folder_target(_idx(), lambda folder: load_dataset(Idx(source="idx", root=str(folder))), damaged)
    read_svhn = lambda folder: load_dataset(Svhn(source="svhn", root=str(folder)))  # noqa: E731
    yield "svhn", _folder_target(_svhn(), read_svhn, damaged, _odd_mat)
    read_tiny = lambda path: load_dataset(TinyImageNet(source="tiny-imagenet", root=str(path)))  # noqa: E731
    yield "tiny imagenet", _folder_target(_tiny_imagenet(), read_tiny, damaged)
    yield "tiny imagenet zip", _bytes_target("a.zip", {"": _zipped(_tiny_imagenet())}, read_tiny, damaged, damaged_zip)
    forms = {str(form): _tar(form, _examples()) for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)}
    read_tars = _bytes_target("a.tar", forms, lambda path: _webdataset(path.parent), damaged, _odd_tar)
    yield "webdataset", read_tars
    batch = pickle.dumps({"data": np.zeros((4, 3072), np.uint8), "labels": [0, 1, 0, 1]})
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]
    cifar = {f"cifar-10-batches-py/{name}": batch for name in names}
    yield (
        "cifar",
        _folder_target(
            cifar, lambda folder: load_dataset(Cifar(source="cifar10", root=str(folder))), damaged, _pickled
        ),
    )

    yield "dataset", _artifact(lambda path: save_dataset(path, DATASET), read_dataset, folder)
    yield "poison set", _artifact(SET.save, _poison_set, folder)
    noise = {
        "noise": torch.zeros(40, 3, 5, 7, dtype=torch.float16),
        "origin": torch.arange(40),
        "made": torch.ones(40, dtype=torch.bool),
    }
    yield "noise", _artifact(lambda path: write_tensors(path, "friendly noise", noise, {}), load_noise, folder)
    keep = {"keep": torch.ones(40, dtype=torch.bool)}
    yield (
        "keep list",
        _artifact(
            lambda path: write_tensors(path, "keep-list", keep, {}), lambda path: load_keep_list(path, 40), folder
        ),
    )
    network = build_network(SmallResNet(width=1), DATASET, seed=0)
    yield "weights", _artifact(lambda path: save_weights(path, network, {}), _weights, folder)

    metrics, card = _sealed(METRICS), _sealed(CARD)
    results = {"a/net/none/seed0.metrics.json": metrics, "a/net/none/seed0.card.json": card}

    def both(data: bytes, random: Random) -> bytes:
        return _json_damages(METRICS if data == metrics else CARD)(data, random)

    yield "metrics", _folder_target(results, _gather, damaged, both, both)
    curves = lambda path: read_history(path, ["train_loss", "accuracy"])  # noqa: E731
    yield "history", _bytes_target("a.json", {"": metrics}, curves, damaged, both)
    yield "json", _bytes_target("a.json", {"": metrics, "deep": b"[" * 100_000}, read_sealed, damaged, both)
    columns = [*COLUMNS[:9], "success", "accuracy", *COLUMNS[9:]]
    line = [
        "a",
        "net",
        "none",
        "0",
        "abc",
        "1",
        "dog",
        "cat",
        "dog",
        "1.0",
        "0.5",
        "3.5",
        *["1"] * 4,
        "cpu",
        *["1"] * 7,
        "",
        "",
    ]
    yield "trials", _bytes_target("a.csv", {"": _csv(columns, [line])}, read_trials, damaged, _damaged_csv)
    reference = {path.name: path.read_bytes() for path in sorted((ROOT / "reference/friends").glob("*.csv"))}
    yield "published", _bytes_target("a.csv", reference, published, damaged, _damaged_csv)
    explained = {"": (ROOT / "reference/friends/paper.yaml").read_bytes()}
    yield "paper", _bytes_target("paper.yaml", explained, lambda path: read_paper(path.parent), damaged, _damaged_yaml)
    names = [f"{name}{end}" for name in ("success", "accuracy") for end in ("", "_low", "_high")]
    columns = ["attack", "victim", "defense", "control", "n", "diverged", *names]
    columns += ["published_success_inside", "published_accuracy_inside"]
    line = ["a", "net", "none", "False", "1", "0", *["0.5"] * 6, "True", ""]
    told = {"a": (SUCCESS, ACCURACY)}
    shown = lambda path: read_results(path, told)  # noqa: E731
    yield "results", _bytes_target("a.csv", {"": _csv(columns, [line])}, shown, damaged, _damaged_csv)
    columns = ["attack", "victim", "row", "zeta", "own", "n", *names, "p", "p_holm"]
    line = ["a", "net", "x-1", "1", "True", "1", *["0.5"] * 8]
    varied = lambda path: read_ablation(path, told)  # noqa: E731
    yield "ablation", _bytes_target("a.csv", {"": _csv(columns, [line])}, varied, damaged, _damaged_csv)
    tensors = lambda path: read_arrays_of_tensors(path, "friendly noise", ["noise", "origin", "made"])  # noqa: E731
    yield "figure tensors", _artifact(lambda path: write_tensors(path, "friendly noise", noise, {}), tensors, folder)
    arrays = {"": _arrays(losses=np.zeros(3), points=np.arange(3))}
    drawn = lambda path: read_arrays(path, ["losses", "points"])  # noqa: E731
    yield "figure arrays", _bytes_target("a.npz", arrays, drawn, damaged, damaged_zip, _odd_arrays)

    yield (
        "config",
        Target(_config, _read_config, lambda folder: (folder / "config.pickle").write_bytes(pickle.dumps(CONFIGS[0]))),
    )
    yield (
        "config file",
        _bytes_target("config.yaml", {"": _SMALL}, lambda path: _read_config_file(path.parent), damaged, _damaged_yaml),
    )
    first = json.dumps([0, spec(**SPECS[0][1])])
    yield "spec", Target(_spec, _read_spec, lambda folder: (folder / "spec.json").write_text(first))
