"""parquet: two files in the Hugging Face layout, an image column (struct with ``bytes``) and a label one."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from torch import Tensor

from poisonlab.config.data.parquet import Parquet as Settings
from poisonlab.data.assembly import assemble
from poisonlab.data.dataset import ImageDataset
from poisonlab.data.decoding import decode_all
from poisonlab.data.file_kinds import other_kind
from poisonlab.errors import DataError, DataWarning

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label", "labels")
_BATCH = 500
_SHARD = re.compile(r"(?P<split>.*-|)(?P<place>[0-9]{5})-of-(?P<count>[0-9]{5})(?:-[0-9a-f]+)?\.parquet", re.DOTALL)


def load(settings: Settings) -> ImageDataset:
    """Read both files; images are (N, 3, H, W) uint8, decoded to RGB.

    Class names are those in the files' Hugging Face metadata, else ``settings.class_names``, else "0", "1",
    and so on.

    Raises:
        DataError: a file is missing, damaged or lacks a column, a row holds no image or label, the images
            differ in shape, class names or labels contradict each other, or a limit cannot be met.
    """
    train_files, test_files = settings.split("train"), settings.split("test")
    if twice := sorted(set(train_files) & set(test_files)):
        told = f"{twice[0]} is a file of both splits: accuracy is measured on images of the training"
        warnings.warn(told, DataWarning, stacklevel=2)
    train_images, train_labels, train_names = _split(train_files, settings)
    test_images, test_labels, test_names = _split(test_files, settings)
    where = f"{_named(train_files)} and {_named(test_files)}"
    if train_names is not None and test_names is not None and train_names != test_names:
        raise DataError(f"{where} name different classes: use two files of the same dataset")
    recorded = train_names if train_names is not None else test_names
    if recorded is not None and settings.class_names not in (None, recorded):
        raise DataError(f"{where} record other class names than the config: remove class_names from the config")
    return assemble(
        train_images,
        train_labels,
        test_images,
        test_labels,
        class_names=recorded if recorded is not None else settings.class_names,
        settings=settings,
        where=where,
    )


def _named(files: Sequence[str]) -> str:
    return files[0] if len(files) == 1 else f"{files[0]} and {len(files) - 1} more"


def _split(files: Sequence[str], settings: Settings) -> tuple[Tensor, Tensor, tuple[str, ...] | None]:
    """Images, labels and class names of one split, its shards one after another."""
    _check_shards(files)
    parts = [_read(Path(file), settings.image_column, settings.label_column) for file in files]
    for file, (images, _, names) in zip(files, parts, strict=True):
        if images.shape[1:] != parts[0][0].shape[1:]:
            raise DataError(
                f"{file} has images of {tuple(images.shape[1:])} but {files[0]} of {tuple(parts[0][0].shape[1:])}: "
                "resize the images to one shape and write the files again"
            )
        if names != parts[0][2]:
            raise DataError(f"{file} and {files[0]} name different classes: use shards of the same dataset")
    return torch.cat([images for images, _, _ in parts]), torch.cat([labels for _, labels, _ in parts]), parts[0][2]


def _check_shards(files: Sequence[str]) -> None:
    """Refuse a split of which only some shards are named, by their names in the Hugging Face layout.

    Raises:
        DataError: one is missing.
    """
    found: dict[tuple[str, int], set[int]] = {}
    for file in files:
        if (shard := _SHARD.fullmatch(file)) is not None:
            found.setdefault((shard["split"], int(shard["count"])), set()).add(int(shard["place"]))
    for (split, count), places in found.items():
        if missing := sorted(set(range(count)) - places):
            raise DataError(
                f"{files[0]} is one of {count} shards, and shard {missing[0]} is not among the files: name all of "
                f"them in a list, or as {split}*-of-{count:05d}*.parquet"
            )


def _read(path: Path, image: str | None, label: str | None) -> tuple[Tensor, Tensor, tuple[str, ...] | None]:
    """Images (N, 3, H, W) uint8, labels (N,) int64 and the class names that the file records, if any."""
    if not path.is_file():
        raise DataError(f"{path} is missing: correct the path in the config, or put the file there")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            image, label = _image_column(schema, path, image), _label_column(schema, path, label)
            if count == 0:
                raise DataError(f"{path} has no rows: write it again with images")
            labels = _labels(file.read(columns=[label]).column(label), path)
            if len(labels) != count:
                raise DataError(f"{path} has {len(labels)} labels for {count} rows: copy or download it again")
            images = decode_all(
                _encoded(file, image, path),
                count,
                None,
                "resize the images to one shape and write the file again",
            )
    except (DataError, MemoryError):
        raise
    # Which exception comes depends on the damaged byte: ArrowException, OSError, UnicodeDecodeError, KeyError, ...
    except Exception as error:
        if (kind := other_kind(path, b"PAR1")) is not None:
            raise DataError(f"{path} is no parquet file but {kind}") from error
        raise DataError(f"{path} is damaged or not a parquet file: copy or download it again") from error
    return images, labels, _recorded_names(schema, label, path)


def _image_column(schema: Any, path: Path, wanted: str | None) -> str:
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None and wanted not in fitting:
        raise DataError(
            f"{path} has no image column {wanted!r} (struct with bytes) among {', '.join(schema.names)}: correct "
            "image_column in the config"
        )
    if wanted is not None:
        return wanted
    for name in _IMAGE_COLUMNS:
        if name in fitting:
            return name
    if len(fitting) != 1:
        raise DataError(
            f"{path} has {len(fitting) or 'no'} image columns (struct with bytes) "
            f"among {', '.join(schema.names)}: name one of them img or image"
        )
    return str(fitting[0])


def _holds_bytes(kind: Any) -> bool:
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        return False
    inner = kind.field("bytes").type
    return bool(pa.types.is_binary(inner) or pa.types.is_large_binary(inner))


def _label_column(schema: Any, path: Path, wanted: str | None) -> str:
    for name in _LABEL_COLUMNS if wanted is None else (wanted,):
        if name in schema.names:
            if not pa.types.is_integer(schema.field(name).type):
                raise DataError(
                    f"{path} column {name} is {schema.field(name).type}, not integer: number the classes 0, 1, 2, ..."
                )
            return name
    raise DataError(
        f"{path} has no label column among {', '.join(schema.names)}: set label_column in the config to its name"
    )


def _labels(column: Any, path: Path) -> Tensor:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(f"{path} row {row} has no label: add the label or remove the row")
    return torch.from_numpy(column.to_numpy().astype(np.int64))


def _encoded(file: Any, image: str, path: Path) -> Iterator[tuple[str, bytes]]:
    """Each row's place and encoded image, a batch of rows in memory at a time."""
    row = 0
    for batch in file.iter_batches(batch_size=_BATCH, columns=[f"{image}.bytes"], use_threads=False):
        for cell in batch.column(image).to_pylist():
            where = f"{path} row {row}"
            if cell is None or cell["bytes"] is None:
                raise DataError(f"{where} has no image bytes: embed the image in the file or remove the row")
            yield where, cell["bytes"]
            row += 1


def _recorded_names(schema: Any, label: str, path: Path) -> tuple[str, ...] | None:
    """The names of class ``label`` in the Hugging Face metadata; None if the file records none."""
    metadata: dict[bytes, bytes] = schema.metadata or {}
    if b"huggingface" not in metadata:
        return None
    try:
        found: Any = json.loads(metadata[b"huggingface"])
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} has damaged huggingface metadata: write or download the file again") from error
    if isinstance(found, dict):
        found = found.get("info", found)
    for key in ("features", label, "names"):
        found = found.get(key) if isinstance(found, dict) else None
    return tuple(str(name) for name in found) if isinstance(found, list) and found else None
