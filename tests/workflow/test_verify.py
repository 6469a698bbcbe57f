"""workflow/scripts/verify.py: which results are current, and why others are not."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest
from harness import STUDY, Checkout, Outcome
from PIL import Image

from poisonlab.files import file_digest

pytestmark = pytest.mark.workflow

NOISE = "results/noise/tiny/strong/scratch/friendly/seed0.safetensors"
VICTIM = "results/victims/tiny/strong/scratch/friendly/seed0.safetensors"
OTHER = "results/victims/tiny/strong/scratch/none/seed0.safetensors"


def verify(study: Checkout, *arguments: str) -> Outcome:
    # Snakemake is asked through the interpreter that made the study.
    return study.script("verify", "--configfile", STUDY, *arguments)


def verdicts(outcome: Outcome) -> dict[str, tuple[str, str]]:
    """State and reason by path."""
    found = {}
    for line in outcome.output.splitlines():
        state, _, rest = line.partition(" ")
        if rest.strip().startswith("results/"):
            path, _, why = rest.strip().partition(": ")
            found[path] = (state, why)
    return found


def test_a_study_just_made_is_current(planned: Checkout) -> None:
    outcome = verify(planned, "--all")
    assert outcome.code == 0, outcome.output
    found = verdicts(outcome)
    assert {state for state, _ in found.values()} == {"current"}
    assert {NOISE, VICTIM, "results/tables/tiny.csv"} <= set(found)
    assert f"{len(found)} current, 0 stale, 0 unknown, 0 damaged; 0 not made yet" in outcome.output


def test_a_changed_setting_is_named_also_if_the_profile_says_little(copied: Checkout) -> None:
    copied.append("profiles/default/config.yaml", "quiet: [rules]\nrerun-triggers: [mtime]\n")
    copied.change_study(lambda study: study["defenses"][2]["apply"][0].update(zeta=12))
    outcome = verify(copied)
    assert outcome.code == 1, outcome.output
    found = verdicts(outcome)
    assert found[NOISE] == ("stale", "settings changed: defenses.0.zeta")
    assert found[VICTIM][0] == "stale"
    assert NOISE in found[VICTIM][1]
    # What does not depend on it is not listed, because it is current.
    assert OTHER not in found


def test_an_estimate_counts_what_is_stale(finished: Checkout, tmp_path: Path) -> None:
    study = finished.copy(tmp_path / "study")

    def left() -> int:
        outcome = study.script("estimate", "--configfile", STUDY)
        assert outcome.code == 0, outcome.output
        return int(outcome.output.split("Jobs left: ")[1].split(",")[0])

    assert left() == 0
    study.change_study(lambda settings: settings["attacks"][0].update(steps=7))
    # What follows is made again, too; not counted is what has no run card.
    assert left() == len(study.plan().jobs("craft", "filter", "noise", "train", "detect")) > 2


def test_changed_code_is_named(copied: Checkout) -> None:
    copied.append("src/poisonlab/defenses/friendly_noise.py", "\nCHANGED_BY_TEST = 1\n")
    found = verdicts(verify(copied))
    assert found[NOISE] == ("stale", "code changed: src/poisonlab/defenses/friendly_noise.py")
    assert OTHER not in found


def test_a_file_without_a_record_or_a_rule_is_unknown(copied: Checkout) -> None:
    metrics = OTHER.replace(".safetensors", ".metrics.json")
    for path in (OTHER, metrics):
        (copied.path / ".snakemake/metadata" / base64.urlsafe_b64encode(path.encode()).decode()).unlink()
    stray = copied.path / Path(OTHER).with_name("seed9.safetensors")
    stray.write_text("from somewhere", encoding="utf-8")
    outcome = verify(copied)
    assert outcome.code == 2, outcome.output
    found = verdicts(outcome)
    assert found[OTHER] == ("unknown", "there is no record of how it was made")
    # Nor is it known of what is made from it.
    trials = "results/tables/tiny-trials.csv"
    assert found[trials] == ("unknown", f"it was made from {metrics}, of unknown origin")
    assert found["results/tables/tiny.csv"] == ("unknown", f"it was made from {trials}, of unknown origin")
    assert NOISE not in found
    assert found[str(stray.relative_to(copied.path))] == ("unknown", "no rule of this study makes it")


def test_files_of_a_row_that_was_taken_out_are_unknown_as_those_of_a_seed_are(copied: Checkout) -> None:
    made = {str(path.relative_to(copied.path)) for path in (copied.path / "results").rglob("friendly/*.*")}
    copied.change_study(lambda study: study["defenses"].pop(2))
    outcome = verify(copied)
    assert outcome.code == 2, outcome.output
    unknown = {path for path, (state, _) in verdicts(outcome).items() if state == "unknown"}
    assert unknown == {path for path in made if not path.endswith(".log")} != set()


def test_an_input_that_an_older_file_replaced_is_found_by_reading(copied: Checkout) -> None:
    trials, table = "results/tables/tiny-trials.csv", "results/tables/tiny.csv"
    backup = copied.path / "backup"
    backup.write_text("of another week", encoding="utf-8")
    os.utime(backup, (1e9, 1e9))
    backup.replace(copied.path / trials)
    assert copied.plan().reasons == {}
    why = f"made from another {trials}, which its old time stamp hides: restore or touch it"
    assert verdicts(verify(copied, "--deep"))[table] == ("stale", why)
    os.utime(copied.path / trials)
    assert ("tables", "") in copied.plan().reasons


def test_a_changed_image_folder_is_stale_and_runs_again(fresh: Checkout, tmp_path: Path, warm: str) -> None:
    study = Checkout(fresh.copy(tmp_path / "study").path, warm)
    for split in ("train", "test"):
        for place, name in enumerate(("cat", "dog")):
            (study.path / "photos" / split / name).mkdir(parents=True)
            for number in range(3):
                image = Image.new("RGB", (8, 8), (100 * place, number, 50 * place + number))
                image.save(study.path / "photos" / split / name / f"{number}.bmp")
                os.utime(study.path / "photos" / split / name / f"{number}.bmp", (1_700_000_000, 1_700_000_000))
    (study.path / "photos" / "train" / "dog" / "9.heic").touch()
    study.change_study(lambda values: values.update(dataset={"source": "image-folder", "root": "photos"}))
    path = "results/data/tiny.safetensors"

    def made() -> str:
        outcome = study.snakemake(path, "--cores", "1")
        assert outcome.code == 0, outcome.output
        # What the job warned of in its log is said where the user looks.
        assert "\nwarning: photos/train: files passed over: 1 (1 .heic in " in outcome.output
        return file_digest(study.path / path)

    contents = [made()]
    train = study.path / "photos" / "train"
    for old, new in (("cat", "x"), ("dog", "cat"), ("x", "dog")):
        (train / old).rename(train / new)
    for change in (lambda: None, (train / "cat" / "0.bmp").unlink):
        change()
        outcome = verify(study)
        assert outcome.code == 1, outcome.output
        assert verdicts(outcome) == {path: ("stale", "contents changed: files read by dataset")}
        contents.append(made())
    assert verdicts(verify(study, "--all")) == {path: ("current", "")}
    assert len(set(contents)) == 3


def test_what_is_missing_is_counted_and_no_fault_nor_are_reports_of_other_studies(copied: Checkout) -> None:
    for name in ("other", "tiny-so-far"):
        (copied.path / f"results/reports/{name}.html").write_text("another study's", encoding="utf-8")
    # Nothing is made of the report.
    (copied.path / "results/reports/tiny.html").unlink()
    outcome = verify(copied)
    assert outcome.code == 0, outcome.output
    assert "; 1 not made yet" in outcome.output


def test_a_flipped_bit_is_damage(finished: Checkout, tmp_path: Path) -> None:
    study = finished.copy(tmp_path / "study")
    damaged = study.path / "results/victims/real/strong/scratch/none/seed0.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    stamp = damaged.stat()
    damaged.write_bytes(bytes(content))
    os.utime(damaged, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    assert verify(study).code == 0
    outcome = verify(study, "--deep")
    assert outcome.code == 3, outcome.output
    assert verdicts(outcome)["results/victims/real/strong/scratch/none/seed0.safetensors"][0] == "damaged"


def test_a_bad_config_is_one_line(copied: Checkout) -> None:
    copied.change_study(lambda study: study.update(seeds=[]))
    outcome = verify(copied)
    assert outcome.code == 4
    assert "seeds" in outcome.output
    assert "Traceback" not in outcome.output
