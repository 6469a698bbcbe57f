"""Every code block is run or checked: most by the tests that are named here, the others below."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from doc_pages import PAGES, ROOT, blocks, called
from pydantic import TypeAdapter
from snakemake.cli import get_argument_parser
from torch import nn, rand

from poisonlab.config.datasets import DatasetSettings
from poisonlab.config.merging import laid_over, over_default, stands_alone
from poisonlab.config.scan import read_scan
from poisonlab.config.study import read_study
from poisonlab.config.types import Settings

HERE = "docs/test_code_blocks.py"
TESTED_BY = {
    "CONTRIBUTING.md": HERE,
    "README.md": HERE,
    "docs/add-a-dataset.md": "docs/test_examples.py",
    "docs/add-a-defense.md": "docs/test_examples.py",
    "docs/add-a-model.md": "docs/test_examples.py",
    "docs/add-a-table.md": "docs/test_add_a_table.py",
    "docs/add-an-attack.md": "docs/test_examples.py",
    "docs/cluster.md": HERE,
    "docs/crafting.md": HERE,
    "docs/defend-my-pipeline.md": "pipelines/test_protect_program.py",
    "docs/import-poisons.md": "docs/test_pages.py",
    "docs/library.md": "docs/test_library.py",
    "docs/own-data.md": HERE,
    "docs/reproduce-table-4.md": HERE,
    "docs/scan-my-data.md": HERE,
}
"""Who runs the blocks of Python and checks those of YAML. Commands are checked on all pages (test_commands.py)."""


def test_every_page_with_code_has_a_test() -> None:
    assert {called(page) for page in PAGES if blocks(page, "python", "yaml", "diff")} == set(TESTED_BY)
    tests = {page: (ROOT / "tests" / name).read_text("utf-8") for page, name in TESTED_BY.items()}
    assert [page for page, test in tests.items() if page.rpartition("/")[2] not in test] == []


def test_blocks_say_their_language() -> None:
    known = {"bash", "diff", "eval-rst", "mermaid", "python", "sh", "text", "toctree", "yaml"}
    opened = {
        (called(page), mark.strip("{}"))
        for page in PAGES
        for mark in re.findall(r"^ *```([^\n]*)\n(?:.*?\n)? *```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    }
    assert sorted((page, mark) for page, mark in opened if mark not in known) == []


def test_the_readme_s_lines_make_noise() -> None:
    (program,) = blocks(ROOT / "README.md", "python")
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 8 * 8, 4))
    names: dict[str, Any] = {"model": model, "images": (rand(6, 3, 8, 8) * 255).byte()}
    exec(compile(program, "README.md", "exec"), names)
    assert names["noisy"].shape == names["images"].shape
    assert 0 < float(names["noise"].abs().max()) <= 16 / 255 + 1e-6


def test_the_setting_that_contributors_are_shown_is_one() -> None:
    (program,) = blocks(ROOT / "CONTRIBUTING.md", "python")
    names: dict[str, Any] = {"__name__": __name__}
    exec(compile(program, "CONTRIBUTING.md", "exec", dont_inherit=True), names)
    example: type[Settings] = names["Example"]
    assert example().model_dump() == {"momentum": 0.0}


def test_the_attacks_that_match_by_differences_are_attacks() -> None:
    default = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    (block,) = blocks("crafting.md", "yaml")
    assert read_study(laid_over([default, yaml.safe_load(block)])).attacks[0].method == "gradient-matching"


def test_two_lines_run_the_default_study_on_own_data() -> None:
    default = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    (block,) = map(yaml.safe_load, blocks("own-data.md", "yaml"))
    assert not stands_alone(block)
    study = read_study(over_default(laid_over([default, block]), block, default))
    assert (study.study, study.dataset.source, study.description) == ("my-data", "image-folder", "")


def test_the_settings_of_a_scan_are_its_defaults() -> None:
    (block,) = map(yaml.safe_load, blocks("scan-my-data.md", "yaml"))
    own = {"scan": block.pop("scan"), "dataset": {"source": "image-folder", "root": block.pop("data"), "size": 32}}
    assert block.pop("size") == own["dataset"]["size"]
    shown, default = read_scan(own | block), read_scan(own)
    # These depend on the size of the data by default.
    assert (shown.suspects, shown.poisons, default.suspects, default.poisons) == (200, 25, None, None)
    assert shown.model_copy(update={"suspects": None, "poisons": None}) == default


def test_the_committed_trials_of_table_4_are_there() -> None:
    (block,) = map(yaml.safe_load, blocks("reproduce-table-4.md", "yaml"))
    mini = yaml.safe_load((ROOT / "config" / "paper-mini.yaml").read_text("utf-8"))
    assert all((ROOT / path).is_file() for path in read_study(laid_over([mini, block])).merge)


def test_the_lines_of_profiles_are_options_and_the_others_keys() -> None:
    options = {option for action in get_argument_parser()._actions for option in action.option_strings}
    default = yaml.safe_load((ROOT / "config.yaml").read_text("utf-8"))
    *profiles, config = map(yaml.safe_load, blocks("cluster.md", "yaml"))
    assert len(profiles) == 2
    assert [key for profile in profiles for key in profile if f"--{key}" not in options] == []
    merged = config | {"merge": []}  # whose file is another machine's
    assert read_study(laid_over([default, merged])).seeds == tuple(config["seeds"])


def rows() -> list[str]:
    page = (ROOT / "docs" / "own-data.md").read_text("utf-8")
    return re.findall(r"^\| [^|]+ \| `(\{source: .+?\})` \|", page, re.MULTILINE)


@pytest.mark.parametrize("line", rows())
def test_the_lines_for_datasets_are_datasets(line: str) -> None:
    TypeAdapter(DatasetSettings).validate_python(yaml.safe_load(line))


def test_most_formats_have_a_line() -> None:
    assert len(rows()) >= 8
