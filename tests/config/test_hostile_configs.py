"""Configs that mean harm or no good: one short line, at once, and nothing runs."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from poisonlab.config.attacks.imported import Imported
from poisonlab.config.files import check_config_file
from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError
from poisonlab.graph.graph import Graph

ROOT = Path(__file__).resolve().parents[2]
# Through JSON, which writes out what an anchor shares.
DEFAULT = json.dumps(yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8")))


def study(**changes: Any) -> dict[str, Any]:
    return {**json.loads(DEFAULT), **changes}


def refused(values: Any, *words: str) -> str:
    with pytest.raises(SettingsError) as caught:
        read_study(values)
    text = str(caught.value)
    assert text.startswith("config: ")
    assert len(text.splitlines()) == 1
    assert len(text) < 4000
    for word in words:
        assert word in text
    return text


@pytest.mark.parametrize(
    "name",
    [
        *("../x", "/etc/x", ".", "..", "a/b", "a b", "a\nb", "", "-rf", "--config", "A", "é", "a" * 61, "a\0b"),
        *("$(touch canary)", "`id`", "a;b", "a|b", "a&b", "a'b", 'a"b', "a*", "a?", "{seed}", "a{b}", "~", "#a", "a=b"),
    ],
)
@pytest.mark.parametrize("place", ["study", "attacks", "surrogates", "victims", "defenses", "ablations"])
def test_names_that_are_no_folder_names(place: str, name: str) -> None:
    ablation = {"name": "x", "defense": "friendly", "method": "friendly-noise", "vary": {"zeta": [1]}}
    values = study(ablations=[ablation])
    if place == "study":
        values["study"] = name
    else:
        values[place][0]["name"] = name
    refused(values, place)


@pytest.mark.parametrize(
    ("results", "words"),
    [
        ("../x", "results"),
        ("/tmp/x", "results"),
        ("a/../../b", "must not climb"),
        ("a//b", "plain path"),
        ("a/./b", "plain path"),
        ("a/", "plain path"),
        ("a" * 101, "plain path"),
        ("a" * 201, "at most 200"),
        ("$(id)", "results"),
        ("a b", "results"),
        ("-a", "results"),
    ],
)
def test_folders_of_results_that_are_none(results: str, words: str) -> None:
    refused(study(results=results), words)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("-x", "dash"),
        ("--spec=x", "dash"),
        ("a\nb", "control"),
        ("a\0b", "\\x00"),
        ("a{x}", "braces"),
        ("", "at least 1"),
    ],
)
def test_paths_that_a_program_or_snakemake_takes_for_something_else(path: str, words: str) -> None:
    refused(study(merge=[path]), words)
    refused(study(dataset={"source": "npz", "path": path}), words)
    refused(study(attacks=[{"name": "a", "method": "imported", "path": path}]), words)


def test_other_marks_in_a_path_are_welcome() -> None:
    path = 'it\'s $(a) "folder"; with `marks` & *stars* é/x.npz'
    assert read_study(study(dataset={"source": "npz", "path": path}, merge=[path])).merge == (path,)


@pytest.mark.parametrize("name", [b"\xff", b"a\nb", b"{x}"])
def test_files_whose_names_snakemake_cannot_record(name: bytes, tmp_path: Path) -> None:
    """Such files may lie in folders, and Snakemake would look for the value of ``{x}``."""
    folder, shown = str(tmp_path), name.decode("utf-8", "surrogateescape")
    for kind in (".png", ".parquet"):
        Path(folder, f"{shown}{kind}").write_bytes(b"")
    patch = {"name": "a", "method": "sleeper-agent", "surrogate": "base", "patch": {"image": f"{folder}/{shown}.png"}}
    for changes in (
        {"dataset": {"source": "parquet", "train": folder, "test": folder}},
        {"attacks": [{"name": "a", "method": "imported", "path": folder}]},
        *([{"attacks": [patch]}] if name == b"{x}" else []),
    ):
        graph = Graph(read_study(study(figures={}, **changes)))
        with pytest.raises(SettingsError, match="rename it") as caught:
            graph.check()
        str(caught.value).encode("utf-8")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["a" * 300, "a/" * 240])
def test_paths_that_no_file_system_takes(path: str) -> None:
    with pytest.raises(SettingsError, match="attack 'a'"):
        Imported(name="a", path=path).files(0)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("epochs", True, "epochs must be a number, not true or false"),
        ("epochs", 10**30, "beyond 64 bits"),
        ("epochs", 16**5000, "beyond 64 bits"),
        ("epochs", 2**62, "epochs"),
        ("milestones", [True], "milestones must be a number"),
        ("lr", float("nan"), "finite"),
        ("lr", float("inf"), "finite"),
    ],
    ids=["true", "large", "unprintably large", "64 bits", "list of true", "nan", "inf"],
)
def test_numbers_that_are_none(place: str, value: Any, words: str) -> None:
    values = study()
    values["victims"][0]["recipe"] |= {"schedule": "steps", place: value}
    refused(values, "victims.0.recipe", words)


def test_yes_is_still_a_truth_where_one_is_asked_for() -> None:
    values = study()
    values["victims"][0]["recipe"]["nesterov"] = True
    values["defenses"][0]["poisoned"] = True
    assert read_study(values).victims[0].recipe.nesterov is True


@pytest.mark.parametrize(
    "value",
    ["a\0b", "\x1b[2J", "\ud800", b"bytes", {1, 2}, yaml.safe_load("2020-01-01"), print, object()],
    ids=["nul", "escape", "half a character", "bytes", "set", "date", "function", "object"],
)
def test_values_that_are_not_plain(value: Any) -> None:
    refused(study(description=value), "description").encode("utf-8")


def test_keys_that_are_not_plain() -> None:
    for key in (1, None, True, 2.5):
        refused({**study(), key: 1})
    refused(study(**{"a\0b": 1}), "character")
    refused(study(**{"a\nb": 1}), "unknown key")
    refused(study(**{"k" * 100_000: 1}), "unknown key")


def test_values_without_end() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    refused(study(description=deep), "nested more than")
    circle: list[Any] = []
    circle.append(circle)
    refused(study(description=circle), "nested more than")
    laughs: Any = ["x"] * 10
    for _ in range(30):
        laughs = [laughs] * 10
    refused(study(description=laughs), "description")
    refused(study(seeds=laughs), "seeds")


def test_an_ablation_without_end() -> None:
    vary = {"zeta": [1 + place / 1000 for place in range(5000)], "lr": list(range(1, 5000))}
    ablation = {"name": "x", "defense": "friendly", "method": "friendly-noise", "vary": vary}
    refused(study(ablations=[ablation]), "asks for 24995000 combinations")


def test_ablations_whose_rules_would_bear_one_name() -> None:
    ablation = {"defense": "friendly", "method": "friendly-noise", "vary": {"zeta": [1]}}
    refused(study(ablations=[{**ablation, "name": "a.b"}, {**ablation, "name": "a-b"}]), "repeats a-b")
    refused(study(ablations=[{**ablation, "name": "a-so-far"}]), "-so-far")


def test_an_attack_called_like_a_figure() -> None:
    values = study(figures={})
    values["attacks"][0]["name"] = "outcome.pdf"
    refused(values, "outcome.pdf")


def grid(attacks: int, rows: int, seeds: int) -> dict[str, Any]:
    values = study()
    attack = {**values["attacks"][0], "published": []}
    return study(
        attacks=[{**attack, "name": f"attack{place}"} for place in range(attacks)],
        defenses=[{**values["defenses"][2], "name": f"row{place}"} for place in range(rows)],
        seeds=list(range(seeds)),
        figures={},
        compare=[],
    )


@pytest.mark.parametrize("shape", [(10, 100, 10), (100, 100, 1), (1, 1, 10_000), (1, 10_000, 1), (1000, 10, 1)])
def test_ten_thousand_cells_are_read_in_seconds(shape: tuple[int, int, int]) -> None:
    values = grid(*shape)
    begin = time.process_time()
    found = read_study(values)
    assert sum(len(found.seeds_of(attack)) for attack, _, _ in found.meetings()) == 10_000
    assert time.process_time() - begin < 10


def test_ten_thousand_mistakes_are_a_short_line_in_seconds() -> None:
    values = grid(1, 10_000, 1)
    for row in values["defenses"]:
        row["name"] = row["name"].upper()
        row["poisonned"] = True
    begin = time.process_time()
    text = refused(values, "defenses.0.name", "did you mean 'poisoned'?", "and 19990 problems more")
    assert text.count(";") == 10
    assert time.process_time() - begin < 10


# --- files ------------------------------------------------------------------------------------------------


def check(folder: Path, text: str | bytes) -> None:
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    check_config_file(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("seeds: [1]\nstudy: a\nseeds: [2]\n", ":3: 'seeds' is given twice, first on line 1"),
        ("dataset: {seed: 1, seed: 2}\n", "'seed' is given twice"),
        ("a: [{b: 1}, {b: 2, c: 3,\n b: 4}]\n", ":2: 'b' is given twice"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
        ("__use_yte__: true\nstudy: ?open('canary', 'w')\n", ":1: __use_yte__"),
        ('"\\x5f_use_yte__": true\n', ":1: __use_yte__"),
        ("a: &k __use_yte__\n*k : true\n", ":1: __use_yte__"),
        ("a: 1\n<<: {__use_yte__: true}\n", ":2: __use_yte__"),
        ("a: 1\n<<: [{b: 1}, {__use_yte__: true}]\n", ":2: __use_yte__"),
        ("a: 1\nb: [1,\nc: 2\n", ":4: no YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2\n", ":2: no YAML: found character"),
        ("a: \x01\n", ": no YAML: unacceptable character"),
        ("a: " + "[" * 100_000, "nested more than"),
        ("{a: " * 100_000, "nested more than"),
    ],
)
def test_files_that_snakemake_would_misread_or_run(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check(tmp_path, text)
    assert words in str(caught.value)
    assert str(tmp_path / "config.yaml") in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "text",
    [
        "a: {b: 1}\nc: {b: 1}\nd: [b, b]\n",
        "a: &x {b: 1}\nc: {<<: *x, b: 2}\nd: {<<: *x, <<: *x}\n",
        "a: b\nb: a\n? [a]\n: 1\n? {a: 1}\n: a\n",
        "*x : 1\n",
        "",
        "- 1\n",
        '{\n\t"a": 1\n}',
        b"\xff\xfe\x00",
        b"\xef\xbb\xbfa: 1\r\nb: 2\r\n",
    ],
)
def test_files_that_are_left_to_snakemake(tmp_path: Path, text: str | bytes) -> None:
    check(tmp_path, text)


@pytest.mark.parametrize("path", [ROOT / "config.yaml", *sorted((ROOT / "config").rglob("*.yaml"))], ids=str)
def test_our_own_files_are_fine(path: Path) -> None:
    check_config_file(path)
