"""`rela-zoo embed` and `rela-zoo transport`, from the command line to the files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

import rela_zoo.prior
from rela_zoo.cli import app, main
from rela_zoo.embeddings import open_embeddings
from rela_zoo.errors import EmbeddingsError
from rela_zoo.transport import TargetTransport

runner = CliRunner()


class Flat(nn.Module):
    """The pixels themselves, as float: 12 features of a 2×2 image."""

    dim = 12

    def __init__(self, name: str, preprocessing: str) -> None:
        super().__init__()
        self.name, self.preprocessing = name, preprocessing

    def transform(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()

    def identity(self) -> dict[str, str | int]:
        return {"id": self.name, "preprocessing": self.preprocessing}

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)


@pytest.fixture(autouse=True)
def _prior(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_prior(name: str, *, preprocessing: str = "upstream", **_: Any) -> Flat:
        return Flat(name, preprocessing)

    monkeypatch.setattr(rela_zoo.prior, "load_prior", load_prior, raising=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 2, 2, 3), dtype=np.uint8)
    for i, one in enumerate(pixels):
        folder = tmp_path / "data" / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(folder / f"{i:02d}.png")
    return tmp_path / "data"


def test_embed_then_fit_then_show(tmp_path: Path, data: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "t.safetensors"
    done = runner.invoke(app, ["embed", "flat", str(data), "--out", str(out), "--batch-size", "7", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    table = open_embeddings(out, verify="full")
    assert (said["rows"], said["dim"], said["dtype"], said["skipped"]) == (40, 12, "float16", [])
    assert said["digest"] == table.digest
    assert said["prior"]["id"] == "flat"

    done = runner.invoke(app, ["transport", "fit", str(out), "--out", str(file), "--max-dim", "5", "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    transport = TargetTransport.load(file)
    assert (said["components"], said["rows"], said["source_digest"]) == (5, 40, table.digest)
    targets = transport(torch.cat(list(table.iter_rows())))
    np.testing.assert_allclose(targets.std(0, correction=0), 1, atol=1e-3)

    shown = runner.invoke(app, ["transport", "show", str(file), "--json"])
    assert json.loads(shown.stdout) == said
    shown = runner.invoke(app, ["transport", "show", str(file)])
    assert "flat" in shown.stdout
    assert "%" in shown.stdout


def test_options_reach_the_artefact(tmp_path: Path, data: Path) -> None:
    (data / "a" / "00.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    arguments = [
        "embed",
        "flat",
        str(data),
        "--out",
        str(out),
        "--dtype",
        "float32",
        "--preprocessing",
        "rela-reference",
    ]
    failed = runner.invoke(app, arguments)
    assert isinstance(failed.exception, EmbeddingsError)
    assert "a/00.png" in str(failed.exception)
    done = runner.invoke(app, [*arguments, "--skip-undecodable", "--workers", "1", "--device", "cpu", "--progress"])
    assert done.exit_code == 0, done.output
    assert "39 rows of 12 float32" in done.stdout
    assert "a/00.png" in done.stdout
    assert "40/40" in done.stderr
    info = open_embeddings(out).info
    assert (info.dtype, info.preprocessing, info.skipped) == ("float32", "rela-reference", ("a/00.png",))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "flat", "/nowhere", "--out", "x"], "there is nothing at /nowhere"),
        (["transport", "fit", "/nowhere", "--out", "x"], "no such folder"),
        (["transport", "show", "/nowhere"], "can't be read"),
    ],
)
def test_a_mistake_is_told_and_exits_2(
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["rela-zoo", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "fix:" in said
    assert list(tmp_path.iterdir()) == []


def test_profile_and_precision(tmp_path: Path, data: Path) -> None:
    done = runner.invoke(app, ["embed", "flat", str(data), "--out", str(tmp_path / "a"), "--profile", "--workers", "0"])
    assert done.exit_code == 0, done.output
    assert [line.split()[0] for line in done.stdout.splitlines()[-7:-2]] == [
        "decode",
        "resize",
        "copy",
        "model",
        "write",
    ]
    assert "what binds: " in done.stdout
    assert "faster by: " in done.stdout
    done = runner.invoke(
        app, ["embed", "flat", str(data), "--out", str(tmp_path / "b"), "--profile", "--json", "--precision", "bf16"]
    )
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["prior"]["precision"] == said["profile"]["precision"] == "bf16"
    assert said["profile"]["images"] == 40
    assert set(said["profile"]["ms_an_image"]) == {"decode", "resize", "copy", "model", "write"}
