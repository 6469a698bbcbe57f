"""The published numbers beside our tables, with their notes, from ``reference/<paper>``."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import yaml
from pydantic import ValidationError

from poisonlab.config.types import Settings
from poisonlab.errors import DamagedError, DataError
from poisonlab.files import read_text

COLUMNS = ("table", "row", "defense", "measure", "value", "plus_minus", "unit", "note")
KEY = ["table", "row", "defense", "measure"]
UNITS = ("percent", "epochs", "minutes", "")
TIME = "minutes"
"""The measure of published times."""
_COUNT = re.compile(r"printed as ([0-9]{1,9})/([0-9]{1,9})")
_ROUNDED = 0.01
"""Largest difference, in percentage points, between a share and the count that it is printed as."""


class PublishedTable(Settings):
    """One table of a paper."""

    setting: str
    """The setting of its numbers."""
    notes: tuple[str, ...] = ()
    """Notes for readers, a sentence each."""


class Paper(Settings):
    """A paper whose tables are set beside ours."""

    name: str
    """Its name in our tables."""
    setting: str
    """The setting of all its numbers."""
    time: str = ""
    """The setting of its times."""
    headings: Mapping[str, str] = {}
    """Its names of measures."""
    defenses: Mapping[str, str] = {}
    """Its names of defenses, for tables with several side by side."""
    tables: Mapping[int, PublishedTable]

    def table(self, number: int) -> PublishedTable:
        """Table ``number``.

        Raises:
            DataError: the paper has none.
        """
        if number not in self.tables:
            raise DataError(f"{self.name} has no table {number} here: its tables are {sorted(self.tables)}")
        return self.tables[number]

    def beside(self, number: int, description: str) -> str:
        """The note below a table in the paper's layout: the published table, and a description of ours."""
        return f"{self.name}, table {number}." + (f" Ours: {description}" if description else "")


def read_paper(folder: Path) -> Paper:
    """Read ``paper.yaml`` in a folder of ``reference/``.

    Raises:
        DataError: the file is missing, or not as ``reference/README.md`` says; names the place.
    """
    path = folder / "paper.yaml"
    text = read_text(path)
    try:
        content = yaml.safe_load(text)
    # Some numbers and nestings are too long for the parser, which then raises errors that are not its own.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise DamagedError(path, f"no YAML: {error}") from error
    try:
        return Paper.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        place = ".".join(map(str, problem["loc"]))
        raise DataError(f"{path}: {place}: {problem['msg']}: correct it (reference/README.md says how)") from error


def published(path_or_dir: str | Path) -> pd.DataFrame:
    """Read one file of published numbers, or every CSV file of a folder, and check it.

    Args:
        path_or_dir: a CSV file laid out as ``reference/README.md`` says, or a folder of them.

    Returns:
        One row for each number, in the order of file name and line: ``table`` (int), ``row``, ``defense``, ``measure``
        (str; ``defense`` is "" where none applies), ``value`` (float; shares in [0, 1], although the file has percent;
        or epochs or minutes), ``plus_minus`` (float, as printed, in the file's unit; nan if the paper prints none),
        ``unit``, ``note``. (table, row, defense, measure) never repeats.

    Raises:
        DataError: there is no file, or one is malformed; names the file and line.
    """
    source = Path(path_or_dir)
    paths = sorted(source.glob("*.csv")) if source.is_dir() else [source]
    if not paths:
        raise DataError(f"{source}: no CSV file of published numbers in this folder; point to the reference folder")
    numbers = pd.concat([_read(path) for path in paths], ignore_index=True)
    repeated = numbers[numbers.duplicated(KEY)]
    if len(repeated):
        key = " / ".join(str(part) for part in repeated.iloc[0][KEY])
        raise DataError(f"{source}: the number for {key} is given more than once; keep one")
    return numbers


def printed_count(note: str) -> tuple[int, int] | None:
    """The counts that a share is printed as, if its note says so: ``printed as 799/800``."""
    found = _COUNT.fullmatch(note)
    return None if found is None else (int(found[1]), int(found[2]))


def _read(path: Path) -> pd.DataFrame:
    """Read one file.

    With ``csv`` and not pandas: the paper has a row called "None", which pandas takes for a missing value,
    and lines with a field too many would silently shift into the index.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            if tuple(header) != COLUMNS:
                raise DataError(f"{path}: columns are {','.join(header)}; they must be {','.join(COLUMNS)}")
            records = [_record(fields, f"{path}:{reader.line_num}") for fields in reader]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a UTF-8 CSV file ({error}); restore it from the repository") from error
    if not records:
        raise DataError(f"{path}: holds no numbers; restore it from the repository")
    return pd.DataFrame.from_records(records, columns=list(COLUMNS))


def _record(fields: list[str], where: str) -> dict[str, str | int | float]:
    if len(fields) != len(COLUMNS):
        raise DataError(f"{where}: {len(fields)} fields, expected {len(COLUMNS)}; quote a field that holds a comma")
    text = dict(zip(COLUMNS, fields, strict=True))
    for name in ("row", "measure"):
        if not text[name].strip():
            raise DataError(f"{where}: {name} is empty; name it")
    if not (text["table"].isascii() and text["table"].isdigit() and len(text["table"]) < 10):
        raise DataError(f"{where}: table is {text['table']!r}; it must be the table's number in the paper")
    if text["unit"] not in UNITS:
        raise DataError(f"{where}: unit is {text['unit']!r}; it must be one of {', '.join(UNITS[:-1])}, or empty")
    value = _number(text["value"], "value", where)
    if text["unit"] == "percent":
        if value > 100:
            raise DataError(f"{where}: value is {value} percent; it must lie in 0 to 100")
        some, whole = printed_count(text["note"]) or (0, 0)
        if whole and abs(value - 100 * some / whole) > _ROUNDED:
            raise DataError(f"{where}: value is {value} percent, which is not {some}/{whole}; correct one of them")
        value /= 100
    plus_minus = _number(text["plus_minus"], "plus_minus", where) if text["plus_minus"] else math.nan
    return {**text, "table": int(text["table"]), "value": value, "plus_minus": plus_minus}


def _number(text: str, name: str, where: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        raise DataError(f"{where}: {name} is {text!r}; it must be a number that is not negative")
    return number
