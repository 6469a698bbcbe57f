"""workflow/scripts/trials.py and tables.py: what a row costs, which trials count, published numbers, the notes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from loading import program
from made import VICTIM, line, put, told
from made import trial as made_trial

from poisonlab.errors import DataError
from poisonlab.evaluation.trials import Trial, read_trials
from poisonlab.files import write_sealed
from poisonlab.provenance import spec

ROOT = Path(__file__).resolve().parents[2]


trials_script, tables_script = program("trials"), program("tables")


@dataclass(frozen=True)
class Cell:
    """One victim or detection, and what its files say."""

    defense: str
    seed: int = 0
    attack: str = "a"
    victim: str = VICTIM
    metrics: dict[str, Any] = field(default_factory=dict)
    """Adds to ``measures`` that are complete."""
    seconds: float = 1.0
    noise: float | None = None
    """Seconds of its friendly noise, if it has any."""
    filter: float | None = None
    """Seconds of its filters, if it has any."""
    network: str | None = None
    detector: bool = False
    control: bool = False

    @property
    def row(self) -> tuple[str, str, str]:
        return self.attack, self.victim, self.defense


def put_files(folder: Path, cells: Sequence[Cell], **card: Any) -> None:
    """What the jobs of the cells leave behind."""
    for cell in cells:
        place = f"{cell.attack}/{cell.victim}/{cell.defense}/seed{cell.seed}"
        outcome = folder / ("detections" if cell.detector else "victims") / place
        measures = {"success": 0.0, "adversarial_confidence": 0.5, "accuracy": 0.9, **cell.metrics.get("measures", {})}
        metrics = {"targets": 1, **cell.metrics, "measures": measures}
        write_sealed(outcome.with_name(f"{outcome.name}.metrics.json"), metrics)
        write_sealed(outcome.with_name(f"{outcome.name}.card.json"), {"seconds": cell.seconds, **card})
        if cell.noise is not None:
            # The epochs that the victim trains anyway are not charged twice.
            write_sealed(folder / f"noise/{place}.card.json", {"seconds": 1000.0, "cost_seconds": cell.noise})
        if cell.filter is not None:
            write_sealed(folder / f"filters/{place}.card.json", {"seconds": cell.filter})


def digest(attack: str, defense: str) -> str:
    return f"settings of {attack}/{defense}"


def rows_of(cells: Sequence[Cell]) -> dict[tuple[str, str, str], list[Cell]]:
    rows: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        rows.setdefault(cell.row, []).append(cell)
    return rows


def gather(folder: Path, cells: Sequence[Cell], merge: Sequence[Path] = (), told: bool = True) -> Path:
    """The file of trials that trials.py makes; ``told``: whether it is told what settings they were made with."""
    lines = [
        {
            "attack": attack,
            "victim": victim,
            "defense": defense,
            "seeds": [cell.seed for cell in row],
            "settings": digest(attack, defense) if told else None,
            "detector": row[0].detector,
            "noise": row[0].noise is not None,
            "filter": row[0].filter is not None,
            "network": row[0].network,
            "network_settings": row[0].network and digest(attack, row[0].network),
        }
        for (attack, victim, defense), row in rows_of(cells).items()
    ]
    folders = (part for kind in ("victims", "detections", "noise", "filters") for part in (f"--{kind}", folder / kind))
    options = [*folders, *(("--merge", *merge) if merge else ()), "--trials", folder / "own-trials.csv"]
    trials_script.main(["--spec", *spec(lines=lines), *map(str, options)])
    return folder / "own-trials.csv"


def show(
    folder: Path, cells: Sequence[Cell], files: Sequence[Path], called: dict[str, str] | None = None, **more: Any
) -> dict[str, str]:
    """The texts of the tables that tables.py makes of trials."""
    lines = [
        line(
            attack,
            defense,
            [cell.seed for cell in row],
            victim,
            control=row[0].control,
            called=(called or {}).get(defense, defense),
        )
        for (attack, victim, defense), row in rows_of(cells).items()
    ]
    outputs = {kind: folder / f"table.{kind}" for kind in ("csv", "md", "tex", "json", "time", "costs")}
    claims = list(more.pop("claims", ()))
    tables_script.main(
        [
            *("--spec", *spec(**told(lines, claims=claims, **more))),
            *("--trials", *map(str, files), "--reference", str(ROOT / "reference" / "friends")),
            *(part for kind, path in outputs.items() for part in (f"--{kind}", str(path))),
        ]
    )
    return {kind: path.read_text("utf-8") for kind, path in outputs.items()}


def run_scripts(folder: Path, cells: Sequence[Cell], **more: Any) -> dict[str, str]:
    """The texts of the tables of what was all run here."""
    put_files(folder, cells)
    return show(folder, cells, [gather(folder, cells)], **more)


def by_defense(text: str) -> pd.DataFrame:
    """A CSV, as text."""
    return pd.read_csv(StringIO(text), index_col="defense", keep_default_na=False)


def tables(
    folder: Path,
    claims: Sequence[dict[str, Any]],
    rows: tuple[str, ...] = ("none", "friends-bernoulli"),
    called: dict[str, str] | None = None,
) -> tuple[pd.DataFrame, str]:
    """The CSV and the Markdown of one attack ``a`` with two seeds per row."""
    cells = [Cell(row, seed, metrics={"measures": {"success": float(seed == 0)}}) for row in rows for seed in (0, 1)]
    texts = run_scripts(folder, cells, claims=claims, called=called)
    return by_defense(texts["csv"]), texts["md"]


def published_beside(table: pd.DataFrame) -> dict[str, tuple[str, str]]:
    return {str(defense): (line["published_success"], line["published_accuracy"]) for defense, line in table.iterrows()}


def test_a_row_of_a_table_with_several_attacks(tmp_path: Path) -> None:
    table, text = tables(tmp_path, [{"attack": "a", "table": 3, "row": "Bullseye Polytope | Transfer"}])
    # FRIENDS, table 3.
    numbers = pd.read_csv(ROOT / "reference" / "friends" / "table3.csv", keep_default_na=False)
    own = numbers[numbers["row"] == "Bullseye Polytope | Transfer"]
    for defense in ("none", "friends-bernoulli"):
        for name in ("success", "accuracy"):
            value = own[(own["defense"] == defense) & (own["measure"] == name)]["value"].item()
            assert float(table.loc[defense, f"published_{name}"]) == pytest.approx(float(value) / 100)
    assert float(table.loc["friends-bernoulli", "published_accuracy"]) == pytest.approx(0.7935)
    assert "FRIENDS, table 3" in text


def test_a_table_of_one_attack_needs_no_row(tmp_path: Path) -> None:
    table, _ = tables(tmp_path, [{"attack": "a", "table": 4}])
    beside = {row: tuple(map(float, values)) for row, values in published_beside(table).items()}
    assert beside["none"] == pytest.approx((0.75, 0.935))
    assert beside["friends-bernoulli"] == pytest.approx((0, 0.9152))


def test_without_published_numbers_there_is_no_column_to_read(tmp_path: Path) -> None:
    table, text = tables(tmp_path, [])
    assert set(published_beside(table).values()) == {("", "")}
    assert "Published" not in text


def test_attacks_have_the_measures_and_the_methods_that_they_declare(tmp_path: Path) -> None:
    """A backdoor's rates count over its images, so that two seeds at 1 and 0 are no two yes or no."""
    cells = [
        Cell(
            "none",
            seed,
            "sa",
            metrics={"targets": 1000, "measures": {"success": 1 - seed, "untriggered_success": 0.125}},
        )
        for seed in (0, 1)
    ]
    texts = run_scripts(tmp_path, cells)
    table = by_defense(texts["csv"])
    assert float(table.loc["none", "untriggered_success"]) == 0.125
    # Clopper and Pearson's of 1 in 2, where Wilson's is [0.095, 0.905].
    assert float(table.loc["none", "success_low"]) == pytest.approx(0.0126, abs=1e-4)
    success = "- Poison success: share of the targets, or of the triggered images, that get the adversarial label; "
    assert f"{success}mean over seeds with Gaffke's interval" in texts["md"]
    assert "without the trigger" in texts["md"]
    texts = run_scripts(tmp_path, [Cell("none"), Cell("d")])
    assert "untriggered" not in texts["csv"]
    assert "trigger" not in texts["md"]
    success = "- Poison success: whether the target gets the adversarial label; "
    assert f"{success}share of the seeds with Wilson's interval." in texts["md"]


def test_victims_stand_apart_and_in_the_mean(tmp_path: Path) -> None:
    cells = [
        Cell("none", seed, victim=victim, metrics={"measures": {"success": float(victim == "one")}})
        for victim in ("one", "two")
        for seed in (0, 1)
    ]
    texts = run_scripts(tmp_path, cells, mean_over_victims=True, claims=[{"attack": "a", "table": 4}])
    rows = json.loads(texts["json"])["tables"][0]
    assert rows["columns"][:3] == ["Attack", "Victim", "Defense"]
    assert [row[1:3] for row in rows["rows"]] == [["one", "none"], ["two", "none"], ["mean", "none"]]
    assert rows["victims"] == [[["a", victim, "none"]] for victim in ("one", "two", "mean")]
    # FRIENDS, table 4: 75 % undefended.
    place = rows["columns"].index("Published poison success")
    assert [row[place] for row in rows["rows"]] == ["", "", "75.0 (inside)"]
    # Two victims of a seed, one of which succeeds, are no yes or no.
    (note,) = (line for line in texts["md"].splitlines() if line.startswith("- Victim 'mean'"))
    assert note.endswith(
        "Its shares of yes and no have Gaffke's interval, and are tested by flipping signs of differences."
    )


def test_rows_of_several_attacks_stand_in_the_line_that_they_share(tmp_path: Path) -> None:
    met = (("a", "none"), ("a", "near"), ("b", "none"), ("b", "far"))
    cells = [
        Cell(defense, seed, attack, metrics={"measures": {"success": float(defense == "none")}})
        for attack, defense in met
        for seed in ((0,) if defense == "far" else (0, 1))
    ]
    texts = run_scripts(tmp_path, cells, compare=["none"], joined=[{"line": "knn", "rows": ["near", "far"]}])
    head = json.loads(texts["json"])["tables"][0]
    assert head["heading"] == "Poison success against every attack, %"
    assert head["rows"] == [["none", "100.0", "100.0"], ["knn", "0.0", "0.0 (n = 1)"]]
    assert head["victims"][1] == [["a", VICTIM, "near"], ["b", VICTIM, "far"]]
    assert "with n where the attack's undefended row has more of them" in texts["md"]
    assert "- Lines there, and the rows that they join: knn (near, far).\n" in texts["md"]


# --- what stands below ------------------------------------------------------------------------------------------


def test_findings_and_scale_stand_below_the_table(tmp_path: Path) -> None:
    rows = {"clean": 0, "none": 4, "d": 1, "friends-bernoulli": 0}
    cells = [
        Cell(name, seed, control=name == "clean", metrics={"measures": {"success": float(seed < hits)}})
        for name, hits in rows.items()
        for seed in range(4)
    ]
    claims = [{"attack": "a", "table": 4}]
    texts = run_scripts(tmp_path, cells, scale=["Data: few.", "Victims: small."], claims=claims)
    notes = [line[2:] for line in texts["md"].splitlines() if line.startswith("- ")]
    # Wilson's intervals of 4 and of 0 in 4; FRIENDS, table 4: 75 % success undefended and none under FRIENDS-B.
    # Our accuracies are all 90 %, so they have no interval in which published ones could lie.
    same = "+0.0 (n = 4)"
    assert notes[:6] == [
        "Finding: a: none, poison success 100.0 [51.0, 100.0] %, test accuracy 90.0 % (n = 4); "
        "friends-bernoulli, poison success 0.0 [0.0, 49.0] %, test accuracy 90.0 % (n = 4); "
        "the other row, poison success 25.0 % (d at 90.0 % test accuracy); "
        "1 of 2 defended rows' intervals of poison success overlap that of none; "
        "clean (control), poison success 0.0 [0.0, 49.0] %, test accuracy 90.0 % (n = 4); "
        "2 of 2 published values of poison success lie in our intervals.",
        "Finding: a: change against none, paired by seed, in points: of adversarial confidence, "
        "clean +0.0, d +0.0 (n = 4, p 1.000), friends-bernoulli +0.0 (n = 4, p 1.000); "
        f"of test accuracy, clean {same}, d {same}, friends-bernoulli {same}.",
        "Finding: a: change against friends-bernoulli, paired by seed, in points: of adversarial confidence, "
        f"d +0.0 (n = 4, p 1.000); of test accuracy, d {same}.",
        "Made up.",
        "Data: few.",
        "Victims: small.",
    ]
    assert all(f"% {note}" in texts["tex"].splitlines() for note in notes)
    content = json.loads(texts["json"])
    assert [*(f"Finding: {finding}" for finding in content["findings"]), *content["notes"]] == notes
    table = by_defense(texts["csv"])
    # 4 and 1 of 4 seeds differ, all one way; Holm doubles the smaller. The control takes no part.
    corrected = table["p_friends-bernoulli_holm"].to_dict()
    assert corrected == {"clean": "", "none": str(2 * 2 / 16), "d": "1.0", "friends-bernoulli": ""}


# --- names of the paper ---------------------------------------------------------------------------------------


def test_rows_stand_beside_what_the_paper_calls_them(tmp_path: Path) -> None:
    rows = ("none", "gradient-shaping", "dp-sgd", "mixup", "cutmix", "abl")
    called = {"gradient-shaping": "dp-sgd", "dp-sgd": "dp-sgd", "mixup": "strong-augmentation"}
    table, _ = tables(tmp_path, [{"attack": "a", "table": 2}], rows, called)
    # FRIENDS, table 2: DP-SGD 13.14 and 70.00, strong augmentation 69.75 and 91.32.
    beside = published_beside(table)
    for name, values in (
        ("gradient-shaping", (0.1314, 0.7)),
        ("dp-sgd", (0.1314, 0.7)),
        ("mixup", (0.6975, 0.9132)),
        ("none", (0.8348, 0.9156)),
    ):
        assert tuple(map(float, beside[name])) == pytest.approx(values), name
    # Only what is called so, be it by its own name.
    assert beside["cutmix"] == ("", "")
    assert all(float(value) > 0 for value in beside["abl"])


def test_another_name_hides_the_own_one(tmp_path: Path) -> None:
    """A row with the name of a published defense that stands for another."""
    table, _ = tables(tmp_path, [{"attack": "a", "table": 4}], called={"friends-bernoulli": "none"})
    assert published_beside(table)["friends-bernoulli"] == published_beside(table)["none"] != ("", "")


# --- costs ----------------------------------------------------------------------------------------------------


def seconds(text: str) -> dict[str, float]:
    """By row; what is unknown is an empty field."""
    return {defense: float(value) for defense, value in by_defense(text)["seconds"].items() if value != ""}


CHAINS = [
    Cell("strip", seconds=1.0, network="second", detector=True),
    Cell("none", seconds=10.0),
    Cell("first", seconds=8.0, filter=2.0, network="none"),
    Cell("second", seconds=7.0, filter=3.0, network="first"),
    Cell("friends", seconds=20.0, noise=5.0),
    Cell("filtered-friends", seconds=16.0, noise=4.0, filter=0.5, network="friends"),
]
FIRST = 8.0 + 2.0 + 10.0
SECOND = 7.0 + 3.0 + FIRST
SPENT = {
    "strip": 1.0 + SECOND,
    "none": 10.0,
    "first": FIRST,
    "second": SECOND,
    "friends": 20.0 + 5.0,
    "filtered-friends": 16.0 + 4.0 + 0.5 + 25.0,
}


def test_a_row_pays_for_the_network_that_it_looks_at(tmp_path: Path) -> None:
    texts = run_scripts(tmp_path, CHAINS)
    assert seconds(texts["csv"]) == SPENT
    lines = {line.split("|")[2].strip(): line for line in texts["time"].splitlines() if line.startswith("| a")}
    for name, spent in SPENT.items():
        assert [part.strip() for part in lines[name].split("|")[3:5]] == [f"{spent:.1f}", f"{spent / 10:.2f}"]
    assert "the training of the row that they look at; relative to 'none'." in texts["time"]


def test_times_are_relative_to_the_row_that_others_are_compared_with_if_there_is_one(tmp_path: Path) -> None:
    first = run_scripts(tmp_path, CHAINS[1:3], compare=["first"])["time"]
    assert "relative to 'first'." in first
    assert [line.split("|")[4].strip() for line in first.splitlines() if line.startswith("| a")] == ["0.50", "1.00"]
    assert "elative" not in run_scripts(tmp_path, CHAINS[1:3], compare=[])["time"]


def test_each_seed_pays_for_its_own_network(tmp_path: Path) -> None:
    cells = [
        *(Cell("none", seed, seconds=spent) for seed, spent in enumerate((10.0, 30.0))),
        Cell("f", 0, seconds=1.0, filter=0.25, network="none"),
        Cell("f", 1, seconds=2.0, filter=0.5, network="none"),
    ]
    table = seconds(run_scripts(tmp_path, cells)["csv"])
    assert table == {"none": pytest.approx(20), "f": pytest.approx((11.25 + 32.5) / 2)}


def trial(defense: str, seed: int = 0, attack: str = "a", **more: Any) -> Trial:
    """From elsewhere: a success."""
    settings = more.pop("settings", digest(attack, defense))
    outcome = {"success": 1.0, "accuracy": 0.75, "seconds": 400.0, **more}
    return made_trial(attack, defense, seed, settings=settings, **outcome)


def elsewhere(path: Path, *trials: Trial) -> Path:
    return put(path, trials)


def test_a_network_from_elsewhere_costs_what_it_did_there(tmp_path: Path) -> None:
    """With all that it looked at itself."""
    here = [cell for cell in CHAINS if cell.defense in ("strip", "second", "friends")]
    put_files(tmp_path, here)
    # The first file's trial counts, as it does in the tables; one with other settings counts nowhere.
    merge = [
        elsewhere(tmp_path / "zero.csv", trial("first", seconds=5000.0, settings="other")),
        elsewhere(tmp_path / "one.csv", trial("first", seconds=300.0), trial("none", seconds=100.0)),
        elsewhere(tmp_path / "two.csv", trial("first", seconds=4.0)),
    ]
    own = gather(tmp_path, here, merge)
    assert {each.defense: each.seconds for each in read_trials(own)} == {
        "strip": 1.0 + 7.0 + 3.0 + 300.0,
        "second": 7.0 + 3.0 + 300.0,
        "friends": 25.0,
    }
    assert seconds(show(tmp_path, CHAINS[:5], [own, *merge])["csv"]) == {
        "strip": 311.0,
        "none": 100.0,
        "first": 300.0,
        "second": 310.0,
        "friends": 25.0,
    }


def test_what_a_network_cost_that_is_not_there_is_unknown(tmp_path: Path) -> None:
    here = [cell for cell in CHAINS if cell.defense in ("strip", "second", "friends")]
    put_files(tmp_path, here)
    own = gather(tmp_path, here)
    table = pd.read_csv(own, keep_default_na=False, dtype=str).set_index("defense")
    assert table["seconds"].to_dict() == {"strip": "", "second": "", "friends": "25.0"}
    texts = show(tmp_path, CHAINS, [own])
    assert seconds(texts["csv"]) == {"friends": 25.0}
    # The outcome is known all the same.
    assert by_defense(texts["csv"])["n"].to_dict() == {
        "strip": 1,
        "none": 0,
        "first": 0,
        "second": 1,
        "friends": 1,
        "filtered-friends": 0,
    }
    lines = [[part.strip() for part in line.split("|")[2:5]] for line in texts["time"].splitlines() if "| a " in line]
    # Without the undefended row nothing is relative to it.
    assert [line[:2] for line in lines] == [
        [cell.defense, "25.0" if cell.defense == "friends" else "–"] for cell in CHAINS
    ]
    assert "nan" not in texts["time"]


def _write(path: Path, text: str) -> None:
    """The JSON of an object with its checksum, anything else as it is."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if isinstance(content, dict):
        write_sealed(path, content)
    else:
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ('{"second": 1}', "seconds"),
        ('{"seconds": -1, "cost_seconds": -1}', "seconds from 0 up"),
        ('{"seconds": 1e0, "cost_seconds": 1e0}'.replace("1e0", "1" + "0" * 400), "too large"),
        ("[]", "checksum"),
        ('{"seconds": 1, "software": []}', "no run card"),
        ("{", "damaged"),
        ("[" * 100_000, "damaged"),
    ],
)
@pytest.mark.parametrize("kind", ["victims", "filters", "noise"])
def test_a_card_without_seconds_is_one_line(tmp_path: Path, kind: str, card: str, words: str) -> None:
    cells = [Cell("none"), Cell("f", filter=1.0, noise=1.0, network="none")]
    put_files(tmp_path, cells)
    broken = tmp_path / kind / f"a/{VICTIM}/f/seed0.card.json"
    _write(broken, card)
    with pytest.raises(DataError, match=words) as caught:
        gather(tmp_path, cells)
    assert "\n" not in str(caught.value)
    assert str(broken) in str(caught.value)
    assert not (tmp_path / "own-trials.csv").exists()


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        ("{}", "lacks 'measures'"),
        ('{"measures": {"success": 1, "accuracy": 1}}', "lacks 'targets'"),
        ("[]", "checksum"),
        ('{"targets": 1, "measures": {"success": "x"}}', "lacks success as a number"),
        ('{"targets": 1, "measures": {"accuracy": -2}}', "accuracy is negative"),
        ('{"targets": 0, "measures": {"accuracy": 1}}', "targets is no number of images"),
        ('{"targets": 1, "measures": 3}', "lacks"),
        ('{"measures"', "damaged"),
    ],
)
def test_metrics_without_an_outcome_are_one_line(tmp_path: Path, metrics: str, words: str) -> None:
    put_files(tmp_path, [Cell("none")])
    broken = tmp_path / f"victims/a/{VICTIM}/none/seed0.metrics.json"
    _write(broken, metrics)
    with pytest.raises(DataError, match=words) as caught:
        gather(tmp_path, [Cell("none")])
    assert "\n" not in str(caught.value)
    assert str(broken) in str(caught.value)


@pytest.mark.parametrize(
    ("measured", "words"),
    [
        ({"accuracy": 2.0}, "accuracy of .* is 2, not between 0 and 1"),
        ({"success": 0.5}, "is 0.5, neither 1 nor 0"),
        ({"false_alarms": 2.0}, "false_alarms of .* is 2, not between 0 and 1"),
    ],
)
def test_numbers_that_their_measure_cannot_have_are_one_line(
    tmp_path: Path, measured: dict[str, float], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        run_scripts(tmp_path, [Cell("none", metrics={"measures": measured})])
    assert "\n" not in str(caught.value)
    assert "own-trials.csv" in str(caught.value)
    assert not (tmp_path / "table.csv").exists()


def test_trials_from_before_victims_had_names_are_those_of_the_first(tmp_path: Path) -> None:
    path = elsewhere(tmp_path / "old.csv", replace(trial("none"), victim=""))
    cells = [Cell("none", victim="one"), Cell("none", victim="two")]
    table = pd.read_csv(StringIO(show(tmp_path, cells, [path])["csv"])).set_index("victim")
    assert table["n"].to_dict() == {"one": 1, "two": 0}


# --- which trials count ---------------------------------------------------------------------------------------


def test_a_line_says_where_a_victim_was_trained(tmp_path: Path) -> None:
    where = {"device": "NVIDIA H200", "threads": 2, "commit": "0c8c087", "peak_host_mib": 640, "peak_device_mib": None}
    put_files(tmp_path, [Cell("none")], **where, software={"torch": "2.9.0", "python": "3.12.1", "numpy": "2"})
    table = pd.read_csv(gather(tmp_path, [Cell("none")]), keep_default_na=False, dtype=str).iloc[0]
    assert table["settings"] == "settings of a/none"
    known = {**where, "torch": "2.9.0", "python": "3.12.1", "finished": None}
    for name, value in known.items():
        assert table[name] == ("" if value is None else str(value))


def test_a_line_says_which_classes_its_poisons_attack(tmp_path: Path) -> None:
    classes = {"base_class": "dog", "true_class": "cat, big", "adversarial_class": "dog"}
    put_files(tmp_path, [Cell("none", metrics={"classes": {**classes, "more": 1}}), Cell("d")])
    own = gather(tmp_path, [Cell("none"), Cell("d")])
    assert [each.classes for each in read_trials(own)] == [classes, {}]
    # Of a file that was written before they were in it.
    table = pd.read_csv(own, dtype=str).drop(columns=[*classes, "check"]).assign(check="")
    table.to_csv(own, index=False)
    assert [each.classes for each in read_trials(own)] == [{}, {}]


def test_settings_that_nobody_tells_are_those_of_the_card(tmp_path: Path) -> None:
    """Of what a broken-off study left behind: its settings may have changed since."""
    cells = [Cell("none"), Cell("none", 1), Cell("d")]
    put_files(tmp_path, cells[:1], settings=digest("a", "none"))
    put_files(tmp_path, cells[1:2], settings="older ones")
    put_files(tmp_path, cells[2:])
    own = gather(tmp_path, cells, told=False)
    assert [each.settings for each in read_trials(own)][:2] == ["settings of a/none", "older ones"]
    texts = show(tmp_path, cells, [own])
    assert by_defense(texts["csv"])["n"].to_dict() == {"none": 1, "d": 0}
    assert notes_with(texts["md"], "Refused") == [refused("a/none", own, 1), refused("a/d", own, 0)]


def notes_with(text: str, words: str) -> list[str]:
    return [line[2:] for line in text.splitlines() if line.startswith("- ") and words in line]


def refused(row: str, path: Path, *seeds: int) -> str:
    reason = "Refused, because made with other settings than this study's"
    return f"{reason}: {row} of {path} (seeds {', '.join(map(str, seeds))})."


STUDY = [Cell(defense, seed) for defense in ("none", "d", "later") for seed in (0, 1, 2)]


def test_trials_of_other_settings_are_refused_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = elsewhere(
        tmp_path / "there-trials.csv",
        *(trial("none", seed, settings="others") for seed in (2, 0)),
        trial("none", 1),
        trial("d", 1, settings="others"),
        # Of no row, no seed or no attack of this study: nobody asked for them.
        trial("unknown", settings="others"),
        trial("none", 7, settings="others"),
        trial("none", 0, "b", settings="others"),
    )
    texts = show(tmp_path, STUDY, [path])
    notes = [refused("a/none", path, 2, 0), refused("a/d", path, 1)]
    assert notes_with(texts["md"], "Refused") == notes
    assert all(f"% {note}" in texts["tex"].splitlines() for note in notes)
    assert capsys.readouterr().out.count("refused: ") == 2
    table = by_defense(texts["csv"])
    assert table["n"].to_dict() == {"none": 1, "d": 0, "later": 0}
    assert float(table.loc["none", "success"]) == 1
    assert notes_with(texts["md"], "Not run yet") == ["Not run yet: 8 of 9 victims."]


def test_trials_that_others_answer_for_are_refused_all_the_same(tmp_path: Path) -> None:
    """Whoever named the file should know that it was of no use, also after the victims were run here."""
    put_files(tmp_path, STUDY)
    paths = [tmp_path / name / "same-trials.csv" for name in ("one", "two")]
    for path in paths:
        elsewhere(path, trial("none", 0, settings="others"))
    texts = show(tmp_path, STUDY, [gather(tmp_path, STUDY), *paths])
    # Files may well have the same name.
    assert notes_with(texts["md"], "Refused") == [refused("a/none", path, 0) for path in paths]
    assert notes_with(texts["md"], "Not run yet") == []
    assert set(by_defense(texts["csv"])["n"]) == {3}


def test_the_first_file_wins(tmp_path: Path) -> None:
    put_files(tmp_path, STUDY[:1])
    own = gather(tmp_path, STUDY[:1])
    one = elsewhere(
        tmp_path / "one.csv", trial("none", 0), trial("none", 1, accuracy=0.5), trial("d", 1, settings="no")
    )
    two = elsewhere(tmp_path / "two.csv", trial("none", 1), trial("none", 2, accuracy=0.25), trial("d", 1))
    texts = show(tmp_path, STUDY, [own, one, two])
    table = by_defense(texts["csv"])
    assert table["n"].to_dict() == {"none": 3, "d": 1, "later": 0}
    # 0.9 here, 0.5 from the first and 0.25 from the second; what the first file cannot answer, the second may.
    assert float(table.loc["none", "accuracy"]) == pytest.approx((0.9 + 0.5 + 0.25) / 3)
    assert notes_with(texts["md"], "Refused") == [refused("a/d", one, 1)]
    other = by_defense(show(tmp_path, STUDY, [own, two, one])["csv"])
    assert float(other.loc["none", "accuracy"]) == pytest.approx((0.9 + 0.75 + 0.25) / 3)


def test_files_that_contradict_each_other_are_told_of(tmp_path: Path) -> None:
    one = elsewhere(tmp_path / "one.csv", trial("none", 0), trial("none", 1), trial("d", 0), trial("d", 1))
    two = elsewhere(
        tmp_path / "two.csv", trial("none", 0), trial("none", 1, accuracy=0.5), trial("d", 0, settings="others")
    )
    three = elsewhere(tmp_path / "three.csv", trial("none", 1, accuracy=0.25), trial("d", 1, accuracy=0.25))
    words = "with other outcomes"
    assert notes_with(show(tmp_path, STUDY, [one, one])["md"], words) == []
    (first,) = notes_with(show(tmp_path, STUDY, [one, two])["md"], words)
    assert first.startswith("1 trial stands in several files with other outcomes; the first file counts: a/")
    assert first.endswith("/none, seed 1.")
    (both,) = notes_with(show(tmp_path, STUDY, [one, two, three])["md"], words)
    assert both.startswith("2 trials stand in several files with other outcomes; the first file counts: a/")


def test_the_order_is_the_studys(tmp_path: Path) -> None:
    path = elsewhere(tmp_path / "one.csv", *(trial(each.defense, each.seed) for each in reversed(STUDY)))
    texts = show(tmp_path, STUDY, [path])
    assert list(by_defense(texts["csv"]).index) == ["none", "d", "later"]
    straight = elsewhere(tmp_path / "two.csv", *(trial(each.defense, each.seed) for each in STUDY))
    assert show(tmp_path, STUDY, [straight]) == texts


def test_rows_that_nobody_has_run_are_shown(tmp_path: Path) -> None:
    put_files(tmp_path, STUDY[:3])
    texts = show(tmp_path, STUDY, [gather(tmp_path, STUDY[:3])], claims=[{"attack": "a", "table": 4}])
    cells = {
        parts[2]: parts[3:]
        for line in texts["md"].splitlines()
        if (parts := [part.strip() for part in line.split("|")])[1:2] == ["a"]
    }
    # Gaffke's interval of three confidences of 0.5: 0.5 (1 + 1 - 0.025^(1/3)) is its upper end.
    assert cells["none"][:3] == ["3", "0.0 [0.0, 56.1]", "50.0 [14.6, 85.4]"]
    for row in ("d", "later"):
        assert cells[row][:3] == ["0", "–", "–"]
    assert notes_with(texts["md"], "Not run yet") == ["Not run yet: 6 of 9 victims."]
    assert "nan" not in texts["md"] + texts["tex"] + texts["time"]


def test_a_study_in_which_nothing_was_run_has_tables(tmp_path: Path) -> None:
    own = gather(tmp_path, [])
    assert read_trials(own) == []
    texts = show(tmp_path, STUDY, [own])
    assert by_defense(texts["csv"])["n"].to_dict() == {"none": 0, "d": 0, "later": 0}
    assert notes_with(texts["md"], "Not run yet") == ["Not run yet: 9 of 9 victims."]
    assert "nan" not in texts["md"] + texts["tex"] + texts["time"]


def test_a_control_from_elsewhere_is_a_control(tmp_path: Path) -> None:
    """Which the file does not say: it takes no part in the tests between defenses."""
    seeds = range(6)
    cells = [*(Cell("clean", seed, control=True) for seed in seeds), *(Cell("none", seed) for seed in seeds)]
    rest = [Cell("d", seed) for seed in seeds]
    put_files(tmp_path, rest)
    path = elsewhere(
        tmp_path / "there.csv",
        *(trial("clean", seed, success=0.0) for seed in seeds),
        *(trial("none", seed) for seed in seeds),
    )
    table = by_defense(show(tmp_path, [*cells, *rest], [gather(tmp_path, rest), path])["csv"])
    assert table["p_none"].to_dict() == {"clean": "", "none": "", "d": str(2 / 64)}
    # One test, so nothing to correct.
    assert table.loc["d", "p_none_holm"] == str(2 / 64)


def test_a_broken_file_of_trials_is_one_line(tmp_path: Path) -> None:
    path = elsewhere(tmp_path / "there.csv", trial("none"))
    path.write_text(path.read_text(encoding="utf-8").replace("0.75", "often"), encoding="utf-8")
    with pytest.raises(DataError, match=r"there\.csv is damaged \(line 2 is not a trial") as caught:
        show(tmp_path, STUDY, [path])
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "table.csv").exists()


# --- what was dropped, turned away and promised ---------------------------------------------------------------


def examples(poisons_dropped: int, poisons_kept: int, clean_dropped: int, clean_kept: int) -> dict[str, Any]:
    counts = {
        "poisons_dropped": poisons_dropped,
        "poisons_kept": poisons_kept,
        "clean_dropped": clean_dropped,
        "clean_kept": clean_kept,
    }
    return {"examples": counts}


NOTES = {
    "dropped": "Poisons found, clean dropped, precision, MCC",
    "rejected": "False alarms: share of the clean test images",
    "private": "(epsilon, delta) differential privacy",
}


def notes_of(text: str) -> set[str]:
    return {
        name for name, words in NOTES.items() if any(words in line for line in text.splitlines() if line[:2] == "- ")
    }


@pytest.mark.parametrize(
    ("metrics", "notes", "column"),
    [
        ({}, set(), None),
        (examples(0, 10, 0, 90), set(), None),
        (examples(8, 2, 2, 88), {"dropped"}, "Precision"),
        (examples(0, 0, 2, 98), {"dropped"}, "Clean dropped"),
        (
            {"measures": {"false_alarms": 0.0, "targets_rejected": 1.0}},
            {"rejected"},
            "False alarms",
        ),
        ({"measures": {"something_else": 3.0}}, set(), None),
        (
            {**examples(0, 10, 0, 90), "measures": {"privacy_epsilon": 12.5, "privacy_delta": 0.01}},
            {"private"},
            "epsilon",
        ),
    ],
    ids=["nothing", "nothing dropped", "dropped", "clean dropped", "alarms", "other", "private"],
)
def test_a_note_stands_where_its_column_does(
    tmp_path: Path, metrics: dict[str, Any], notes: set[str], column: str | None
) -> None:
    texts = run_scripts(tmp_path, [Cell("none"), Cell("d", metrics=metrics)])
    assert notes_of(texts["md"]) == notes
    extra = {"Poisons found", "Clean dropped", "Precision", "MCC", "False alarms", "epsilon"}
    (header,) = (line for line in texts["md"].splitlines() if line.startswith("| Attack"))
    shown = {part.strip() for part in header.split("|")} & extra
    assert shown == set() if column is None else column in shown
    assert "nan" not in texts["md"] + texts["tex"]


def test_what_the_metrics_say_reaches_the_table(tmp_path: Path) -> None:
    measured = {
        "filter": (examples(8, 2, 2, 88), examples(4, 6, 16, 74)),
        "strip": ({"measures": {"false_alarms": 0.05}}, {"measures": {"false_alarms": 0.25}}),
        "dp-sgd": ({"measures": {"privacy_epsilon": 3.5}}, {"measures": {"privacy_epsilon": 3.0}}),
    }
    cells = [
        Cell(row, seed, metrics=metrics, detector=row == "strip")
        for row, both in measured.items()
        for seed, metrics in enumerate(both)
    ]
    table = by_defense(run_scripts(tmp_path, cells)["csv"])
    numbers = {
        ("filter", "poisons_found"): (0.8 + 0.4) / 2,
        ("filter", "clean_dropped"): (2 / 90 + 16 / 90) / 2,
        ("filter", "precision"): (0.8 + 0.2) / 2,
        ("strip", "false_alarms"): 0.15,
        ("dp-sgd", "privacy_epsilon"): 3.25,
    }
    for (defense, column), value in numbers.items():
        assert float(table.loc[defense, column]) == pytest.approx(value), column
        assert [table.loc[other, column] for other in ("filter", "strip", "dp-sgd") if other != defense] == ["", ""]


def test_attacks_with_other_rows_and_seeds_have_a_table_each(tmp_path: Path) -> None:
    cells = [
        *(Cell("none", seed, "b") for seed in (0, 1, 2)),
        *(Cell("none", seed) for seed in (1, 2)),
        *(Cell("filter", seed, metrics=examples(8, 2, 2, 88)) for seed in (1, 2)),
    ]
    text = run_scripts(tmp_path, cells)["md"]
    first, second = text.split("### ")[1:]
    assert first.startswith("b\n")
    assert second.startswith("a\n")
    assert "Precision" in second
    assert "Precision" not in first
    (line,) = (line for line in first.splitlines() if "none" in line)
    assert [part.strip() for part in line.split("|")[1:3]] == ["none", "3"]
    # A header, a rule and the rows.
    assert (first.count("\n|"), second.count("\n|")) == (3, 4)
