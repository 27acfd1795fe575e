"""One damaged picture: every command that looks at pictures names it, and leaves it out if asked to."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hub_server.zoo import commit_of
from PIL import Image
from typer.testing import CliRunner

from rela_zoo import open_embeddings
from rela_zoo.cli import app
from rela_zoo.errors import EmbeddingsError
from rela_zoo.remote import MANIFEST

N, BROKEN, PRIOR = 210, "a/000.png", "cifar10-resnet20"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("photos") / "data", np.random.default_rng(0)
    for i in range(N + 1):
        path = folder / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    (folder / BROKEN).write_bytes((folder / BROKEN).read_bytes()[:40])
    return folder


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RELA_ZOO_INDEX", "none")


def run(*command: object) -> str:
    done = CliRunner().invoke(app, [str(one) for one in command], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


COMMANDS = {
    "embed": ["embed", PRIOR, "DATA", "--out", "OUT"],
    "recommend": ["recommend", "--dataset", "DATA", PRIOR, "--sample", N + 1, "--json"],
    "compare": ["compare", PRIOR, "random-test_resnet", "--dataset", "DATA", "--json"],
    "subset": ["subset", "export", "DATA", "--out", "OUT", "--epochs", 1, "--prior", PRIOR, "--selection", "balanced"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_named_or_left_out(photos: Path, tmp_path: Path, name: str, said: Any) -> None:
    command = [{"DATA": photos, "OUT": tmp_path / "out"}.get(str(one), one) for one in COMMANDS[name]]
    with pytest.raises(EmbeddingsError, match=rf"(?s){BROKEN}.*--skip-undecodable"):
        run(*command)
    found = run(*command, "--skip-undecodable")
    if name == "embed":
        assert f"could not be decoded: {BROKEN}" in found
        assert len(open_embeddings(tmp_path / "out")) == N
    else:
        assert f"1 images are left out, for they can't be decoded: {BROKEN}" in str(said)
    if name == "compare":
        assert json.loads(found)["samples"] == N
    if name == "subset":
        assert json.loads((tmp_path / "out" / "subsets.json").read_text())["n"] == N


def test_a_configuration_that_recommend_writes_leaves_them_out_too(photos: Path, tmp_path: Path) -> None:
    import yaml

    options = ["--sample", 100, "--config", tmp_path / "run.yaml", "--skip-undecodable"]
    run("recommend", "--dataset", photos, PRIOR, *options)
    assert yaml.safe_load((tmp_path / "run.yaml").read_text())["data"]["on_error"] == "skip"


@pytest.fixture
def rows(photos: Path, tmp_path: Path) -> Path:
    run("embed", PRIOR, photos, "--out", tmp_path / "rows", "--skip-undecodable")
    return tmp_path / "rows"


def test_what_was_left_out_of_embeddings_is_left_out_of_subsets(photos: Path, rows: Path, tmp_path: Path) -> None:
    options = ["--epochs", 1, "--prior", PRIOR, "--embeddings", rows, "--selection", "balanced", "--data-ratio", 1.0]
    assert f"of {N}," in run("subset", "export", photos, "--out", tmp_path / "subsets", *options)
    assert BROKEN not in run("subset", "replay", tmp_path / "subsets", "--epoch", 0)
    assert "all of them are in" in run("subset", "replay", tmp_path / "subsets", "--data", photos)


@pytest.mark.parametrize("where", ["folder", "address"])
def test_what_was_left_out_of_embeddings_is_left_out_of_the_training(
    photos: Path, rows: Path, tmp_path: Path, where: str, request: pytest.FixtureRequest, said: Any
) -> None:
    embeddings = str(rows)
    if where == "address":
        hub = request.getfixturevalue("hub")
        files = {f"toy/{name}": (rows / name).read_bytes() for name in open_embeddings(rows).files}
        records = {p: {"sha256": hashlib.sha256(one).hexdigest(), "bytes": len(one)} for p, one in files.items()}
        manifest = json.dumps({"format": 1, "files": records}).encode()
        hub.store.add("org/rows", {**files, MANIFEST: manifest}, kind="dataset")
        embeddings = f"hf://org/rows@{commit_of('org/rows', 'dataset')}/toy"
    run(
        "pretrain", "--config-name", "demo", f"data.train_path={photos}", f"rela={PRIOR}", "rela.data_ratio=1.0",
        f"rela.embeddings='{embeddings}'", "max_epochs=1", "rela.handover=1.0", f"checkpoint.dir={tmp_path / 'runs'}",
        "auto_resume.enabled=false",
    )  # fmt: skip
    assert f"1 images are left out of the training, for they were left out of {embeddings}: {BROKEN}" in str(said)


def test_a_run_that_leaves_them_out_fetches_for_these(photos: Path, tmp_path: Path) -> None:
    command = ["fetch", "demo", f"rela={PRIOR}", f"data.train_path={photos}"]
    assert "weights" in run(*command, "data.on_error=skip")


def test_nothing_but_damaged_pictures(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for i in range(3):
        (tmp_path / "data" / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(EmbeddingsError, match="no image of this data set can be decoded"):
        run("subset", "export", tmp_path / "data", "--out", tmp_path / "out", "--epochs", 1, "--skip-undecodable")
