"""Which edits of the sources change the code digests of which jobs: on a copy of the sources, without Snakemake."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from poisonlab.modules import roots
from poisonlab.provenance import ROOT, code_digests

MODEL = roots("models", "resnet18")
JOBS = {
    "dataset": roots("data", "digits-on-photos"),
    "pretrain": MODEL,
    "craft": [*MODEL, *roots("attacks", "gradient-matching")],
    "filter": [*MODEL, *roots("filters", "deep-knn")],
    "noise": [*MODEL, *roots("defenses", "friendly-noise")],
    "train": [*MODEL, *roots("defenses", "random-noise")],
    "detect": [*MODEL, *roots("detection", "strip")],
    "output_std": MODEL,
    "feature_view": MODEL,
}
"""The roots of one job of each stage that computes."""
COMPUTING = set(JOBS) - {"dataset"}
TRAINING = {"pretrain", "noise", "train"}

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]], dict[Path, bytes]]:
    """A copy of the sources, the digests of its jobs, and what its files hold."""
    place = tmp_path_factory.mktemp("sources")
    for folder in ("src", "workflow/scripts"):
        shutil.copytree(ROOT / folder, place / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return place, digests(place), {path: path.read_bytes() for path in place.rglob("*.py")}


@pytest.fixture
def sources(pristine: tuple[Path, dict[str, list[str]], dict[Path, bytes]]) -> Iterator[Path]:
    """The copy to change; it is restored."""
    place, _, files = pristine
    yield place
    for path in place.rglob("*.py"):
        if path not in files:
            path.unlink()
        elif path.read_bytes() != files[path]:
            path.write_bytes(files[path])


@pytest.fixture
def before(pristine: tuple[Path, dict[str, list[str]], dict[Path, bytes]]) -> dict[str, list[str]]:
    return pristine[1]


def digests(place: Path) -> dict[str, list[str]]:
    return {job: code_digests(f"workflow/scripts/{job}.py", *named, base=place) for job, named in JOBS.items()}


def appended(*files: str) -> Change:
    """A change of code, however small."""

    def change(place: Path) -> None:
        for file in files:
            path = place / "src/poisonlab" / file
            path.write_text((path.read_text("utf-8") if path.exists() else "") + "\nCHANGED = 1\n", "utf-8")

    return change


def replaced(file: str, before: str, after: str) -> Change:
    def change(place: Path) -> None:
        path = place / "src/poisonlab" / file
        text = path.read_text("utf-8")
        assert text.count(before) == 1, f"{file} no longer holds {before!r}: adapt the test"
        path.write_text(text.replace(before, after), "utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "jobs"),
    [
        # More to choose from.
        (appended("models/vgg.py", "config/models/vgg.py", "config/architectures.py"), set()),
        (replaced("config/models/lenet.py", "class LeNet(", "OTHER = 1\n\n\nclass LeNet("), set()),
        (replaced("config/recipes.py", '"witches-brew": {"epochs": 40}', '"own": {"epochs": 41}'), set()),
        (appended("attacks/own.py", "config/attacks/own.py", "config/study.py"), set()),
        (appended("defenses/own.py", "config/defenses/own.py", "filters/own.py", "config/filters/own.py"), set()),
        (appended("detection/own.py", "config/detection/own.py", "config/rows.py"), set()),
        (appended("data/own.py", "config/data/own.py", "config/datasets.py"), set()),
        (appended("config/measures.py", "evaluation/results.py", "figures/own.py"), set()),
        # Settings.
        (
            replaced(
                "config/models/resnet18.py", 'norm: Norm = "batch"', 'norm: Norm = "batch"\n    deep: bool = False'
            ),
            set(),
        ),
        (
            replaced(
                "config/recipe.py", "    compile: bool", "    ema: Annotated[float, LATER] = 0.0\n    compile: bool"
            ),
            set(),
        ),
        (replaced("config/recipe.py", "milestones must increase", "give milestones in order"), set()),
        (replaced("config/recipe.py", "self.milestones[-1] >=", "self.milestones[-1] >"), TRAINING | {"craft"}),
        # Words.
        (replaced("runtime/program.py", "out of memory on the GPU", "the GPU is full"), set()),
        (replaced("runtime/program.py", "settings, as the workflow passes them", "settings"), set()),
        (replaced("models/networks.py", "was the config changed?", "check the config"), set()),
        (replaced("training/loop.py", "a weight is not finite", "a weight is NaN"), set()),
        (replaced("training/checkpoint.py", "the training goes on without this save", "not saved"), set()),
        # How programs are run.
        (appended("runtime/gpus.py", "runtime/cards.py", "runtime/clock.py", "runtime/setting_aside.py"), set()),
        (replaced("runtime/cadence.py", ">= self._seconds", "> 2 * self._seconds"), set()),
        # What computes.
        (replaced("training/loop.py", "optimizer.step()", "optimizer.step()\n        optimizer.step()"), TRAINING),
        (replaced("determinism.py", "set_num_threads(threads)", "set_num_threads(2 * threads)"), COMPUTING),
        (appended("randomness.py"), COMPUTING),
        (appended("models/resnet18.py"), COMPUTING),
        (appended("models/lenet.py"), set()),
        (appended("training/adam.py"), set()),
        (appended("data/digits_on_photos.py"), {"dataset"}),
        (appended("attacks/gradient_matching.py"), {"craft"}),
        (appended("filters/deep_knn.py"), {"filter"}),
        (appended("detection/strip.py"), {"detect"}),
        (appended("defenses/friendly_noise.py"), {"noise"}),
        # Gradient matching can be adapted to random noise.
        (appended("defenses/random_noise.py"), {"craft", "train"}),
    ],
)
def test_an_edit_changes_the_code_of_its_users(
    sources: Path, before: dict[str, list[str]], change: Change, jobs: set[str]
) -> None:
    change(sources)
    after = digests(sources)
    assert {job for job in JOBS if before[job] != after[job]} == jobs


def test_the_order_of_the_hooks_counts(sources: Path, before: dict[str, list[str]]) -> None:
    replaced(
        "training/loop.py",
        "    for defense in defenses:\n        data = defense.prepare(data)\n",
        "    for defense in reversed(defenses):\n        data = defense.prepare(data)\n",
    )(sources)
    after = digests(sources)
    assert {job for job in JOBS if before[job] != after[job]} == TRAINING


@pytest.mark.parametrize("job", JOBS)
def test_no_job_knows_all_that_a_study_can_choose_from(job: str) -> None:
    files = {string.partition("@")[0] for string in code_digests(f"workflow/scripts/{job}.py", *JOBS[job])}
    choices = (
        "architectures",
        "datasets",
        "recipes",
        "rows",
        "study",
        "victims",
        "ablations",
        "attack_settings",
        "scale",
    )
    assert not files & {f"src/poisonlab/config/{name}.py" for name in choices}
    assert not any("/runtime/" in file for file in files)


def test_roots_name_what_computes_and_its_settings() -> None:
    assert roots("attacks", "gradient-matching") == [
        "poisonlab.attacks.gradient_matching",
        "poisonlab.config.attacks.gradient_matching",
    ]
    assert roots("data", "cifar100") == ["poisonlab.data.cifar", "poisonlab.config.data.cifar"]
    assert roots("models", "small-resnet") == [
        "poisonlab.models.small_resnet",
        "poisonlab.config.models.small_resnet",
    ]
