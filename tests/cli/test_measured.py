"""What ships with the package about priors is shown by `show`, `compare` and `recommend`, with its data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.demo import write_digits
from rela_zoo.registry import packaged_results

PRIORS = ("cifar10-resnet20", "random")
(DIGITS,) = (one for one in packaged_results() if one.data.name == "digits")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "100")


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return " ".join(done.stdout.split())


def r2(source: str, target: str) -> float:
    pair = DIGITS.pair(source, target)
    assert pair is not None
    return pair.r2


def test_show() -> None:
    said = run("show", "cifar10-resnet20")
    knn = DIGITS.priors["cifar10-resnet20"].knn
    assert knn is not None
    assert f"20-NN {100 * knn:.1f} %" in said
    assert DIGITS.data.title in said
    assert f"random {r2(*PRIORS):.2f}" in said
    assert "has seen this data with its labels" in said, "CIFAR-10"
    facts = json.loads(run("show", "cifar10-resnet20", "--json"))["measured"]
    assert facts["digits"]["knn"] == knn
    assert facts["digits"]["transports_to"]["random"]["r2"] == r2(*PRIORS)
    assert facts["cifar10"]["seen"] == "labels"
    assert json.loads(run("show", "clip-rn50", "--json"))["measured"] == {}


def test_compare_without_images() -> None:
    said = run("compare", *PRIORS)
    assert "nothing is measured now" in said
    assert f"– {r2(*PRIORS):.3f}" in said
    assert DIGITS.data.title in said
    assert "† has seen this data with its labels" in said
    (digits,) = (one for one in json.loads(run("compare", *PRIORS, "--json"))["measured"]
                 if one["data"]["name"] == "digits")  # fmt: skip
    assert {(one["source"], one["target"]): one["r2"] for one in digits["pairs"]} == {
        PRIORS: r2(*PRIORS), PRIORS[::-1]: r2(*PRIORS[::-1]),
    }  # fmt: skip


def test_compare_without_images_of_what_is_not_measured_asks_for_them() -> None:
    assert "--dataset" in str(CliRunner().invoke(app, ["compare", "cifar10-resnet20", "random-resnet18"]).exception)


def test_compare_and_recommend_show_it_beside_what_they_measure(tmp_path: Path) -> None:
    train, _ = write_digits(tmp_path / "digits")
    few = tmp_path / "few"
    for number, path in enumerate(sorted(train.rglob("*.png"))):
        if number % 5 == 0:
            target = few / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
    said = run("compare", *PRIORS, "--dataset", str(few), "--sample", "200")
    assert said.index("RankMe") < said.index("Measured before on digits")
    own: Any = json.loads(run("compare", *PRIORS, "--dataset", str(few), "--json"))
    assert own["pairs"]["transport_r2"][0][1] != pytest.approx(r2(*PRIORS), abs=1e-6), "other images, other numbers"
    assert {one["data"]["name"] for one in own["measured"]} >= {"digits"}
    said = run("recommend", "--dataset", str(few), "--sample", "100", *PRIORS)
    assert said.index("judged on 100") < said.index("Measured before")
    assert DIGITS.data.title in said
    listed = json.loads(run("recommend", "--dataset", str(few), "--sample", "100", "--json", *PRIORS))
    assert {one["prior"]: one["measured"]["digits"]["knn"] for one in listed} == {
        name: DIGITS.priors[name].knn for name in PRIORS
    }
