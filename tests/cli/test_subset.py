"""`rela-zoo subset`: what is exported is what a run draws, and can be read back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.errors import RelaZooError, SelectionError
from rela_zoo.selection.subset import EpochSubset

N = 40


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(N):
        place = tmp_path / "data" / ("a" if i < 30 else "b")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(place / f"{i:02d}.png")
    return tmp_path / "data"


def _run(*words: object) -> str:
    done = CliRunner().invoke(app, ["subset", *map(str, words)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_exported_subsets_are_those_of_a_run(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "subsets"
    info = json.loads(_run("export", folder, "--out", out, "--epochs", 3, "--seed", 4, "--json"))
    assert (info["epochs"], info["smallest"], info["largest"], info["n"]) == (3, 8, 8, N)
    ids = sorted(f"{p.parent.name}/{p.name}" for p in folder.rglob("*.png"))
    for epoch in range(3):
        lines = _run("replay", out, "--epoch", epoch).splitlines()
        drawn = EpochSubset(N, 0.2, 4).indices(epoch).tolist()
        assert lines == [f"{ids[i]}\t1" for i in drawn]
        assert json.loads(_run("replay", out, "--epoch", epoch, "--data", folder, "--json"))["indices"] == drawn


def test_a_policy_over_the_priors_embeddings(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "subsets"
    words = ("--epochs", 2, "--prior", "random-test_resnet", "--data-ratio", 0.5)
    text = _run("export", folder, "--out", out, *words, "--selection", "{name: balanced, clusters: 4, weighted: true}")
    assert "20 samples of 40" in text
    assert f"rela.data_ratio=0.5 'rela.selection={{name: replay, path: {out}}}'" in text
    shown = _run("replay", out, "--data", folder)
    assert "balanced" in shown
    assert "not weighted" not in shown
    assert "all of them are in" in shown


def test_a_second_call_with_other_settings_is_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "subsets"
    _run("export", folder, "--out", out, "--epochs", 3)
    _run("export", folder, "--out", out, "--epochs", 4)
    with pytest.raises(RelaZooError, match="other subsets"):
        _run("export", folder, "--out", out, "--epochs", 3, "--seed", 1)
    with pytest.raises(RelaZooError, match="more epochs"):
        _run("export", folder, "--out", out, "--epochs", 3)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--selection", "loss", "--prior", "random"], "record"),
        (["--selection", "balanced"], "rela.selection"),
        (["--data-ratio", "2"], "rela.data_ratio"),
        (["--prior", "cifar10-resnet2O"], "rela.prior"),
        (["--selection", "{name: balanced"], "YAML"),
    ],
)
def test_mistakes_are_named(folder: Path, tmp_path: Path, words: list[str], named: str) -> None:
    with pytest.raises(RelaZooError, match=named):
        _run("export", folder, "--out", tmp_path / "subsets", "--epochs", 2, *words)
    assert not (tmp_path / "subsets").exists()


def test_subsets_of_other_data_are_refused(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "subsets"
    _run("export", folder, "--out", out, "--epochs", 2)
    for path in folder.rglob("*.png"):
        path.rename(path.with_name(f"new-{path.name}"))
    with pytest.raises(RelaZooError, match="not in this data set"):
        _run("replay", out, "--data", folder)


def _swap(folder: Path) -> None:
    """Other pictures under the same names: two trade places."""
    one, other = sorted(folder.rglob("*.png"))[:2]
    ours, theirs = one.read_bytes(), other.read_bytes()
    one.write_bytes(theirs)
    other.write_bytes(ours)


def test_subsets_of_other_pictures_with_the_same_names_are_refused(folder: Path, tmp_path: Path) -> None:
    from rela_zoo.data import image_source
    from rela_zoo.engine import plan_rela, run_subset

    out = tmp_path / "subsets"
    _run("export", folder, "--out", out, "--epochs", 2)
    samples = json.loads((out / "subsets.json").read_text())["samples"]
    assert len(samples) == N
    section = {"data_ratio": 0.2, "selection": {"name": "replay", "path": str(out)}}

    def replay(**more: object) -> object:
        config = plan_rela({**section, **more}).config
        source = image_source(str(folder))
        device = torch.device("cpu")
        return run_subset(config, n=N, seed=0, epochs=2, source=source, targets=None, device=device)

    assert _run("replay", out, "--data", folder)
    assert replay()
    _swap(folder)
    refused = pytest.raises(
        SelectionError, match=r"(?s)other pictures with the same names.*2 others, such as 'a/00.png'"
    )
    with refused:
        _run("replay", out, "--data", folder)
    with refused:
        _run("replay", out, "--data", folder, "--epoch", 1)
    with refused:
        replay()
    with pytest.raises(SelectionError, match="holds other subsets"):
        _run("export", folder, "--out", out, "--epochs", 2)
    assert replay(verify=0), "whoever says so joins by name"
    _swap(folder)
    assert replay(verify="required")


def test_subsets_from_before_there_were_digests(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = tmp_path / "subsets"
    _run("export", folder, "--out", out, "--epochs", 2)
    info = json.loads((out / "subsets.json").read_text())
    del info["samples"]
    (out / "subsets.json").write_text(json.dumps(info))
    assert "all of them are in" in _run("replay", out, "--data", folder)
    assert "not verified" in caplog.text
    _run("export", folder, "--out", out, "--epochs", 3)  # goes on, and notes them
    assert len(json.loads((out / "subsets.json").read_text())["samples"]) == N
    (out / "subsets.json").write_text(json.dumps({**info, "samples": {"a/00.png": {"bytes": 1}}}))
    with pytest.raises(SelectionError, match="malformed digests"):
        _run("replay", out, "--data", folder)
