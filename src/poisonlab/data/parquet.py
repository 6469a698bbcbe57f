"""parquet: files in the Hugging Face layout: an image column (struct with ``bytes``, or bytes) and a label column."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
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
from poisonlab.data.shards import ClassNames, Part, named, read_split, warn_of_both
from poisonlab.errors import DataError

_IMAGE_COLUMNS = ("img", "image")
_LABEL_COLUMNS = ("label", "fine_label", "labels")
_INDEX = re.compile("__index_level_[0-9]+__")
"""Name of the column in which pandas keeps the row numbers of shuffled or selected rows."""
_BATCH = 500


def load(settings: Settings) -> ImageDataset:
    """Read both splits; images are (N, 3, H, W) uint8, decoded to RGB.

    Class names are those in the files' Hugging Face metadata, else ``settings.class_names``, else "0", "1",
    and so on.

    Raises:
        DataError: a file is missing, damaged or lacks a column, a row holds no image or label, the images
            differ in shape, class names or labels contradict each other, or a limit cannot be met.
    """
    train_files, test_files = settings.split("train"), settings.split("test")
    warn_of_both(train_files, test_files)
    read = partial(_read, image=settings.image_column, label=settings.label_column)
    train_images, train_labels, train_names = read_split(train_files, read)
    test_images, test_labels, test_names = read_split(test_files, read)
    where = f"{named(train_files)} and {named(test_files)}"
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


def _read(path: Path, image: str | None, label: str | None) -> Part:
    """Images (N, 3, H, W) uint8, labels (N,) int64 and the class names that the file records, if any."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
            guessed = label is None and not set(_LABEL_COLUMNS) & set(schema.names)
            image, label = _image_column(schema, path, image), _label_column(schema, path, label)
            if count == 0:
                raise DataError(f"{path} has no rows: write it again with images")
            labels = _labels(file.read(columns=[label]).column(label), path)
            if guessed and count > 2 and len(set(labels.tolist())) == count:
                raise DataError(
                    f"{path} column {label} has another number in every row, so it numbers rows and not classes: set "
                    f"label_column in the config{_of_text(schema)}"
                )
            if guessed and _recorded_names(schema, label, path) is None and (others := _kinds(file, schema, count)):
                raise DataError(
                    f"{path} column {label} is the only one of whole numbers, but {' or '.join(others[:3])} may be the "
                    f"labels, too: set label_column in the config to {label}, or number the classes of {others[0]} "
                    "0, 1, 2, ..."
                )
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
    # The exception depends on the damaged byte: ArrowException, OSError, UnicodeDecodeError, KeyError, ...
    except Exception as error:
        if (kind := other_kind(path, b"PAR1")) is not None:
            raise DataError(f"{path} is no parquet file but {kind}") from error
        raise DataError(f"{path} is damaged or not a parquet file: copy or download it again") from error
    return images, labels, _recorded_names(schema, label, path)


def _image_column(schema: Any, path: Path, wanted: str | None) -> str:
    fitting = [field.name for field in schema if _holds_bytes(field.type)]
    if wanted is not None and wanted not in fitting:
        raise DataError(
            f"{path} has no image column {wanted!r} (bytes, or a struct with bytes) among {', '.join(schema.names)}: "
            "correct image_column in the config"
        )
    if wanted is not None:
        return wanted
    for name in _IMAGE_COLUMNS:
        if name in fitting:
            return name
    if len(fitting) != 1:
        raise DataError(
            f"{path} has {len(fitting) or 'no'} image columns (bytes, or a struct with bytes) "
            f"among {', '.join(schema.names)}: set image_column in the config to one"
        )
    return str(fitting[0])


def _holds_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_binary(kind.field("bytes").type)
    return _is_binary(kind)


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _label_column(schema: Any, path: Path, wanted: str | None) -> str:
    usual = [name for name in _LABEL_COLUMNS if name in schema.names]
    integers = [field.name for field in schema if pa.types.is_integer(field.type) and not _INDEX.fullmatch(field.name)]
    classes = [name for name in integers if _recorded_names(schema, name, path) is not None]
    chosen = wanted if wanted in schema.names else None
    if wanted is None:
        chosen = usual[0] if usual else next((found[0] for found in (classes, integers) if len(found) == 1), None)
    if chosen is None:
        called = "" if wanted is None else f"{wanted!r} "
        raise DataError(
            f"{path} has no label column {called}among {', '.join(schema.names)}: set label_column in the config to "
            f"its name{_of_text(schema)}"
        )
    if chosen not in integers:
        raise DataError(
            f"{path} column {chosen} is {schema.field(chosen).type}, not integer: number the classes 0, 1, 2, ..."
        )
    return chosen


def _texts(schema: Any) -> list[str]:
    """Columns of text, or of categories as pandas writes them."""
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_dictionary)
    return [field.name for field in schema if any(is_kind(field.type) for is_kind in kinds)]


def _kinds(file: Any, schema: Any, count: int) -> list[str]:
    """Columns of text that may name classes: several values, some of which occur more than once."""
    return [name for name in _texts(schema) if 1 < len(file.read(columns=[name]).column(name).unique()) < count]


def _of_text(schema: Any) -> str:
    """Part of the cure if the file has text columns, which may be the labels; else empty."""
    texts = _texts(schema)
    return f", after numbering the classes of {' or '.join(texts[:3])} 0, 1, 2, ..." if texts else ""


def _labels(column: Any, path: Path) -> Tensor:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise DataError(f"{path} row {row} has no label: add the label or remove the row")
    return torch.from_numpy(column.to_numpy().astype(np.int64))


def _encoded(file: Any, image: str, path: Path) -> Iterator[tuple[str, bytes]]:
    """Each row's place and encoded image; only one batch of rows is in memory."""
    row = 0
    column = f"{image}.bytes" if pa.types.is_struct(file.schema_arrow.field(image).type) else image
    for batch in file.iter_batches(batch_size=_BATCH, columns=[column], use_threads=False):
        for cell in batch.column(image).to_pylist():
            where = f"{path} row {row}"
            content = cell["bytes"] if isinstance(cell, dict) else cell
            if content is None:
                raise DataError(f"{where} has no image bytes: embed the image in the file or remove the row")
            yield where, content
            row += 1


def _recorded_names(schema: Any, label: str, path: Path) -> ClassNames:
    """Class names of the column ``label`` in the Hugging Face metadata; None if the file records none."""
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
