"""workflow/scripts/report.py: one HTML file that holds every number, needs no other file and runs nothing."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from loading import program
from made import VICTIM
from made import line as line_of
from made import trial as made_trial
from PIL import Image

from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.errors import DataError, SettingsError
from poisonlab.evaluation.choosing import MEAN
from poisonlab.evaluation.trials import Trial, write_trials
from poisonlab.files import write_sealed
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]
LOOKS = ROOT / "workflow" / "report"
TEMPLATE = LOOKS / "report.html"

report_script = program("report")

VOID = {"meta", "img", "br", "hr", "link", "input", "base", "col"}
LOADED = {"iframe", "object", "embed", "link", "base", "form", "audio", "video", "source"}


@dataclass
class Page(HTMLParser):
    """The page's elements and texts; fails on a tag that is not closed in turn."""

    html: str
    elements: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    """Cells of all tables, line by line."""

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.feed(self.html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs)
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            return
        self.texts.append(data)
        if any(tag in self.open for tag in ("td", "th")):
            self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, tag: str, attribute: str) -> list[str]:
        return [values[attribute] for name, values in self.elements if name == tag and attribute in values]

    @property
    def victims(self) -> list[dict[str, str]]:
        """The lines of the table of all victims."""
        place = max(place for place, row in enumerate(self.rows) if row[:4] == ["attack", "victim", "defense", "seed"])
        return [dict(zip(self.rows[place], row, strict=True)) for row in self.rows[place + 1 :]]


ROWS = [["gm", "none", "2", "61.8 [5.5, 94.5]"], ["gm", "friends", "1", "–"]]
TABLE = {
    "findings": ["gm: 61.8 % and 33.125."],
    "notes": ["A note."],
    "tables": [
        {
            "heading": "",
            "columns": ["Attack", "Defense", "n", "Poison success"],
            "rows": ROWS,
            "victims": [[["gm", VICTIM, "none"]], []],
        }
    ],
}
TIMES: dict[str, Any] = {
    "findings": [],
    "notes": ["Wall time."],
    "tables": [
        {"heading": "", "columns": ["Defense", "Seconds"], "rows": [["none", "17.5"]], "victims": [[]]},
    ],
}
CARD = {
    "device": "NVIDIA H200",
    "threads": "1",
    "torch": "2.11.0",
    "python": "3.12.1",
    "commit": "0c8c087",
    "finished": "2031-04-05T06:07:08Z",
}


def png(colour: tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (7, 5), colour).save(file, "PNG")
    return file.getvalue()


def trial(defense: str, seed: int, success: float = 1.0, accuracy: float = 0.9375, **more: Any) -> Trial:
    defaults = {"settings": f"settings of {defense}", "seconds": 90.0}
    return made_trial("gm", defense, seed, success, accuracy, **{**defaults, **more})


def line(defense: str, seeds: Sequence[int] = (0, 1)) -> dict[str, Any]:
    return line_of("gm", defense, seeds, settings=f"settings of {defense}")


@dataclass
class Made:
    """A folder with the files of a small study."""

    folder: Path

    def __post_init__(self) -> None:
        write_sealed(self.folder / "table.json", TABLE)
        write_sealed(self.folder / "time.json", TIMES)
        (self.folder / "one.png").write_bytes(png((200, 10, 10)))
        (self.folder / "two.png").write_bytes(png((10, 10, 200)))
        (self.folder / "one.txt").write_text("Success 61.8 % of n = 2.\n", encoding="utf-8")
        (self.folder / "two.txt").write_text("Loss from 0.125 to 7.75.\n", encoding="utf-8")
        self.trials("own", trial("none", 0), trial("none", 1, 0.0, 0.8125, seconds=3600.0), trial("friends", 0))

    @property
    def html(self) -> Path:
        return self.folder / "results/reports/tiny.html"

    def trials(self, name: str, *trials: Trial, **card: str) -> Path:
        path = self.folder / f"{name}.csv"
        write_trials(path, [replace(each, provenance={**CARD, **card}) for each in trials])
        return path

    def spec(self, **changes: Any) -> dict[str, Any]:
        place = "{attack}/{victim}/{defense}/seed{seed}.card.json"
        figures = [
            {"title": f"Figure {name}", "png": f"{self.folder}/{name}.png", "caption": f"{self.folder}/{name}.txt"}
            for name in ("one", "two")
        ]
        values: dict[str, Any] = {
            "study": "tiny",
            "description": "Made up, as a test.",
            "scale": ["Data: 1,234 images.", "Victims: small-resnet."],
            "lines": [line("none"), line("friends"), line("strip", [0])],
            "sections": [
                {
                    "title": "Outcome",
                    "blocks": [
                        figures[0],
                        {"title": "Numbers", "findings": f"{self.folder}/table.json"},
                        {"title": "Time", "findings": f"{self.folder}/time.json"},
                    ],
                },
                {"title": "Pictures", "blocks": figures[1:]},
            ],
            "cards": f"{self.folder}/results/victims/tiny/{place}",
            "detections": f"{self.folder}/results/detections/tiny/{place}",
            "detectors": ["strip"],
        }
        return {**values, **changes}

    def page(self, *files: Path, template: Path = TEMPLATE, **changes: Any) -> Page:
        inputs = files or (self.folder / "own.csv",)
        looks = {"template": template, "style": LOOKS / "report.css", "script": LOOKS / "report.js"}
        options = [each for name, path in looks.items() for each in (f"--{name}", path)]
        options += ["--trials", *inputs, "--html", self.html]
        report_script.main(["--spec", *spec(**self.spec(**changes)), *map(str, options)])
        return Page(self.html.read_text("utf-8"))


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path)


# --- what is in it --------------------------------------------------------------------------------------------------


def test_every_number_is_in_it(made: Made) -> None:
    page = made.page()
    for row in (
        ["Attack", "Defense", "n", "Poison success"],
        ["gm", "none", "2", "61.8 [5.5, 94.5]"],
        ["gm", "friends", "1", "–"],
        ["none", "17.5"],
    ):
        assert row in page.rows
    for text in (
        "tiny",
        "Made up, as a test.",
        "Data: 1,234 images.",
        "Victims: small-resnet.",
        "gm: 61.8 % and 33.125.",
        "A note.",
        "Wall time.",
        "Success 61.8 % of n = 2.",
        "Loss from 0.125 to 7.75.",
        # 90 s twice and an hour.
        "3 of 5 victims, 1.1 hours",
        "3 on NVIDIA H200 (1 CPU thread), torch 2.11.0, Python 3.12.1, commit 0c8c087",
    ):
        assert text in page.text
    # What a table says stands above it, once.
    assert page.text.index("gm: 61.8 % and 33.125.") < page.text.index("61.8 [5.5, 94.5]")
    assert page.text.count("33.125") == 1
    assert [tuple(each[name] for name in each if name not in ("prediction", "card")) for each in page.victims] == [
        (
            "gm",
            VICTIM,
            name,
            seed,
            success,
            confidence,
            accuracy,
            seconds,
            *(CARD[key] for key in ("device", "torch", "commit", "finished")),
        )
        for name, seed, success, confidence, accuracy, seconds in (
            ("none", "0", "1.000", "0.500", "0.938", "90.0"),
            ("none", "1", "0.000", "0.000", "0.812", "3600.0"),
            ("friends", "0", "1.000", "0.500", "0.938", "90.0"),
        )
    ]


def test_the_classes_of_every_seed_are_in_it(made: Made) -> None:
    header = ["attack", "seeds", "class of the bases", "true class", "adversarial class"]
    assert header not in made.page().rows
    both = {"base_class": "dog", "true_class": "<b>cat", "adversarial_class": "dog"}
    made.trials(
        "own",
        trial("none", 0, classes=both),
        trial("none", 1, classes={"base_class": "10 classes"}),
        trial("friends", 0, classes=both),
        trial("friends", 1),
    )
    rows = made.page().rows
    place = rows.index(header)
    assert rows[place + 1 : place + 3] == [["gm", "0", "dog", "<b>cat", "dog"], ["gm", "1", "10 classes", "–", "–"]]
    made.trials("own", trial("none", 0, classes=both), trial("none", 1, classes=both))
    assert ["gm", "0, 1", "dog", "<b>cat", "dog"] in made.page().rows


WHOM = {"true_class": "cat", "adversarial_class": "dog"}
PREDICTED = [
    ({"success": 1.0, "targets": 1}, "dog at 75.0 %"),
    ({"success": 0.0, "targets": 1, "target_accuracy": 1.0}, "cat (right), adversarial class at 75.0 %"),
    ({"success": 0.0, "targets": 1, "target_accuracy": 0.0}, "a third class, adversarial class at 75.0 %"),
    ({"success": 0.0, "targets": 1}, "not the adversarial class, adversarial class at 75.0 %"),
    (
        {"success": 0.0, "targets": 1, "target_accuracy": 0.0, "targets_rejected": 1.0},
        "turned away, adversarial class at 75.0 %",
    ),
    (
        {"success": 0.25, "targets": 8, "target_accuracy": 0.5},
        "25.0 % of 8 targets as dog, 50.0 % right, adversarial class at 75.0 %",
    ),
    ({"success": 1.0, "targets": 8}, "100.0 % of 8 targets as dog, adversarial class at 75.0 %"),
    ({"success": 0.0}, "0.0 % of the targets as dog, adversarial class at 75.0 %"),
]


def test_the_measures_say_what_each_victim_predicts(made: Made) -> None:
    rows = [
        trial("none", seed, classes=WHOM, adversarial_confidence=0.75, **measures)
        for seed, (measures, _) in enumerate(PREDICTED)
    ]
    rows.append(trial("none", len(rows), float("nan"), adversarial_confidence=float("nan")))
    made.trials("own", *rows)
    page = made.page(lines=[line("none", range(len(rows)))])
    assert [row["prediction"] for row in page.victims] == [*(words for _, words in PREDICTED), "–"]


def poison_set(path: Path, colours: Sequence[int], size: int = 32, channels: int = 3) -> dict[str, Any]:
    """A poison set with targets of one grey each."""
    images = torch.zeros(1, channels, size, size, dtype=torch.uint8)
    targets = torch.stack([torch.full_like(images[0], colour) for colour in colours]) if colours else None
    labels = torch.zeros(len(colours), dtype=torch.int64)
    goal = None if targets is None else Goal(targets, labels, labels)
    PoisonSet(torch.tensor([0]), images, torch.tensor([0]), images, goal).save(path)
    return {"attack": "gm", "seed": int(path.stem), "path": str(path)}


def targets_of(page: Page) -> list[list[Image.Image]]:
    """The images of the targets in each line of the table of all victims."""
    coded = dict(re.findall(r"[.](t\d+) { background-image: url\(data:image/png;base64,([^)]*)\)", page.html))
    lines: list[list[Image.Image]] = []
    for tag, values in page.elements:
        if tag == "tr" and "data-of" in values:
            lines.append([])
        if tag == "span" and values.get("role") == "img":
            name = values["class"].removeprefix("target ")
            lines[-1].append(Image.open(io.BytesIO(base64.b64decode(coded[name]))))
    return lines


def test_each_victim_has_its_targets_and_each_image_is_in_it_once(made: Made) -> None:
    sets = [
        poison_set(made.folder / f"{seed}.safetensors", colours) for seed, colours in enumerate(([7], [7, 8, 9, 10]))
    ]
    page = made.page(poisons=sets)
    found = [[image.getpixel((3, 4)) for image in images] for images in targets_of(page)[-3:]]
    # The table's row that opens has no targets of its own; of more than three the first are shown.
    assert found == [[(7, 7, 7)], [(7, 7, 7), (8, 8, 8), (9, 9, 9)], [(7, 7, 7)]]
    assert page.html.count("background-image: url(") == 3
    assert [row["target"] for row in page.victims] == ["", "", ""]
    assert "target" not in made.page().victims[0]


def test_large_targets_are_made_smaller_and_grey_ones_stay_grey(made: Made) -> None:
    sets = [
        poison_set(made.folder / "0.safetensors", [7], size=224),
        poison_set(made.folder / "1.safetensors", [9], channels=1),
    ]
    (large,), (grey,), _ = targets_of(made.page(poisons=sets))[-3:]
    assert (large.size, large.mode, grey.size, grey.mode) == ((64, 64), "RGB", (32, 32), "L")


def test_a_set_without_goal_has_no_target(made: Made) -> None:
    sets = [poison_set(made.folder / "0.safetensors", [])]
    assert "target" not in made.page(poisons=sets).victims[0]


def test_trials_from_elsewhere_have_no_target_here(made: Made) -> None:
    sets = [poison_set(made.folder / "0.safetensors", [7])]
    page = made.page(made.trials("nothing"), made.trials("there", trial("none", 0)), poisons=sets)
    assert "target" not in page.victims[0]


@pytest.mark.parametrize("broken", [b"", b"no safetensors", None])
def test_a_poison_set_that_cannot_be_read_is_one_line(made: Made, broken: bytes | None) -> None:
    path = made.folder / "0.safetensors"
    if broken is not None:
        path.write_bytes(broken)
    with pytest.raises(DataError, match=r"0\.safetensors is (damaged|missing)[^\n]*$"):
        made.page(poisons=[{"attack": "gm", "seed": 0, "path": str(path)}])
    assert not made.html.parent.exists()


def test_rows_know_their_victims_and_a_mean_knows_all(made: Made) -> None:
    table = {**TABLE["tables"][0], "rows": [["a"], ["b"], ["c"]], "columns": ["x"]}
    table["victims"] = [[["gm", MEAN, "none"]], [["gm", "deep", "none"], ["gm", "gone", "none"]], []]
    write_sealed(made.folder / "table.json", {**TABLE, "tables": [table]})
    lines = [line("none"), {**line("none"), "victim": "deep"}]
    keys = [values.get("data-of") for tag, values in made.page(lines=lines).elements if tag == "tr"]
    assert f"gm/{VICTIM}/none gm/deep/none" in keys
    assert "gm/deep/none" in keys


def test_a_finding_knows_its_attack(made: Made) -> None:
    assert [tag for tag, values in made.page().elements if values.get("data-attack") == "gm"] == ["p"]


def test_a_finding_about_an_attack_stands_at_its_table(made: Made) -> None:
    table = TABLE["tables"][0]
    tables = [{**table, "heading": heading} for heading in ("gm against every attack", "gm")]
    findings = ["gm: 61.8 %.", "gm on resnet: 1 %.", "Faster is stronger: confirmed.", "other: 2 %."]
    write_sealed(made.folder / "table.json", {**TABLE, "tables": tables, "findings": findings})
    text = made.page().text
    places = [text.index(part) for part in (findings[2], findings[3], "gm against every attack", *findings[:2])]
    assert places == sorted(places)


def test_the_program_starts_without_torch(made: Made) -> None:
    code = "import sys, report; print('torch' in sys.modules)"
    paths = os.pathsep.join([str(ROOT / "src"), str(ROOT / "workflow/scripts")])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_images_are_in_it_bit_for_bit(made: Made) -> None:
    sources = made.page().all("img", "src")
    prefix = "data:image/png;base64,"
    assert all(source.startswith(prefix) for source in sources)
    decoded = [base64.b64decode(source.removeprefix(prefix), validate=True) for source in sources]
    assert decoded == [(made.folder / f"{name}.png").read_bytes() for name in ("one", "two")]
    assert decoded[0] != decoded[1]


def test_every_part_can_be_reached_from_the_contents(made: Made) -> None:
    page = made.page()
    inside = [link.removeprefix("#") for link in page.all("a", "href") if link.startswith("#")]
    ids = [values["id"] for _, values in page.elements if "id" in values]
    assert sorted(inside) == sorted(ids)
    assert len(set(ids)) == len(ids) == 2 + 2 + 4
    assert page.all("img", "alt") == ["Figure one", "Figure two"]


def test_without_tables_or_figures_there_are_the_victims(made: Made) -> None:
    page = made.page(sections=[], scale=[])
    assert len(page.victims) == 3
    assert page.all("img", "src") == []


def test_a_study_in_which_nothing_was_run(made: Made) -> None:
    page = made.page(made.trials("nothing"))
    assert "0 of 5 victims, 0.0 hours" in page.text
    assert page.victims == []


# --- self-contained -------------------------------------------------------------------------------------------------


def outside(page: Page) -> list[str]:
    """What the page loads or leads to beyond itself."""
    places = [
        values[name]
        for _, values in page.elements
        for name in ("src", "href", "srcset", "poster", "data", "action", "background", "xlink:href", "formaction")
        if name in values
    ]
    return [place for place in places if not place.startswith(("#", "data:image/png;base64,"))]


def test_only_run_cards_lie_outside(made: Made) -> None:
    page = made.page()
    assert outside(page) == [
        f"../victims/tiny/gm/{VICTIM}/{name}/seed{seed}.card.json"
        for name, seed in (("none", 0), ("none", 1), ("friends", 0))
    ]
    assert {tag for tag, _ in page.elements} & LOADED == set()
    style = page.html[page.html.index("<style>") : page.html.index("</style>")]
    assert style.count("url(") == style.count("url(data:image/png;base64,")
    assert "@import" not in style


def test_one_script_runs_and_only_if_it_is_the_page_s_own(made: Made) -> None:
    page = made.page()
    assert [values for tag, values in page.elements if tag == "script"] == [{}]
    script = (LOOKS / "report.js").read_bytes()
    assert f"<script>{script.decode()}</script>" in page.html
    (policy,) = (values["content"] for tag, values in page.elements if tag == "meta" and "http-equiv" in values)
    digest = base64.b64encode(hashlib.sha256(script).digest()).decode()
    assert [part.strip() for part in policy.split(";")] == [
        "default-src 'none'",
        "img-src data:",
        "style-src 'unsafe-inline'",
        f"script-src 'sha256-{digest}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]


def test_links_lead_to_the_cards_that_are_there(made: Made) -> None:
    made.trials("own", trial("none", 0), trial("strip", 0))
    cards = [
        made.folder / f"results/victims/tiny/gm/{VICTIM}/none/seed0.card.json",
        made.folder / f"results/detections/tiny/gm/{VICTIM}/strip/seed0.card.json",
    ]
    for card in cards:
        card.parent.mkdir(parents=True)
        card.write_text("{}", encoding="utf-8")
    links = outside(made.page())
    assert not any(Path(link).is_absolute() for link in links)
    assert [(made.html.parent / link).resolve() for link in links] == [card.resolve() for card in cards]


def test_links_are_relative_to_the_report_wherever_the_program_runs(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.folder)
    relative = "results/victims/tiny/{attack}/{victim}/{defense}/seed{seed}.card.json"
    assert outside(made.page(cards=relative))[0] == f"../victims/tiny/gm/{VICTIM}/none/seed0.card.json"


BAD = "<script>alert(1)</script><img src=x onerror=alert(2)>\" onload='alert(3)' &amp; </p></table>"


def test_markup_is_shown_and_not_run(made: Made) -> None:
    (made.folder / "one.txt").write_text(f"Success 61.8 {BAD}", encoding="utf-8")
    for name, content in (("table.json", TABLE), ("time.json", TIMES)):
        text = json.dumps(content).replace("61.8", "61.8 BAD").replace("17.5", "BAD")
        write_sealed(made.folder / name, json.loads(text.replace("BAD", json.dumps(BAD)[1:-1])))
    sections = made.spec()["sections"]
    sections[0]["title"] = sections[0]["blocks"][0]["title"] = BAD
    made.trials("own", trial("none", 0), device=BAD, commit=BAD, finished=BAD)
    page = made.page(sections=sections, description=BAD, scale=[BAD])
    tags = [tag for tag, _ in page.elements]
    assert tags.count("script") == 1
    assert tags.count("img") == 2
    assert not [name for _, values in page.elements for name in values if name.startswith("on")]
    # Heading, contents twice, block, caption, cell, note, description, scale, machine and card; alt is no text.
    assert page.text.count("<script>alert(1)</script>") >= 11
    assert page.all("img", "alt")[0] == BAD
    # What stands there is what was written.
    assert BAD in page.text
    assert [page.victims[0][name] for name in ("device", "commit", "finished")] == [BAD] * 3


# --- which trials ---------------------------------------------------------------------------------------------------


def test_merged_trials_name_their_source_and_own_ones_their_card(made: Made) -> None:
    there = made.trials("there", trial("none", 0, 0.125), trial("friends", 1, 0.25), device="A40", torch="2.12.0")
    other = made.trials("other", trial("friends", 1, 0.5), trial("strip", 0, 0.75), device="A40", torch="2.12.0")
    page = made.page(made.folder / "own.csv", there, other)
    assert [(each["defense"], each["seed"], each["success"], each["card"]) for each in page.victims] == [
        ("none", "0", "1.000", "card"),
        ("none", "1", "0.000", "card"),
        ("friends", "0", "1.000", "card"),
        ("friends", "1", "0.250", f"from {there}"),
        ("strip", "0", "0.750", f"from {other}"),
    ]
    assert len(outside(page)) == 3
    assert "5 of 5 victims" in page.text
    for place in ("3 on NVIDIA H200 (1 CPU thread), torch 2.11.0", "2 on A40 (1 CPU thread), torch 2.12.0"):
        assert place in page.text


def test_trials_with_other_settings_or_of_no_line_do_not_appear(made: Made) -> None:
    own = made.trials(
        "own",
        trial("none", 0, settings="older", seconds=1e6),
        trial("none", 1),
        trial("none", 7),
        trial("unknown", 0),
    )
    page = made.page(own)
    assert [(each["defense"], each["seed"]) for each in page.victims] == [("none", "1")]
    assert "1 of 5 victims, 0.0 hours" in page.text
    # What the own file cannot answer for, another may.
    page = made.page(own, made.trials("there", trial("none", 0)))
    assert [(each["seed"], each["card"] == "card") for each in page.victims] == [("0", False), ("1", True)]


def test_victims_stand_in_the_order_of_the_study(made: Made) -> None:
    own = made.trials("own", trial("friends", 0), trial("none", 1), trial("none", 0))
    lines = [line("none", [1, 0]), line("friends", [0])]
    found = [(each["defense"], each["seed"]) for each in made.page(own, lines=lines).victims]
    assert found == [("none", "1"), ("none", "0"), ("friends", "0")]


def test_what_is_unknown_is_no_number(made: Made) -> None:
    nan = float("nan")
    unknown = [trial("none", 0, nan, nan, seconds=nan), trial("none", 1, seconds=nan)]
    page = made.page(made.trials("own", *unknown, **dict.fromkeys(CARD, "")))
    assert [page.victims[0][name] for name in ("success", "accuracy", "seconds")] == ["–", "–", ""]
    assert "2 of 5 victims, 0.0 hours" in page.text
    assert "2 on unknown (unknown CPU threads), torch unknown, Python unknown, commit unknown" in page.text


# --- what goes wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["time.json", "one.png", "two.txt", "own.csv"])
def test_a_missing_file_is_one_line_and_leaves_nothing(made: Made, name: str) -> None:
    (made.folder / name).unlink()
    with pytest.raises(
        DataError, match=re.escape(str(made.folder / name)) + "( is missing|: cannot be read)"
    ) as caught:
        made.page()
    assert "\n" not in str(caught.value)
    assert not made.html.parent.exists()


def test_a_missing_template_is_one_line(made: Made) -> None:
    with pytest.raises(DataError, match=r"none\.html is missing: run the workflow[^\n]*$"):
        made.page(template=made.folder / "none.html")
    assert not made.html.parent.exists()


@pytest.mark.parametrize("name", ["table.json", "time.json", "one.txt"])
def test_a_damaged_text_is_one_line(made: Made, name: str) -> None:
    (made.folder / name).write_bytes(b"\xff\xfe\x00 broken")
    with pytest.raises(DataError, match=f"{name} is damaged .no UTF-8 text.: restore it"):
        made.page()
    assert not made.html.parent.exists()


@pytest.mark.parametrize("content", [{}, {"findings": [], "notes": []}, {"findings": 1}])
def test_what_is_no_table_is_one_line(made: Made, content: dict[str, Any]) -> None:
    write_sealed(made.folder / "table.json", content)
    with pytest.raises(DataError, match=r"table\.json is damaged \(it holds no table\): [^\n]+$"):
        made.page()


def test_a_missing_table_is_one_line(made: Made) -> None:
    (made.folder / "table.json").unlink()
    with pytest.raises(DataError, match=r"table\.json is missing: run the workflow to make it"):
        made.page()
    assert not made.html.parent.exists()


@pytest.mark.parametrize("text", ["", "{"])
def test_what_is_no_json_is_one_line(made: Made, text: str) -> None:
    (made.folder / "table.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=r"table\.json is damaged \(not JSON\): [^\n]+$"):
        made.page()


def test_trials_from_before_victims_had_names_are_those_of_the_first(made: Made) -> None:
    page = made.page(made.trials("own", trial("none", 0, victim="")))
    assert [each["victim"] for each in page.victims] == [VICTIM]


def test_damaged_trials_are_one_line(made: Made) -> None:
    path = made.folder / "own.csv"
    path.write_text(path.read_text("utf-8").replace("0.8125", "high"), encoding="utf-8")
    with pytest.raises(DataError, match=r"own\.csv is damaged \(line 3 is not a trial: [^\n]+$"):
        made.page()
    assert not made.html.parent.exists()


def test_an_older_report_survives_a_failure(made: Made) -> None:
    made.page()
    before = made.html.read_bytes()
    (made.folder / "two.png").unlink()
    with pytest.raises(DataError):
        made.page()
    assert made.html.read_bytes() == before
    assert [path.name for path in made.html.parent.iterdir()] == ["tiny.html"]


def test_a_malformed_spec_is_one_line(made: Made) -> None:
    with pytest.raises(SettingsError, match=r"^--spec sections\.0\.blocks: [^\n]+$"):
        made.page(sections=[{"title": "Empty", "blocks": []}])


def test_the_same_inputs_give_the_same_bytes(made: Made) -> None:
    made.page()
    first = made.html.read_bytes()
    made.html.unlink()
    made.page()
    assert made.html.read_bytes() == first
