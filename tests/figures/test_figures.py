from __future__ import annotations

import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from filters_shown import BARS, PUBLISHED, write_bars, write_view
from loading import program
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image
from test_attacks_compared import TABLE as COMPARED

from poisonlab.artifacts.arrays import write_arrays
from poisonlab.artifacts.poison_set import Goal, PoisonSet
from poisonlab.artifacts.tensors import write_tensors
from poisonlab.config.defenses.random_noise import RandomNoise
from poisonlab.config.measures import ACCURACY, ADVERSARIAL_CONFIDENCE, FIRST_EPOCH, PEAK_ACCURACY, SUCCESS
from poisonlab.config.study import read_study
from poisonlab.defenses.random_noise import random_noise
from poisonlab.errors import DataError, PoisonlabError, SettingsError
from poisonlab.evaluation.choosing import AttackMeasures
from poisonlab.evaluation.findings import results_findings
from poisonlab.figures import noise_histogram as noise_histogram_module
from poisonlab.figures import style
from poisonlab.figures.examples import examples, examples_caption, noise_places
from poisonlab.figures.landscape_poison import poison_landscape, poison_landscape_caption
from poisonlab.figures.landscape_victims import victim_landscapes, victim_landscapes_caption
from poisonlab.figures.learning_curves import drawn_measures, learning_curves, learning_curves_caption, read_history
from poisonlab.figures.noise_histogram import noise_histogram, noise_histogram_caption
from poisonlab.figures.outcome import outcome, outcome_caption, read_results
from poisonlab.figures.projection import projection
from poisonlab.figures.views import read_view
from poisonlab.figures.wording import listed, number, percent
from poisonlab.files import write_sealed
from poisonlab.provenance import spec
from poisonlab.runtime.program import run

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
COORDINATES = np.linspace(-24, 24, 9)
# Ten training rows and an appended poison.
ORIGIN = torch.tensor([*range(10), -1])
# Two rows are held out, one of them the first poison.
MADE = torch.tensor([row not in (3, 5) for row in range(11)])
FIRST, SECOND = np.meshgrid(COORDINATES, COORDINATES)
NOISES = [{"distribution": kind, "mu": 16.0} for kind in ("bernoulli", "uniform", "gaussian")]


def bump(height: float, x: float = 0.0) -> NDArray[np.float64]:
    surface: NDArray[np.float64] = 0.5 + height * np.exp(-((FIRST - x) ** 2 + SECOND**2) / 80)
    return surface


def history(
    defense: str, seed: int, epochs: int = 6, every: int = 3, attack: str = "witches", victim: str = "net"
) -> dict[str, Any]:
    entries = []
    for epoch in range(epochs):
        entry: dict[str, Any] = {"epoch": epoch, "lr": 0.1, "train_loss": 2 / (epoch + 1) + 0.1 * seed}
        if epoch % every == every - 1:
            entry |= {"accuracy": 0.5 + 0.05 * epoch, "success": 0.0, "adversarial_confidence": 0.1 * seed}
        entries.append(entry)
    who = {"attack": attack, "victim": victim, "defense": defense, "seed": seed}
    return {**who, "measures": {}, "targets": 1, "history": entries}


HEADER = (
    "attack,victim,defense,control,n,diverged,success,success_low,success_high,accuracy,accuracy_low,accuracy_high,"
    "published_success_inside,published_accuracy_inside,published_adversarial_confidence_inside,seconds\n"
)
TABLE = HEADER + (
    "witches,net,clean,True,20,0,0.0,0.0,0.16,0.93,0.92,0.94,,,,5\n"
    "witches,net,none,False,20,0,0.8,0.58,0.92,0.92,0.91,0.93,True,False,,5\n"
    "witches,net,friends-bernoulli,False,20,0,0.05,0.01,0.24,0.90,0.89,0.91,False,,,9\n"
)
MEASURES = {"witches": (SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY)}


@pytest.fixture
def inputs(tmp_path: Path) -> dict[str, list[str]]:
    """Input arguments of every program."""
    random = np.random.default_rng(0)
    base = torch.from_numpy(random.integers(30, 220, (4, 3, 8, 8), dtype=np.uint8))
    change = torch.from_numpy(random.integers(-16, 17, (4, 3, 8, 8), dtype=np.int16))
    PoisonSet(
        indices=torch.tensor([3, 0, 7, -1]),
        images=(base + change).to(torch.uint8),
        labels=torch.zeros(4, dtype=torch.int64),
        base_images=base,
        goal=Goal(base[:1].clone(), torch.tensor([1]), torch.tensor([0])),
    ).save(tmp_path / "poisons.safetensors")
    noise = torch.from_numpy(random.uniform(-16, 16, (11, 3, 8, 8)) / 255).half()
    noise[~MADE] = 0
    write_tensors(
        tmp_path / "noise.safetensors", "friendly noise", {"noise": noise, "origin": ORIGIN, "made": MADE}, {}
    )
    write_arrays(
        tmp_path / "poison.npz",
        coordinates=COORDINATES,
        matching_loss=1 - bump(0.5, 8)[None],
        training_loss=bump(3, 8)[None],
        poison=np.array([8.0, 0.0]),
        matching_at=np.array([0.9, 0.4]),
        training_at=np.array([0.5, 3.0]),
    )
    write_arrays(
        tmp_path / "victims.npz",
        coordinates=COORDINATES,
        names=np.array(["none", "friendly"]),
        loss=np.stack([bump(3), bump(0.2)])[:, None],
        at_poisons=np.array([3.5, 0.7]),
        directions=np.array("plain"),
    )
    for defense in ("none", "friendly"):
        for seed in range(2):
            write_sealed(tmp_path / f"{defense}{seed}.json", history(defense, seed))
    (tmp_path / "results.csv").write_text(TABLE)
    write_arrays(
        tmp_path / "std.npz",
        names=np.array(["surrogate", "none"]),
        magnitudes=np.array([2.0, 8.0]),
        std=np.random.default_rng(1).uniform(0, 0.3, (2, 3, 5, 2)),
        draws=np.array(8),
    )
    write_view(tmp_path / "view.npz")
    write_bars(tmp_path / "trials.csv")
    (tmp_path / "published.csv").write_text(PUBLISHED)
    (tmp_path / "ablation.csv").write_text(ABLATION)
    (tmp_path / "compared.csv").write_text(COMPARED)
    return {
        "examples": [f"poisons={tmp_path}/poisons.safetensors", f"noise={tmp_path}/noise.safetensors"],
        "landscape-poison": [f"landscape={tmp_path}/poison.npz"],
        "landscape-victims": [f"landscape={tmp_path}/victims.npz"],
        "output-std": [f"std={tmp_path}/std.npz"],
        "noise-histogram": [f"noise={tmp_path}/noise.safetensors"],
        "learning-curves": [
            f"victims.{defense}={tmp_path}/{defense}{seed}.json"
            for defense in ("none", "friendly")
            for seed in range(2)
        ],
        "outcome": [f"results={tmp_path}/results.csv"],
        "ablation": [f"table={tmp_path}/ablation.csv"],
        "scatter": [f"results={tmp_path}/compared.csv"],
        "perturbations": [f"poisons.{name}={tmp_path}/poisons.safetensors" for name in ("p250", "r4")],
        "by-victim": [f"trials={tmp_path}/trials.csv", f"published={tmp_path}/published.csv"],
        **{kind: [f"view={tmp_path}/view.npz"] for kind in ("projection", "layer-distances", "filtered-images")},
        "poison-curves": [f"victims.{name}={tmp_path}/none{seed}.json" for name in ("p250", "r4") for seed in range(2)],
    }


ABLATION = (
    "attack,victim,row,lr,own,n,success,success_low,success_high,accuracy,accuracy_low,accuracy_high,p,p_holm\n"
    "witches,net,none,,False,4,1.0,0.5,1.0,0.95,0.94,0.96,0.125,0.375\n"
    "witches,net,lr-50,50.0,False,4,0.5,0.15,0.85,0.9,0.88,0.92,0.5,1.0\n"
    "witches,net,friends,100.0,True,4,0.0,0.0,0.49,0.85,0.84,0.86,,\n"
)


POINTS = ["r4", "p250", "su", "rn", "slow", "unrun"]


KINDS = ("pdf", "png", "caption")


def outputs(folder: Path) -> list[str]:
    return [part for kind in KINDS for part in (f"--{kind}", str(folder / f"figure.{kind}"))]


TOLD = [{"attack": "witches", "measures": [measure.model_dump() for measure in MEASURES["witches"]]}]
LOOKS: dict[str, Any] = {"drawing": {"dpi": 80, "examples": 3}}
SPECS: dict[str, dict[str, Any]] = {
    "noise-histogram": {"noise": NOISES, "friendly": {"zeta": 16}},
    "learning-curves": {"measures": TOLD, "def_epoch": 2},
    "outcome": {"measures": TOLD, "compare": ["none", "friends-bernoulli"]},
    "ablation": {"measures": TOLD, "compare": ["none"]},
    "scatter": {
        "x": FIRST_EPOCH.told(),
        "y": PEAK_ACCURACY.told(),
        "attacks": POINTS,
        "victims": ["net"] * len(POINTS),
        "defense": "none",
        "claim": "rises",
    },
    "by-victim": BARS,
    "poison-curves": {"groups": [{"title": "some", "attacks": ["p250", "r4"]}], "low_loss": [0.5, 0.7]},
}
NAMES = program("figure").FIGURES


def draw(name: str, inputs: list[str], folder: Path, *settings: str) -> None:
    """Draw a figure; with settings in the place of its own if some are given."""
    chosen = settings or spec(**LOOKS, **SPECS.get(name, {}))
    program("figure").main(["--figure", name, "--spec", *chosen, "--from", *inputs, *outputs(folder)])


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_the_same_bytes_twice(name: str, inputs: dict[str, list[str]], tmp_path: Path) -> None:
    for folder in ("one", "two"):
        draw(name, inputs[name], tmp_path / folder)
    files = [f"figure.{kind}" for kind in KINDS]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(files)
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    pdf = (tmp_path / "one" / "figure.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"CreationDate" not in pdf
    assert b"Matplotlib" not in pdf
    with Image.open(tmp_path / "one" / "figure.png") as image:
        assert "Software" not in image.info
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 50
    caption = (tmp_path / "one" / "figure.caption").read_text(encoding="utf-8")
    assert caption.endswith(".\n")
    assert caption.count("\n") == 1
    assert "nan" not in caption
    assert 0.02 < (pixels != 255).any(axis=1).mean() < 0.99


def test_figures_and_tables_are_made_without_torch() -> None:
    names = [f"poisonlab.figures.{name.replace('-', '_')}" for name in NAMES]
    names += ["results", "layouts", "findings", "notes", "paper_layout", "ablation_layout", "published", "choosing"]
    imports = "; ".join(f"import {name if '.' in name else f'poisonlab.evaluation.{name}'}" for name in names)
    done = subprocess.run(
        [sys.executable, "-c", f"{imports}; import sys; print('torch' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def damaged_inputs(given: list[str], path: Path) -> list[str]:
    """The inputs with another file in the place of the first."""
    return [f"{given[0].partition('=')[0]}={path}", *given[1:]]


@pytest.mark.parametrize("name", NAMES)
def test_missing_input_is_one_line_and_leaves_nothing(
    name: str,
    inputs: dict[str, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    chosen = ["--spec", *spec(**LOOKS, **SPECS.get(name, {}))]
    absent = ["--from", *damaged_inputs(inputs[name], tmp_path / "absent")]
    monkeypatch.setattr(sys, "argv", ["figure.py", "--figure", name, *chosen, *absent, *outputs(tmp_path / "out")])
    with pytest.raises(SystemExit) as exit_:
        run(program("figure").main)
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "absent is missing" in message or "absent: cannot be read" in message
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("content", [b"", b"not what was expected\n1,2,3\n", b"PK\x03\x04 cut", b"{}", b"\xff\xfe\x00"])
def test_damaged_input(name: str, content: bytes, inputs: dict[str, list[str]], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    damaged.write_bytes(content)
    with pytest.raises(PoisonlabError, match="damaged"):
        draw(name, damaged_inputs(inputs[name], damaged), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_flipped_bit_of_an_artifact_is_found(inputs: dict[str, list[str]], tmp_path: Path) -> None:
    """Tensors are read without torch, but checked all the same."""
    path = tmp_path / "noise.safetensors"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="checksum differs"):
        draw("noise-histogram", inputs["noise-histogram"], tmp_path / "out")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("setting", ["drawing.dpi=1", "drawing.colour=1", "drawing.dpi", "drawing.dpi=x"])
def test_bad_settings(name: str, setting: str, inputs: dict[str, list[str]], tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"drawing\.") as problem:
        draw(name, inputs[name], tmp_path / "out", setting)
    assert "\n" not in str(problem.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("blocked", range(3))
def test_a_failed_save_leaves_no_file(blocked: int, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    figure = noise_histogram(np.zeros(4), [])
    folders = ["file" if place == blocked else "out" for place in range(3)]
    paths = [tmp_path / folder / f"a.{kind}" for folder, kind in zip(folders, KINDS, strict=True)]
    with pytest.raises(PoisonlabError, match="cannot write"):
        style.save(figure, "Words.", *paths, dpi=80)
    assert list(tmp_path.glob("out/*")) == []


def test_wording() -> None:
    assert [number(value) for value in (0, 0.12345, 12.345, 999.6, 1234.5, 123456.0)] == [
        "0",
        "0.123",
        "12.3",
        "1000",
        "1234",
        "123456",
    ]
    assert [percent(share) for share in (0, 0.12345, 1)] == ["0 %", "12.3 %", "100 %"]
    assert [listed(list(parts)) for parts in ("a", "ab", "abc")] == ["a", "a and b", "a, b and c"]


# Machado, Oliveira and Fernandes 2009, at full severity, of linear RGB: protanopia and deuteranopia.
NO_RED = [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
NO_GREEN = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]


def linear(colour: tuple[float, float, float]) -> NDArray[np.float64]:
    values = np.array(colour)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(seen: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* of linear sRGB, white D65."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = np.cbrt(to_xyz @ seen.clip(0.01, 1) / np.array([0.9505, 1, 1.089]))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


class TestStyle:
    def test_known_defenses_differ(self) -> None:
        known = [
            "clean",
            "none",
            "friendly",
            "bernoulli",
            "uniform",
            "gaussian",
            *(f"friends-{kind}" for kind in ("bernoulli", "gaussian", "uniform")),
        ]
        assert len({style.looks_of(known)[name][0] for name in known}) == len(known)
        assert len({style.label_of(name) for name in known}) == len(known)

    @pytest.mark.parametrize("seen", [NO_RED, NO_GREEN])
    def test_rows_of_the_paper_differ_for_the_colour_blind(self, seen: list[list[float]]) -> None:
        """Just noticeable is a difference of 2.3 (CIE 1976)."""
        looks = style.looks_of([])
        at = {name: lab(np.array(seen) @ linear(to_rgb(colour))) for name, (colour, _) in looks.items()}
        for one, other in combinations(looks, 2):
            assert looks[one][1] != looks[other][1] or np.linalg.norm(at[one] - at[other]) > 15, (one, other)

    def test_names_are_no_formulas(self, tmp_path: Path) -> None:
        view = read_view(write_view(tmp_path / "view.npz", classes=np.array(["$1", r"$\bill"])))
        FigureCanvasAgg(figure := projection(view)).draw()
        assert figure.legends[0].get_texts()[1].get_text() == r"clean $\bill"
        victims = victim_landscapes(COORDINATES, [r"$\x$"], bump(3)[None, None])
        FigureCanvasAgg(victims).draw()

    def test_other_defenses(self) -> None:
        assert style.label_of("my-defense") == "my-defense"
        # Pinned: a colour that changed with the process or the version would change figures.
        assert style.looks_of(["none", "my-defense", "another"])["my-defense"] == ("#332288", "solid")

    @pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.stem)
    def test_no_two_rows_of_a_shipped_study_look_alike(self, path: Path) -> None:
        study = read_study(yaml.safe_load(path.read_text("utf-8")))
        for attack in study.every_attack:
            rows = [row.name for row in study.rows_of(attack)]
            looks = style.looks_of(rows)
            assert len({looks[name] for name in rows}) == len(rows)


class TestNoiseOfSomeRows:
    """Rows that were filtered or held out have none, and lie in the file as zeros."""

    def test_the_histogram_is_of_the_others(self, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        draw("noise-histogram", inputs["noise-histogram"], tmp_path)
        assert f"over the {9 * 3 * 8 * 8:,} of one run's" in (tmp_path / "figure.caption").read_text("utf-8")

    def test_examples_are_poisons_that_have_noise(self, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        all_of_them = spec(drawing={"dpi": 80, "examples": 4})
        draw("examples", inputs["examples"], tmp_path / "some", *all_of_them)
        assert "3 of the 4 poisons" in (tmp_path / "some" / "figure.caption").read_text("utf-8")
        none = {"noise": torch.zeros(11, 3, 8, 8).half(), "origin": ORIGIN, "made": torch.zeros(11, dtype=torch.bool)}
        write_tensors(tmp_path / "noise.safetensors", "friendly noise", none, {})
        draw("examples", inputs["examples"], tmp_path / "none", *all_of_them)
        caption = (tmp_path / "none" / "figure.caption").read_text("utf-8")
        assert "4 of the 4 poisons" in caption
        assert "The victim is trained on none of these poisons" in caption


class TestExamples:
    def test_the_noise_of_replaced_and_appended_poisons(self) -> None:
        whole = np.array([*range(8), -1, -1])
        assert noise_places(np.array([3, -1, 0, -1]), whole).tolist() == [3, 8, 0, 9]

    def test_the_noise_of_a_victim_that_is_fine_tuned_on_some_rows(self) -> None:
        assert noise_places(np.array([17, 12, -1]), np.array([4, 12, 17, -1])).tolist() == [2, 1, 3]

    def test_noise_of_another_dataset(self) -> None:
        with pytest.raises(DataError, match="same dataset"):
            noise_places(np.array([3, 10]), np.arange(10))
        with pytest.raises(DataError, match="same dataset"):
            noise_places(np.array([-1, -1]), np.array([0, -1]))

    def test_what_is_shown(self) -> None:
        base = np.full((2, 3, 4, 4), 250.0)
        poison, noise = base.copy(), np.zeros_like(base)
        poison[0, 0, 1, 2] -= 8
        poison[1, 1, 0, 0] += 4
        noise[0, 2] = 16
        figure = examples(base, poison, noise)
        shown = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
        assert len(shown) == 10
        assert shown[4][1, 2].tolist() == [1, 0, 0]
        assert shown[5][0, 0].tolist() == [0, 0.5, 0]
        assert shown[8].max() == 1
        assert {text.get_text().splitlines()[-1] for text in figure.texts} >= {
            "brightest: 8 levels",
            "brightest: 16 levels",
        }

    def test_caption(self) -> None:
        base = np.full((2, 1, 2, 2), 250, dtype=np.uint8)
        poison, noise = base.copy(), np.zeros(base.shape)
        poison[0, 0, 1, 1] -= 8
        noise[1, 0, 0, :] = 16, -4
        caption = examples_caption(base, poison, noise, total=7)
        assert "2 of the 7 poisons" in caption
        assert "by at most 8 levels (1/255), 1 on average; friendly noise by at most 16 levels, 2.5 on" in caption
        assert "trigger" not in caption
        assert "with the trigger" in examples_caption(base, poison, noise, total=7, triggered=True)

    def test_grey_images(self) -> None:
        images = np.full((1, 1, 4, 4), 100)
        figure = examples(images, images, images)
        assert np.asarray(figure.axes[0].images[0].get_array()).shape == (4, 4, 3)

    @pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 2, 4, 4), (3, 4, 4)])
    def test_not_images(self, shape: tuple[int, ...]) -> None:
        with pytest.raises(DataError):
            examples(np.zeros(shape), np.zeros(shape), np.zeros(shape))

    def test_noise_of_other_shape(self) -> None:
        with pytest.raises(DataError, match="differ in shape"):
            examples(np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 4, 4)), np.zeros((1, 3, 2, 4)))

    def test_wrong_kind(self, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        noise = inputs["examples"][1].partition("=")[2]
        with pytest.raises(DataError, match="holds a friendly noise, not a poison set"):
            draw("examples", damaged_inputs(inputs["examples"], Path(noise)), tmp_path / "out")
        assert not (tmp_path / "out").exists()


class TestLandscapes:
    def test_one_scale_for_all_victims(self) -> None:
        loss = np.stack([bump(3), bump(0.2), bump(1)])
        figure = victim_landscapes(COORDINATES, ["none", "friendly", "bernoulli"], loss[:, None])
        surfaces: list[Any] = [axes for axes in figure.axes if axes.name == "3d"]
        assert len(surfaces) == 3
        limits = (loss.min(), loss.max())
        for axes in surfaces:
            assert axes.get_zlim() == pytest.approx(limits)
        mapped = [
            drawn.norm
            for axes in figure.axes
            for drawn in axes.collections
            if drawn.get_array() is not None and drawn.get_cmap().name == style.SURFACE_COLOURS
        ]
        assert len(mapped) >= 6
        assert {(norm.vmin, norm.vmax) for norm in mapped} == {limits}
        assert len(figure.axes) == 7

    @pytest.mark.parametrize("loss", [bump(3), np.full((9, 9), 2.0), np.zeros((9, 9))])
    def test_one_victim_and_flat_loss(self, loss: NDArray[Any], tmp_path: Path) -> None:
        figure = victim_landscapes(COORDINATES, ["mine"], loss[None, None])
        style.save(figure, "Words.", *(tmp_path / f"a.{kind}" for kind in KINDS), dpi=60)

    def test_star_stands_on_the_surface(self) -> None:
        figure = poison_landscape(COORDINATES, 1 - bump(0.5, 8)[None], bump(3, 6)[None], np.array([6.0, 0.0]))
        surface: Any = figure.axes[3]
        (x,), (y,), (z,) = surface.lines[0].get_data_3d()
        assert (x, y, z) == pytest.approx((6, 0, 3.5))

    def test_the_mean_over_draws_is_drawn(self) -> None:
        figure = victim_landscapes(COORDINATES, ["none"], np.stack([bump(3), bump(1)])[None], "filter-normalised")
        surface: Any = figure.axes[0]
        assert surface.get_zlim() == pytest.approx((0.5, 2.5), abs=1e-3)
        assert figure.axes[1].get_xlabel() == "direction 1 (of the weights)"

    def test_caption_of_one_poison(self) -> None:
        matching = np.array([[0.9, 0.2, 0.4], [0.9, 1.0, 0.9], [0.5, 1.1, 0.3]])
        training = np.array([[1.0, 5.0, 4.0], [0.1, 0.2, 0.3], [3.5, 0.0, 2.0]])
        ends = np.array([1.0, 0.4]), np.array([0.2, 3.5])
        caption = poison_landscape_caption(np.array([-8, 0, 8.0]), matching[None], training[None], *ends)
        assert "in a plane through image and poison; up to ±8 levels" in caption
        assert (
            "Matching loss: 1 at the base image, 0.4 at the poison; the lowest on the grid is 0.2, and 22.2 % of the "
            "grid points lie lower than the poison. Training loss: 0.2 at the base image, 3.5 at the poison; the "
            "highest on the grid is 5, and 22.2 % of the grid points lie higher than the poison."
        ) in caption
        two = poison_landscape_caption(
            np.array([-8, 0, 8.0]), np.stack([matching, matching + 0.15]), np.stack([training] * 2), *ends
        )
        assert "2 independent draws" in two
        assert "the lowest on the grid is 0.275 [0.2, 0.35], and 16.7 % [11.1 %, 22.2 %] of the grid points" in two
        assert "the highest on the grid is 5 [5, 5]" in two

    def test_caption_of_victims(self) -> None:
        loss = np.arange(36).reshape(2, 2, 3, 3) / 10
        at_poisons, axis = np.array([3.123, 0.05]), np.array([-24, 0, 24.0])
        one = victim_landscapes_caption(axis, ["none", "friendly"], loss[:, :1], at_poisons)
        assert one.endswith(
            "At the poisons themselves the loss is 3.12 (No defense) and 0.05 (Friendly noise); the highest on the "
            "grid is 0.8 (No defense) and 2.6 (Friendly noise); the lowest is 0 (No defense) and 1.8 (Friendly noise)."
        )
        assert "up to ±24 levels" in one
        two = victim_landscapes_caption(axis / 24, ["none", "friendly"], loss, at_poisons, "filter-normalised")
        assert "the highest on the grid is 1.25 [0.8, 1.7] (No defense) and 3.05 [2.6, 3.5] (Friendly noise)" in two
        assert "the lowest is 0.45 [0, 0.9]" in two
        assert "weights are moved" in two
        assert "up to ±1 times" in two

    def test_directions_are_not_swapped(self) -> None:
        figure = poison_landscape(COORDINATES, 1 - bump(0.5, 12)[None], bump(3, 12)[None], np.array([12.0, -6.0]))
        star = next(line for line in figure.axes[1].lines if line.get_marker() == "*")
        assert [*star.get_xdata(), *star.get_ydata()] == [12, -6]  # type: ignore[misc]
        surface: Any = figure.axes[3]
        assert surface.lines[0].get_data_3d()[2][0] == pytest.approx(bump(3, 12)[3, 6])

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"poison": np.zeros(3)}, "two finite numbers"),
            ({"training_loss": np.full((1, 9, 9), np.nan)}, "not finite"),
            ({"matching_loss": np.zeros((1, 9, 8))}, "coordinates"),
            ({"matching_loss": np.zeros((9, 9))}, "coordinates"),
            ({"coordinates": COORDINATES[::-1]}, "ascending"),
        ],
    )
    def test_bad_arrays(self, change: dict[str, NDArray[Any]], message: str) -> None:
        arrays: dict[str, NDArray[Any]] = {
            "coordinates": COORDINATES,
            "matching_loss": bump(1)[None],
            "training_loss": bump(1)[None],
            "poison": np.zeros(2),
        }
        with pytest.raises(DataError, match=message):
            poison_landscape(**(arrays | change))

    def test_victims_without_losses(self) -> None:
        with pytest.raises(DataError, match="2 victims need"):
            victim_landscapes(COORDINATES, ["none", "friendly"], bump(1)[None, None])

    def test_file_of_the_other_figure(self, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(DataError, match="lacks names, loss, at_poisons, directions"):
            draw("landscape-victims", inputs["landscape-poison"], tmp_path / "out")

    def test_pickled_and_plain_arrays(self, tmp_path: Path) -> None:
        arrays = dict.fromkeys(("coordinates", "loss", "at_poisons", "directions"), COORDINATES)
        np.savez(tmp_path / "pickled.npz", names=np.array(["a", None]), **arrays)
        np.save(tmp_path / "plain.npy", bump(1))
        for file, message in (("pickled.npz", "damaged"), ("plain.npy", "not npz")):
            with pytest.raises(DataError, match=message):
                draw("landscape-victims", [f"landscape={tmp_path / file}"], tmp_path / "out")


class TestNoiseHistogram:
    def test_shares(self) -> None:
        noise = np.array([0, 0, 0, 16, -16, 3.4, -2.6, 2.6]) / 255
        figure = noise_histogram(noise.astype(np.float16), [("bernoulli", 8.0, np.array([-8.0, 8.0, 8.0, 8.0]))])
        steps: list[Any] = [axes.patches[0] for axes in figure.axes]
        heights = [
            {level: height for level, height in zip(range(-255, 256), step.get_data().values, strict=True) if height}
            for step in steps
        ]
        assert heights[0] == pytest.approx({0: 37.5, 16: 12.5, -16: 12.5, 3: 25, -3: 12.5})
        assert heights[1] == pytest.approx({-8: 25, 8: 75})
        assert figure.axes[0].get_xlim() == figure.axes[1].get_xlim() == (-18.5, 18.5)

    def test_caption(self) -> None:
        noise = np.array([0, 0.5, 1, 16, -16, 15.6, 3, -4]) / 255
        drawn = [("bernoulli", 8.0, np.array([-8.0, 8.0, 8.0, 8.0]))]
        caption = noise_histogram_caption(noise.astype(np.float16), 16.0, drawn)
        # Mean of magnitudes 56.1 / 8; squares 781.61 / 8, mean 16.1 / 8.
        assert (
            "over the 8 of one run's friendly noise, and over 4 drawn from each random noise. Friendly noise: 37.5 % "
            "of the values lie at the bound of ±16 levels (within half a level), 37.5 % within one level of zero; mean "
            "absolute value 7.01, standard deviation 9.68 levels."
        ) in caption
        assert caption.endswith(
            "Bernoulli noise (±8 levels): 0 % within one level of zero; mean absolute value 8, standard deviation 6.93 "
            "levels."
        )

    @pytest.mark.parametrize("setting", ["friendly.zeta=0", "friendly=3", "drawing.dpi=80"])
    def test_bad_bound(self, setting: str, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="friendly"):
            draw("noise-histogram", inputs["noise-histogram"], tmp_path, setting)

    @pytest.mark.parametrize("kind", ["bernoulli", "uniform", "gaussian"])
    def test_random_noise_is_drawn_as_victims_get_it(self, kind: Any) -> None:
        settings = RandomNoise(distribution=kind, mu=16)
        ours = np.sort(noise_histogram_module._draws(settings, np.random.default_rng(0)))
        theirs = random_noise(torch.Size([100_000]), settings, torch.Generator().manual_seed(0)).numpy() * 255
        for share in (0.01, 0.1, 0.3, 0.7, 0.9, 0.99):
            assert np.quantile(ours, share) == pytest.approx(np.quantile(theirs, share), abs=0.5)

    @pytest.mark.parametrize("noise", [np.zeros(0), np.array([0.0, np.nan])])
    def test_no_noise(self, noise: NDArray[Any]) -> None:
        with pytest.raises(DataError):
            noise_histogram(noise, [])

    @pytest.mark.parametrize("setting", ['noise.0.distribution="cauchy"', "noise=3", "noise.0.mu=-1"])
    def test_bad_noise_settings(self, setting: str, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="noise"):
            draw("noise-histogram", inputs["noise-histogram"], tmp_path, "friendly.zeta=16", setting)


CURVES = (ACCURACY, ADVERSARIAL_CONFIDENCE)
NAMED = ["train_loss", "accuracy", "adversarial_confidence"]


def curves(histories: list[Any], def_epoch: int | None = None) -> Figure:
    return learning_curves(histories, CURVES, def_epoch)


def curves_caption(histories: list[Any], def_epoch: int | None = None) -> str:
    return learning_curves_caption(histories, CURVES, def_epoch)


class TestLearningCurves:
    def read(self, folder: Path, *contents: dict[str, Any]) -> list[Any]:
        for place, content in enumerate(contents):
            write_sealed(folder / f"{place}.json", content)
        return [read_history(folder / f"{place}.json", NAMED) for place in range(len(contents))]

    def test_mean_and_band(self, tmp_path: Path) -> None:
        figure = curves(self.read(tmp_path, history("none", 0), history("none", 2)))
        loss, accuracy, confidence = figure.axes
        assert np.asarray(loss.lines[0].get_ydata())[:2] == pytest.approx([2.1, 1.1])
        assert np.asarray(accuracy.lines[0].get_xdata()).tolist() == [2, 5]
        assert np.asarray(accuracy.lines[0].get_ydata()) == pytest.approx([60, 75])
        assert np.asarray(confidence.lines[0].get_ydata()) == pytest.approx([10, 10])
        band = confidence.collections[0].get_datalim(confidence.transData)
        assert (band.y0, band.y1) == pytest.approx((0, 20))
        assert figure.legends[0].get_title().get_text() == "line: mean of 2 seeds; band: standard error"

    def test_caption(self, tmp_path: Path) -> None:
        sure, unsure, other = history("none", 4), history("none", 7), history("friendly", 1)
        caption = curves_caption(self.read(tmp_path, sure, unsure, other), def_epoch=2)
        assert caption.startswith("Training loss, test accuracy and adversarial confidence by epoch")
        assert "friendly noise begins at epoch 2" in caption
        # Losses 2 / 6 + 0.4 and 0.7, confidences 0.4 and 0.7.
        assert caption.endswith(
            "witches: No defense (n = 2) training loss 0.883, test accuracy 75 % and adversarial confidence 55 %; "
            "Friendly noise (n = 1) training loss 0.433, test accuracy 75 % and adversarial confidence 10 %."
        )

    def test_a_seed_that_stopped_counts_to_the_end(self, tmp_path: Path) -> None:
        """Losses 2 / 3 and 2 / 6 + 0.1 at the ends of the two, accuracies 60 and 75 %."""
        read = self.read(tmp_path, history("none", 0, epochs=3), history("none", 1))
        assert np.asarray(curves(read).axes[1].lines[0].get_ydata()) == pytest.approx([60, 67.5])
        caption = curves_caption(read)
        assert (
            "means over n seeds with bands of one standard error; a seed that stopped keeps its last value." in caption
        )
        assert caption.endswith("training loss 0.55, test accuracy 67.5 % and adversarial confidence 5 %.")
        assert "stopped" not in curves_caption(read[1:])

    def test_caption_without_measurements(self, tmp_path: Path) -> None:
        caption = curves_caption(self.read(tmp_path, history("none", 0, every=100)))
        assert caption.endswith("test accuracy not measured and adversarial confidence not measured.")

    def test_graded_measures_are_drawn(self) -> None:
        told = [AttackMeasures(attack="a", measures=(SUCCESS, ADVERSARIAL_CONFIDENCE, ACCURACY))]
        told.append(AttackMeasures(attack="b", measures=(PEAK_ACCURACY, ACCURACY)))
        assert [each.name for each in drawn_measures(told)] == ["accuracy", "adversarial_confidence", "peak_accuracy"]

    def test_single_seed_has_no_band(self, tmp_path: Path) -> None:
        figure = curves(self.read(tmp_path, history("none", 0), history("friendly", 0)), def_epoch=2)
        assert all(len(axes.collections) == 0 for axes in figure.axes)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "No defense",
            "Friendly noise",
            "friendly noise begins",
        ]
        assert figure.legends[0].get_title().get_text() == "one seed"

    def test_nan_and_missing_measurements(self, tmp_path: Path) -> None:
        first, second = history("none", 0, every=1), history("none", 1, every=2)
        first["history"][3]["accuracy"] = math.nan
        first["history"][4]["accuracy"] = None
        figure = curves(self.read(tmp_path, first, second))
        accuracy = figure.axes[1].lines[0]
        assert np.asarray(accuracy.get_xdata()).tolist() == [0, 1, 2, 3, 5]
        assert np.isfinite(np.asarray(accuracy.get_ydata())).all()

    def test_unmeasured_quantity_has_no_panel(self, tmp_path: Path) -> None:
        figure = curves(self.read(tmp_path, history("none", 0, every=100)))
        assert [axes.get_ylabel() for axes in figure.axes] == ["training loss"]
        style.save(figure, "Words.", *(tmp_path / f"a.{kind}" for kind in KINDS), dpi=60)

    def test_a_row_per_attack(self, tmp_path: Path) -> None:
        figure = curves(
            self.read(tmp_path, history("none", 0), history("none", 0, attack="bullseye"), history("clean", 0))
        )
        assert len(figure.axes) == 6
        assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["(a) witches", "(d) bullseye"]
        assert [len(axes.lines) for axes in figure.axes] == [2, 2, 2, 1, 1, 1]

    def test_a_row_per_victim(self, tmp_path: Path) -> None:
        figure = curves(self.read(tmp_path, history("none", 0), history("none", 0, victim="vgg")))
        assert [axes.get_title(loc="left") for axes in figure.axes[::3]] == ["(a) witches on net", "(d) witches on vgg"]

    def test_same_victim_twice(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="list each once"):
            curves(self.read(tmp_path, history("none", 0), history("none", 0)))

    @pytest.mark.parametrize(
        "content",
        [
            {"attack": "a", "victim": "v", "defense": "b", "seed": 0},
            {"attack": "a", "victim": "v", "defense": "b", "seed": 0, "history": []},
            history("none", 0) | {"history": 3},
        ],
    )
    def test_not_metrics(self, content: Any, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="delete it"):
            self.read(tmp_path, content)

    def test_a_victim_that_diverged_has_no_curve_and_is_counted(self, tmp_path: Path) -> None:
        write_sealed(tmp_path / "0.json", history("none", 0))
        write_sealed(
            tmp_path / "1.json", {"attack": "a", "victim": "v", "defense": "none", "seed": 1, "failed": {"epoch": 2}}
        )
        assert read_history(tmp_path / "1.json", NAMED) is None
        draw("learning-curves", [f"victims.none={tmp_path}/{place}.json" for place in range(2)], tmp_path)
        caption = (tmp_path / "figure.caption").read_text()
        assert "(n = 1)" in caption
        assert "Left out: 1 of 2 victims, whose training diverged." in caption
        draw("learning-curves", [f"victims.none={tmp_path}/1.json"], tmp_path)
        assert (tmp_path / "figure.caption").read_text() == "Left out: 1 of 1 victims, whose training diverged.\n"

    def test_nothing_measured(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no measurement"):
            curves(self.read(tmp_path, history("none", 0) | {"history": [{"epoch": 0}]}))

    @pytest.mark.parametrize("value", ["-1", "true", '"x"', "1.5"])
    def test_bad_def_epoch(self, value: str, inputs: dict[str, list[str]], tmp_path: Path) -> None:
        with pytest.raises(SettingsError, match="def_epoch"):
            draw("learning-curves", inputs["learning-curves"], tmp_path, f"def_epoch={value}")


def result(attack: str, defense: str, *numbers: object, victim: str = "net", diverged: int = 0) -> str:
    """A line of the results: n, success and accuracy with their bounds."""
    n, *rest = ("" if number is None else number for number in numbers)
    return ",".join(map(str, (attack, victim, defense, False, n, diverged, *rest, "", "", "", 5))) + "\n"


class TestOutcome:
    def read(self, folder: Path, text: str) -> Any:
        (folder / "results.csv").write_text(text)
        measures = {**MEASURES, "bullseye": MEASURES["witches"], "noise": (PEAK_ACCURACY, FIRST_EPOCH, ACCURACY)}
        named = [line.partition(",")[0] for line in text.splitlines()[1:]]
        return read_results(folder / "results.csv", {name: measures[name] for name in dict.fromkeys(named)})

    def test_dots_and_intervals_in_table_order(self, tmp_path: Path) -> None:
        figure = outcome(self.read(tmp_path, TABLE), MEASURES)
        success, accuracy = figure.axes
        assert [label.get_text() for label in success.get_yticklabels()] == [
            "Clean data (control)",
            "No defense",
            "FRIENDS-B",
        ]
        # The first row is on top.
        assert success.get_ylim()[0] > success.get_ylim()[1]
        drawn = [np.asarray(line.get_xdata()).tolist() for line in success.lines]
        assert drawn[2] == pytest.approx([58, 92])
        assert drawn[3] == pytest.approx([80])
        assert accuracy.get_xlabel() == "test accuracy (%), 95 % interval, n = 20"
        assert self.numbered(figure) == [True, True]

    @staticmethod
    def numbered(figure: Figure) -> list[bool]:
        """Which panels have numbers at their ticks along x."""
        figure.draw_without_rendering()
        return [
            any(tick.label1.get_visible() and tick.label1.get_text() for tick in axes.xaxis.get_major_ticks())
            for axes in figure.axes
        ]

    def test_the_caption_says_what_stands_below_the_table(self, tmp_path: Path) -> None:
        rows = result("witches", "mixup", 20, 0.5, 0.3, 0.7, 0.91, 0.8, 1.0)
        table = self.read(tmp_path, TABLE + rows)
        caption = outcome_caption(table, MEASURES, ["none", "friends-bernoulli"])
        assert caption.startswith("Poison success (whether the target gets the adversarial label) and test accuracy (")
        assert (
            "defense, with 95 % intervals (Wilson for events, Gaffke for rates, Student for other values); n is"
            in caption
        )
        assert caption.endswith(
            "(n = 20). "
            "witches: No defense, poison success 80.0 [58.0, 92.0] %, test accuracy 92.0 [91.0, 93.0] % (n = 20); "
            "FRIENDS-B, poison success 5.0 [1.0, 24.0] %, test accuracy 90.0 [89.0, 91.0] % (n = 20); "
            "the other row, poison success 50.0 % (Mixup at 91.0 % test accuracy); "
            "1 of 2 defended rows' intervals of poison success overlap that of No defense; "
            "Clean data (control), poison success 0.0 [0.0, 16.0] %, test accuracy 93.0 [92.0, 94.0] % (n = 20); "
            "1 of 2 published values of poison success lie in our intervals; "
            "0 of 1 published values of test accuracy lie in our intervals."
        )
        assert " ".join(results_findings(table, MEASURES, ["none", "friends-bernoulli"], style.label_of)) in caption

    def test_the_caption_says_that_a_mean_has_several_victims_of_a_seed(self, tmp_path: Path) -> None:
        numbers = (20, 0.5, 0.3, 0.7, 0.9, 0.8, 1.0)
        one = result("witches", "none", *numbers)
        more = result("witches", "none", *numbers, victim="vgg") + result("witches", "none", *numbers, victim="mean")
        alone, several = (
            outcome_caption(self.read(tmp_path, HEADER + rows), MEASURES, ["none"]) for rows in (one, one + more)
        )
        assert "n is the number of seeds, one victim each (n = 20)." in alone
        counted = "n is the number of seeds, one victim each, or all victims each in means over victims (n = 20)."
        assert counted in several

    def test_a_row_all_of_whose_victims_diverged_is_left_out_and_named(self, tmp_path: Path) -> None:
        gone = result("witches", "dp-sgd", 0, *[None] * 6, diverged=3)
        table = self.read(tmp_path, HEADER + result("witches", "none", 2, 0.8, 0.58, 0.92, 0.92, None, None) + gone)
        assert [label.get_text() for label in outcome(table, MEASURES).axes[0].get_yticklabels()] == ["No defense"]
        caption = outcome_caption(table, MEASURES, ["none"])
        assert caption.endswith("witches under dp-sgd: all victims diverged.")
        assert "nan" not in caption
        with pytest.raises(DataError, match="nothing to draw"):
            self.read(tmp_path, HEADER + result("witches", "dp-sgd", 0, *[None] * 6))

    def test_a_study_of_which_every_victim_diverged_has_an_empty_figure(self, tmp_path: Path) -> None:
        table = self.read(tmp_path, HEADER + result("witches", "dp-sgd", 0, *[None] * 6, diverged=3))
        assert [text.get_text() for text in outcome(table, MEASURES).texts] == ["no victim has an outcome"]
        assert outcome_caption(table, MEASURES, ["none"]) == "No victim of witches has an outcome."

    def test_a_row_of_which_one_victim_has_no_outcome_is_named_with_that_victim(self, tmp_path: Path) -> None:
        there, gone = (3, 0.5, 0.3, 0.7, 0.9, 0.8, 1.0), (0, *[None] * 6)
        rows = result("witches", "dp-sgd", *there) + result("witches", "dp-sgd", *gone, diverged=3, victim="vgg")
        caption = outcome_caption(self.read(tmp_path, HEADER + rows), MEASURES, [])
        assert caption.endswith("witches on vgg under dp-sgd: all victims diverged.")

    def test_single_seed_has_no_accuracy_interval(self, tmp_path: Path) -> None:
        rows = result("witches", "null", 1, 1.0, 0.2, 1.0, 0.9, None, None) + result(
            "witches", "none", 3, 0, 0, 0.5, 0.8, "nan", "nan"
        )
        figure = outcome(self.read(tmp_path, HEADER + rows), MEASURES)
        assert [len(axes.lines) for axes in figure.axes] == [4, 2]
        assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
            "null (n = 1)",
            "No defense (n = 3)",
        ]
        style.save(figure, "Words.", *(tmp_path / f"a.{kind}" for kind in KINDS), dpi=60)

    def test_a_row_of_panels_per_attack_and_victim(self, tmp_path: Path) -> None:
        numbers = (20, 0.5, 0.3, 0.7, 0.9, 0.8, 1.0)
        measures = {**MEASURES, "bullseye": MEASURES["witches"]}
        more = result("bullseye", "none", *numbers) + result("witches", "none", *numbers, victim="vgg")
        figure = outcome(self.read(tmp_path, TABLE + more), measures)
        titles = [axes.get_title(loc="left") for axes in figure.axes]
        assert titles == ["witches on net", "", "bullseye", "", "witches on vgg", ""]
        # Of a short page only the lowest.
        assert self.numbered(figure) == [False, False, False, False, True, True]

    def test_a_rate_and_an_event_that_are_called_alike_share_their_axes(self, tmp_path: Path) -> None:
        """As success of Sleeper Agent and of the others: accuracies would be read against another scale."""
        rate = SUCCESS.model_copy(update={"kind": "rate", "meaning": "of many images"})
        measures = {**MEASURES, "bullseye": (rate, *MEASURES["witches"][1:])}
        more = result("bullseye", "none", 4, 0.9, 0.8, 1.0, 0.5, 0.4, 0.6)
        figure = outcome(self.read(tmp_path, TABLE + more), measures)
        assert len({axes.get_xlim() for axes in figure.axes[1::2]}) == 1
        assert self.numbered(figure) == [False, False, True, True]

    def test_attacks_with_other_measures_have_axes_of_their_own(self, tmp_path: Path) -> None:
        header = HEADER.replace("success", "peak_accuracy").replace("adversarial_confidence", "first_epoch")
        rows = result("noise", "none", 2, 0.5, 0.4, 0.6, 0.3, 0.2, 0.4)
        table = self.read(tmp_path, header + rows)
        figure = outcome(table, {"noise": (PEAK_ACCURACY, FIRST_EPOCH, ACCURACY)})
        assert [axes.get_xlabel().partition(" (")[0] for axes in figure.axes] == ["peak accuracy", "test accuracy"]
        assert self.numbered(figure) == [True, True]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (HEADER, "no rows"),
            (TABLE.replace("success_low,", "other,"), "lacks the columns success_low"),
            (TABLE.replace("0.8,0.58", "most,0.58"), "text where numbers"),
            (TABLE.replace("none,False", "none,no"), "true or false"),
            (TABLE.replace("none,False", "none,"), "which rows are controls"),
            (TABLE.replace("0.93,True,", "0.93,yes,"), "true or false"),
        ],
    )
    def test_bad_tables(self, text: str, message: str, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text(text)
        with pytest.raises(DataError, match=message):
            read_results(tmp_path / "results.csv", MEASURES)

    def test_the_table_of_another_study_is_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "results.csv").write_text(TABLE.replace("witches,net,none", "other,net,none"))
        with pytest.raises(DataError, match="the attack other, which has no measures here"):
            read_results(tmp_path / "results.csv", MEASURES)
