"""Trials as lines of a CSV file: what is written comes back, and whatever else stands there is one clear line."""

from __future__ import annotations

import codecs
import contextlib
import csv
import hashlib
import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poisonlab.errors import DamagedError, DataError
from poisonlab.evaluation.detection import Detection
from poisonlab.evaluation.trials import PROVENANCE, Trial, at_first_victim, read_trials, write_trials

REST = (
    "seconds,poisons_dropped,poisons_kept,clean_dropped,clean_kept,"
    "device,threads,torch,python,commit,finished,peak_host_mib,peak_device_mib"
)
WHO = "attack,victim,defense,seed,settings,targets"
CLASSES = "base_class,true_class,adversarial_class"
MEASURES = "success,adversarial_confidence,accuracy,untriggered_success,false_alarms"
HEADER = f"{WHO},{CLASSES},{MEASURES},{REST},failed,check"
FORMER = f"{WHO},{MEASURES},{REST},failed,check"
"""Before classes were in it."""
_MACHINE = '"x86, 64 bit",1,2.9.0,3.12.1,0c8c0,2026-11-21,640,'
FILTERED = f'gm,net,filtered,3,0123abcd,,dog,"cat, big",dog,1.0,0.75,0.9,,,12.5,8,2,1,89,{_MACHINE},,'
WATCHED = "sa,vgg,strip,10,,1000,,,,0.125,0.5,0.25,0.0,0.05,,,,,,NVIDIA H200,2,2.9.0,3.12.1,,2026-11-21,800,90,,"
"""A line as somebody writes it: without its check."""
_OF = {"torch": "2.9.0", "python": "3.12.1", "finished": "2026-11-21"}
TRIALS = [
    Trial("gm", "net", "filtered", 3, {"success": 1.0, "adversarial_confidence": 0.75, "accuracy": 0.9}, None, 12.5,
          found=Detection(8, 2, 1, 89), settings="0123abcd",
          classes={"base_class": "dog", "true_class": "cat, big", "adversarial_class": "dog"},
          provenance=_OF | {"device": "x86, 64 bit", "threads": "1", "commit": "0c8c0", "peak_host_mib": "640"}),
    Trial("sa", "vgg", "strip", 10, {"success": 0.125, "adversarial_confidence": 0.5, "accuracy": 0.25,
                                     "untriggered_success": 0.0, "false_alarms": 0.05}, 1000,
          provenance=_OF | {"device": "NVIDIA H200", "threads": "2", "peak_host_mib": "800", "peak_device_mib": "90"}),
]  # fmt: skip
OLDEST = (
    "attack,defense,seed,settings,success,adversarial_confidence,accuracy,untriggered_success,privacy_epsilon,"
    f"false_alarms,{REST}"
)
OLD_FILTERED = 'gm,filtered,3,0123abcd,1.0,0.75,0.9,,,,12.5,8,2,1,89,"x86, 64 bit",1,2.9.0,3.12.1,0c8c0,2026-11-21,640,'
"""Before there were victims by name, and before there were checks."""


def put(folder: Path, *lines: str) -> Path:
    path = folder / "own-trials.csv"
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def check(line: str, titles: str = HEADER) -> str:
    """What the last column must be."""
    (fields,) = csv.reader([line])
    values = [*(titles.split(",")[:-1] if titles else []), *fields[:-1]]
    return hashlib.sha256("\0".join(values).encode()).hexdigest()[:12]


def same(ours: list[Trial], theirs: list[Trial]) -> bool:
    """As text: nan is nan there, and -0.0 is not 0.0."""

    def text(trial: Trial) -> str:
        unordered = {name: sorted(getattr(trial, name).items()) for name in ("measures", "provenance")}
        return repr(vars(trial) | unordered)

    return list(map(text, ours)) == list(map(text, theirs))


# --- there and back -----------------------------------------------------------------------------------------------


def test_a_trial_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "own-trials.csv"
    write_trials(path, TRIALS)
    assert path.read_text(encoding="utf-8").splitlines() == [
        HEADER,
        FILTERED + check(FILTERED),
        WATCHED + check(WATCHED),
    ]
    assert [each.name for each in path.parent.iterdir()] == ["own-trials.csv"]


def test_a_line_is_a_trial(tmp_path: Path) -> None:
    read = read_trials(put(tmp_path, HEADER, FILTERED, WATCHED))
    assert same(read, TRIALS)
    assert [trial.key for trial in read] == [("gm", "net", "filtered", 3), ("sa", "vgg", "strip", 10)]


def test_a_file_that_a_spreadsheet_has_saved_is_read(tmp_path: Path) -> None:
    """It begins with the mark of UTF-8, and ends its lines as Windows does."""
    path = put(tmp_path, HEADER, FILTERED, WATCHED)
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
    assert same(read_trials(path), TRIALS)


def test_no_trials_are_a_header(tmp_path: Path) -> None:
    path = tmp_path / "own-trials.csv"
    write_trials(path, [])
    assert path.read_text(encoding="utf-8") == f"{WHO},{CLASSES},{REST},failed,check\n"
    assert read_trials(path) == []


def test_a_control_is_not_told_from_others_in_the_file(tmp_path: Path) -> None:
    """Whether a row is a control is the reader's to say."""
    path = tmp_path / "own-trials.csv"
    write_trials(path, [Trial("gm", "net", "clean", 0, {"accuracy": 0.9}, control=True)])
    assert same(read_trials(path), [Trial("gm", "net", "clean", 0, {"accuracy": 0.9})])


def test_older_files_are_read(tmp_path: Path) -> None:
    """Their victim is the attack's first, and how many targets they count over is not in them."""
    former = FILTERED.replace('dog,"cat, big",dog,', "")
    unnamed = replace(TRIALS[0], classes={})
    assert same(read_trials(put(tmp_path, FORMER, former + check(former, FORMER))), [unnamed])
    old = [replace(unnamed, victim="")]
    assert same(read_trials(put(tmp_path, OLDEST, OLD_FILTERED)), old)
    line = f"{OLD_FILTERED},,"
    assert same(read_trials(put(tmp_path, f"{OLDEST},failed,check", line + check(line, ""))), old)
    assert "differs from its check" in message(put(tmp_path, f"{OLDEST},failed,check", line + check(line, OLDEST)))
    assert at_first_victim(old[0], {"gm": "net"}) == unnamed
    assert at_first_victim(TRIALS[1], {"sa": "net"}) == TRIALS[1]


COMMITTED = sorted((Path(__file__).resolve().parents[2] / "results" / "reference").glob("*/*-trials.csv"))


@pytest.mark.parametrize("path", COMMITTED, ids=[path.parent.name for path in COMMITTED])
def test_committed_trials_are_read(path: Path) -> None:
    trials = read_trials(path)
    assert len(trials) == len(path.read_text("utf-8").splitlines()) - 1 > 0
    assert all({"success", "peak_accuracy"} & set(trial.measures) for trial in trials if not trial.failed)


def test_committed_trials_of_changed_checkouts_are_counted() -> None:
    found = Counter(re.findall(r"\b[0-9a-f]{12}-dirty\b", " ".join(path.read_text("utf-8") for path in COMMITTED)))
    readme = (COMMITTED[0].parents[1] / "README.md").read_text("utf-8")
    told = re.findall(r"the (\d+) (?:trials )?of ([0-9a-f]{12}-dirty)", readme, re.IGNORECASE)
    assert {commit: int(count) for count, commit in told} == found


def test_measures_of_any_name_come_back(tmp_path: Path) -> None:
    """Also where trials have different ones."""
    some = [Trial("em", "net", "none", 0, {"peak_accuracy": 0.5, "first_epoch": 3.0}), TRIALS[0]]
    path = tmp_path / "own-trials.csv"
    write_trials(path, some)
    assert same(read_trials(path), some)
    assert read_trials(path)[0].measures == {"peak_accuracy": 0.5, "first_epoch": 3.0}


def test_no_flipped_bit_of_a_trial_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own-trials.csv"
    write_trials(path, TRIALS)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for mask in (0x01, 0x04):
            damaged = bytearray(whole)
            damaged[position] ^= mask
            path.write_bytes(damaged)
            with contextlib.suppress(DataError):
                assert same(read_trials(path), TRIALS), f"byte {position} ^ {mask}"


def test_trials_that_are_cut_off_are_damaged(tmp_path: Path) -> None:
    """But for a file that lost whole lines: which trials there should be, the tables know."""
    path = tmp_path / "own-trials.csv"
    write_trials(path, TRIALS)
    whole = path.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            read_trials(path)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,9}", fullmatch=True)
COUNTS = st.integers(0, 10**9)
AMOUNTS = st.just(math.nan) | st.floats(0)
KEYS = st.tuples(NAMES, NAMES, NAMES, st.integers(0, 10**6))
MEASURES = st.dictionaries(st.sampled_from(["success", "accuracy", "first_epoch", "x"]), AMOUNTS)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=9)


@given(keys=st.lists(KEYS, max_size=3, unique=True), data=st.data())
@settings(max_examples=50, deadline=None)
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, keys: list[tuple[str, str, str, int]], data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trials.csv"
    trials = [
        Trial(
            *key,
            data.draw(MEASURES),
            targets=data.draw(st.none() | st.integers(1, 10**9)),
            seconds=data.draw(AMOUNTS.filter(lambda amount: amount != math.inf)),
            found=data.draw(st.none() | st.builds(Detection, COUNTS, COUNTS, COUNTS, COUNTS)),
            settings=data.draw(st.sampled_from(["", "0123456789ab"])),
            failed=data.draw(st.sampled_from(["", "the loss is nan at epoch 2, batch 5"])),
            provenance=data.draw(st.dictionaries(st.sampled_from(PROVENANCE), TEXTS)),
        )
        for key in keys
    ]
    write_trials(path, trials)
    assert same(read_trials(path), trials)


# --- what is no file of trials --------------------------------------------------------------------------------------


def message(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_trials(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (FILTERED.replace("0.75", "often"), ["could not convert", "'often'"]),
        (FILTERED.replace(",8,2,1,89", ",8,2,1.5,89"), ["invalid literal", "'1.5'"]),
        (FILTERED.replace(",8,2,1,89", ",8,2,,89"), ["clean_dropped"]),
        (FILTERED.replace("filtered,3", "filtered,three"), ["invalid literal", "'three'"]),
        (FILTERED.replace("filtered,3", "filtered,"), ["invalid literal", "''"]),
        # As a copy leaves it that broke off.
        (FILTERED[: FILTERED.index(",0.9")], ["29 fields"]),
        (FILTERED + ",1", ["29 fields"]),
        (FILTERED.replace("0.75", "-0.75"), ["adversarial_confidence is negative"]),
        (FILTERED.replace("0123abcd,,", "0123abcd,0,"), ["targets is no number"]),
        (FILTERED.replace(",8,2,1,89", ",-8,2,1,89"), ["poisons_dropped is no number"]),
        (FILTERED.replace(",8,2,1,89", ",8,2,1," + "9" * 400), ["clean_kept is no number"]),
        (FILTERED.replace("0.75", "x\x1b[31m"), ["\\x1b[31m"]),
    ],
    ids=[
        *("number", "count", "count missing", "seed", "no seed", "too short", "too long"),
        *("negative", "no target", "negative count", "endless count", "colour"),
    ],
)
def test_a_line_that_is_no_trial_is_named(line: str, words: list[str], tmp_path: Path) -> None:
    text = message(put(tmp_path, HEADER, WATCHED, line))
    assert "own-trials.csv is damaged (line 3 is not a trial: " in text
    assert "restore it" in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    "header",
    [
        *(
            "",
            HEADER.replace("seed,", ""),
            HEADER + ",more",
            HEADER.replace("attack,victim", "victim,attack"),
            FILTERED,
        ),
        HEADER.replace("accuracy", "success"),
        f"{OLDEST},more",
    ],
    ids=["empty", "a column less", "a column more", "another order", "none", "one twice", "an older one with more"],
)
def test_other_columns_are_refused(header: str, tmp_path: Path) -> None:
    text = message(put(tmp_path, *([header, FILTERED] if header else [])))
    assert "holds no trials: its columns must be attack,victim,defense,seed," in text


@pytest.mark.parametrize("name", ["Accuracy", "a b", "=1+1", "x" * 61, ""])
def test_what_is_no_measure_s_name_is_refused(name: str, tmp_path: Path) -> None:
    assert "is no name of a measure" in message(put(tmp_path, HEADER.replace("accuracy", name), FILTERED))


def test_a_trial_twice_is_refused(tmp_path: Path) -> None:
    """With another outcome, too: which of the two it was, nobody can say."""
    text = message(put(tmp_path, HEADER, FILTERED, WATCHED, FILTERED.replace(",1.0,", ",0.0,")))
    assert "gm/net/filtered/3 occurs twice: keep one" in text


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "No such file or directory"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(f"{HEADER}\ngm,\xff".encode("latin-1")), "no UTF-8 CSV file"),
        (lambda path: path.write_text(f'{HEADER}\n"gm'), "no UTF-8 CSV file"),
    ],
    ids=["missing", "a folder", "another encoding", "a quote that does not end"],
)
def test_a_file_that_cannot_be_read(make: Callable[[Path], object], words: str, tmp_path: Path) -> None:
    make(tmp_path / "own-trials.csv")
    assert words in message(tmp_path / "own-trials.csv")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    """Snakemake reads trials whenever it is called."""
    path = put(tmp_path, HEADER, FILTERED)
    program = (
        "import sys; from pathlib import Path; from poisonlab.evaluation.trials import read_trials\n"
        f"print(len(read_trials(Path({str(path)!r}))), {{'torch', 'numpy', 'pandas'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1 set()"


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    assert "is a pipe or a device" in message(tmp_path / "a.csv")
