"""Configs laid over each other: as Snakemake does it, but for a dataset of another source."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from poisonlab.config.merging import laid_over, merged_config, over_default, stands_alone, taken_over
from poisonlab.config.study import read_study
from poisonlab.errors import SettingsError

DEFAULT = Path(__file__).resolve().parents[2] / "config.yaml"
DIGITS = {"source": "digits-on-photos", "train_size": 100, "contrast": 0.4}
FOLDER = {"source": "image-folder", "root": "photos"}
APART = {"source": "set-apart", "first": 20, "of": DIGITS}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        ([DIGITS, FOLDER], FOLDER),
        ([DIGITS, {"train_size": 50}], {**DIGITS, "train_size": 50}),
        ([DIGITS, {"source": "digits-on-photos", "seed": 1}], {**DIGITS, "seed": 1}),
        ([DIGITS, FOLDER, {"size": 32}], {**FOLDER, "size": 32}),
        ([DIGITS, FOLDER, DIGITS], DIGITS),
        ([DIGITS, {"contrast": 0.1}, FOLDER, {"size": 32}, {"source": "npz"}], {"source": "npz"}),
        ([DIGITS, "no mapping"], "no mapping"),
        # A source within another one likewise.
        ([APART, {"source": "set-apart", "of": FOLDER}], {**APART, "of": FOLDER}),
        ([APART, {"of": {"train_size": 50}}], {**APART, "of": {**DIGITS, "train_size": 50}}),
        ([APART, FOLDER], FOLDER),
        ([{"train_size": 5}, FOLDER], FOLDER),
        # Images kept from the training are a matter of the study.
        ([{**DIGITS, "validation": 0.1}, FOLDER], {"validation": 0.1, **FOLDER}),
        ([{**DIGITS, "validation": 0.1}, {**FOLDER, "validation": None}], {**FOLDER, "validation": None}),
        (
            [{**APART, "validation": 0.1}, {"source": "set-apart", "of": FOLDER}],
            {"validation": 0.1, **APART, "of": FOLDER},
        ),
    ],
)
def test_another_source_replaces_the_dataset(layers: list[object], expected: object) -> None:
    before = [{"dataset": layer, "figures": {"seed": place}} for place, layer in enumerate(layers)]
    merged = laid_over(before)
    assert merged == {"dataset": expected, "figures": {"seed": len(layers) - 1}}
    assert before == [{"dataset": layer, "figures": {"seed": place}} for place, layer in enumerate(layers)]


CIFAR10 = {
    "cifar10-parquet": ["paper", "paper-short", "cifar10-fast", "cifar10-fast-sleeper", "learned-faster"],
    "cifar10-parquet-mini": ["paper-mini", "learned-faster-mini"],
    "cifar10-parquet-deep-knn-mini": ["deep-knn-mini"],
    "cifar10-parquet-set-apart": ["deep-knn"],
}


@pytest.mark.parametrize(("overlay", "name"), [(overlay, name) for overlay, names in CIFAR10.items() for name in names])
def test_studies_of_cifar10_take_it_from_parquet_files_too(
    overlay: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(DEFAULT.parent)
    own = f"config/{name}.yaml"
    downloaded, parquet = (
        read_study(merged_config(files, [])).dataset for files in ([own], [own, f"config/overlays/{overlay}.yaml"])
    )
    assert parquet.validation == downloaded.validation
    inner = [getattr(dataset, "of", dataset) for dataset in (downloaded, parquet)]
    assert [dataset.source for dataset in inner] == ["cifar10", "parquet"]
    assert inner[0].train_limit == inner[1].train_limit
    assert inner[0].test_limit == inner[1].test_limit


def test_other_sections_are_merged_key_by_key() -> None:
    layers = [{"figures": {"drawing": {"dpi": 60}, "seed": 0}, "seeds": [1]}, {"figures": {"seed": 1}, "seeds": [2]}]
    assert laid_over(layers) == {"figures": {"drawing": {"dpi": 60}, "seed": 1}, "seeds": [2]}


def test_the_default_study_with_data_of_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEFAULT.parent)
    overlay = tmp_path / "mine.yaml"
    overlay.write_text(yaml.safe_dump({"study": "mine", "dataset": FOLDER}), encoding="utf-8")
    config = merged_config([str(overlay)], ["dataset={root: others}"])
    assert config["dataset"] == {**FOLDER, "root": "others"}
    layers = [yaml.safe_load(path.read_text("utf-8")) for path in (DEFAULT, overlay)]
    assert laid_over([*layers, {"dataset": {"root": "others"}}])["dataset"] == config["dataset"]
    study = read_study(config)
    assert study.study == "mine"
    assert study.dataset.source == "image-folder"
    assert study.description == ""
    assert study.paper is None
    assert not any(each.published for each in (*study.attacks, *study.defenses))
    assert merged_config([str(overlay)], ["description=mine"])["description"] == "mine"


def test_other_data_do_not_go_by_the_default_study_s_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEFAULT.parent)
    with pytest.raises(SettingsError, match=r"of the default study, 'digits': add .* study: my-data") as caught:
        merged_config([], ["dataset={source: image-folder, root: photos}"])
    assert "\n" not in str(caught.value)
    for entry in ("dataset={train_size: 500}", "dataset={source: digits-on-photos, seed: 1}"):
        config = merged_config([], [entry])
        assert config["study"] == "digits"
        assert "embedded data" in config["description"]


def test_a_whole_study_stands_alone() -> None:
    whole = yaml.safe_load(DEFAULT.read_text(encoding="utf-8"))
    assert stands_alone(whole)
    assert not stands_alone({"study": "a", "dataset": FOLDER, "defenses": []})


def test_own_data_are_not_judged_by_numbers_of_the_default_study() -> None:
    default = {
        "study": "digits",
        "paper": "friends",
        "description": "digits",
        "dataset": {"source": "digits-on-photos"},
        "attacks": [{"name": "a", "published": [{"table": 1}]}],
        "defenses": [{"name": "none", "published": "baseline"}],
        "seeds": [1],
    }
    own = {"study": "pets", "dataset": FOLDER}
    assert over_default({**default, **own}, own, default) == {
        **own,
        "attacks": [{"name": "a"}],
        "defenses": [{"name": "none"}],
        "seeds": [1],
    }
    # With --replace-workflow-config nothing lies below; what is missing is reported later.
    assert over_default(own, own, default) == own
    named = {**own, "paper": "friends"}
    assert over_default({**default, **named}, named, default)["attacks"] == default["attacks"]
    assert taken_over(own) == "laid over config.yaml, which gives surrogates, attacks, victims, defenses, seeds"


def test_a_complete_study_is_the_first_file(tmp_path: Path) -> None:
    overlay = tmp_path / "mine.yaml"
    overlay.write_text("seeds: [3]\n", "utf-8")
    smoke = str(DEFAULT.parent / "config" / "smoke.yaml")
    assert merged_config([smoke, str(overlay)], [])["seeds"] == [3]
    for files in ([str(overlay), smoke], [str(DEFAULT), smoke]):
        with pytest.raises(SettingsError) as caught:
            merged_config(files, [])
        said = f"config: {smoke} is a complete study: name it first or alone, because it replaces {files[0]}"
        assert str(caught.value) == said


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("study: m\xe9\n", encoding="latin-1")
    with pytest.raises(SettingsError) as caught:
        merged_config([str(path)], [])
    assert str(caught.value) == f"config: {path} is no text in UTF-8 (byte 8): save it as UTF-8"
