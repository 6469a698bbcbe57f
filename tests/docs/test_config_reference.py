"""docs/config.md says what the settings classes say."""

from __future__ import annotations

import importlib.util
from types import ModuleType
from typing import Any

import pytest
import yaml
from doc_pages import ROOT

from poisonlab.config.types import Settings


def load_generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("config_reference", ROOT / "docs" / "generate_config_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generator = load_generator()
CURE = "run: python docs/generate_config_reference.py --write"


def test_the_reference_is_in_sync() -> None:
    assert generator.REFERENCE.read_text(encoding="utf-8") == generator.reference(), CURE


def test_settings_of_a_program_with_the_name_of_a_config_s_change_nothing() -> None:
    class Victim(Settings):
        name: str

    assert Victim in Settings.__subclasses__()
    assert generator.REFERENCE.read_text(encoding="utf-8") == generator.reference()


def keys_of(value: Any) -> set[str]:
    if isinstance(value, dict):
        return set(value).union(*(keys_of(inner) for inner in value.values()))
    return set().union(*(keys_of(inner) for inner in value)) if isinstance(value, list) else set()


@pytest.mark.parametrize("name", ["config.yaml", "config/smoke.yaml"])
def test_every_key_of_the_shipped_configs_is_explained(name: str) -> None:
    config = yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))
    reference = generator.REFERENCE.read_text(encoding="utf-8")
    assert [key for key in keys_of(config) if f"| `{key}` |" not in reference] == []


def test_every_link_leads_to_a_section() -> None:
    reference = generator.REFERENCE.read_text(encoding="utf-8")
    headings = {line.removeprefix("## ").lower() for line in reference.splitlines() if line.startswith("## ")}
    linked = {part.partition(")")[0] for part in reference.split("](#")[1:]}
    assert linked <= headings
