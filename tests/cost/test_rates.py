"""Rates: read from CSV, chosen by kind and network, and the committed file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from poisonlab.config.models.resnet18 import ResNet18
from poisonlab.config.recipe import Recipe
from poisonlab.cost.amount import Work
from poisonlab.cost.networks import network_of
from poisonlab.cost.rates import Device, read_rates
from poisonlab.cost.training import training
from poisonlab.errors import DataError

ROOT = Path(__file__).resolve().parents[2]
HEADER = "device,precision,network,kind,tflops,source\n"


def devices(tmp_path: Path, lines: str, header: str = HEADER) -> list[Device]:
    path = tmp_path / "rates.csv"
    path.write_text(header + lines, encoding="utf-8")
    return read_rates(path)


def test_hours_at_the_rate_of_each_kind(tmp_path: Path) -> None:
    (device,) = devices(tmp_path, "d,float32,a,train,2,x\nd,float32,a,craft,1,x\n")
    work = Work({("train", "a"): 3600e12, ("craft", "a"): 3600e12})
    assert device.hours(work) == pytest.approx(1.5)
    assert device.stand_ins(work) == []


def test_what_is_not_measured_takes_the_training_rate_and_says_so(tmp_path: Path) -> None:
    (device,) = devices(tmp_path, "d,float32,a,train,2,x\nd,float32,b,train,1,x\n")
    work = Work({("noise", "b"): 3600e12, ("forward", "c"): 3600e12})
    assert device.hours(work) == pytest.approx(1.5)
    assert device.stand_ins(work) == [
        "d, float32: no rate of noise on b; taken: train on b",
        "d, float32: no rate of forward on c; taken: train on a",
    ]


def test_precisions_are_apart(tmp_path: Path) -> None:
    names = [device.name for device in devices(tmp_path, "d,float32,a,all,2,x\nd,bfloat16,a,all,3,x\n")]
    assert names == ["d, float32", "d, bfloat16"]


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ("", "at least one line"),
        ("d,float32,a,train,zero,x\n", "line 2: tflops must be a number above 0, not 'zero'"),
        ("d,float32,a,train,-1,x\n", "above 0"),
        ("d,float32,a,flying,1,x\n", "kind is one of train, craft"),
        ("d,float32,a,train,1\n", "give six fields"),
        ("d,float32,a,train,1,x,y\n", "give six fields"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path: Path, lines: str, what: str) -> None:
    with pytest.raises(DataError, match=what):
        devices(tmp_path, lines)


def test_other_columns_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have the columns"):
        devices(tmp_path, "d,1\n", "device,tflops\n")
    with pytest.raises(DataError, match="cannot read the rates"):
        read_rates(tmp_path / "none.csv")


def test_without_a_training_rate(tmp_path: Path) -> None:
    (device,) = devices(tmp_path, "d,float32,a,craft,2,x\n")
    with pytest.raises(DataError, match=r"no rate of train for d, float32"):
        device.hours(Work({("noise", "a"): 1.0}))


def test_the_published_rate_follows_from_the_published_time() -> None:
    table = pd.read_csv(ROOT / "reference" / "friends_table1.csv")
    (minutes,) = table[(table["defense"] == "friends-bernoulli") & (table["column"] == "Time")]["value"]
    work = training(network_of(ResNet18(), 10, (3, 32, 32)), Recipe(epochs=80), 50_000)
    (published,) = [
        rate
        for device in read_rates(ROOT / "benchmarks" / "rates.csv")
        for rate in device.rates
        if "A40" in rate.device
    ]
    assert published.tflops == pytest.approx(work.flops / (60 * minutes) / 1e12, rel=1e-3)
