"""Data in any form from the command line, and in the configuration of a training."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.data import image_source
from rela_zoo.data.datasets import open_dataset
from rela_zoo.embeddings import open_embeddings
from rela_zoo.errors import ConfigError, EmbeddingsError, RelaZooError

runner = CliRunner()


def write_tar(path: Path, stack: np.ndarray, first: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for i, pixels in enumerate(stack, first):
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            for name, data in ((f"{i:03d}.png", buffer.getvalue()), (f"{i:03d}.cls", str(i % 2).encode())):
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def tars(tmp_path: Path, make_pictures: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RELA_ZOO_HOME", str(tmp_path / "home"))
    for number, (split, first) in enumerate((("train-0", 0), ("train-1", 4), ("val-0", 8))):
        write_tar(tmp_path / "tars" / f"{split}.tar", make_pictures(4, size=32, seed=number), first)
    return tmp_path / "tars"


@pytest.mark.parametrize(
    ("data", "options", "first"),
    [("", ["--split", "val"], "008"), ("", ["--split", "train"], "000"), ("/train-{1..1}.tar", [], "004")],
)
def test_embed(tars: Path, tmp_path: Path, data: str, options: list[str], first: str) -> None:
    out = tmp_path / "rows"
    command = ["embed", "cifar10-resnet20", f"{tars}{data}", "--out", str(out), "--workers", "0", "--json", *options]
    done = runner.invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert open_embeddings(out).ids[0] == first


def test_a_split_that_the_names_deny_is_refused(tars: Path, tmp_path: Path) -> None:
    for name in ("train-0.tar", "train-*.tar"):
        done = runner.invoke(
            app, ["embed", "cifar10-resnet20", f"{tars}/{name}", "--split", "val", "--out", str(tmp_path)]
        )
        assert isinstance(done.exception, EmbeddingsError)
        assert "no split 'val'" in str(done.exception)


@pytest.mark.parametrize(
    ("command", "option"),
    [(["pull", "cifar10-resnet20"], "--data"), (["subset", "replay", "nowhere"], "--data"),
     (["compare", "cifar10-resnet20", "random"], "--dataset")],
)  # fmt: skip
def test_a_split_of_nothing_is_refused(command: list[str], option: str) -> None:
    done = runner.invoke(app, [*command, "--split", "test"], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert f"expected {option} beside it" in done.output


def test_evaluate_by_splits(tars: Path) -> None:
    command = ["evaluate", "cifar10-resnet20", str(tars), "--json", "--k", "1"]
    done = runner.invoke(app, [*command, "--split", "train", "--val-split", "val"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["data"]
    assert (found["train_images"], found["held_out_images"]) == (8, 4)
    done = runner.invoke(app, [*command, "--split", "val", "--val", str(tars), "--val-split", "train"])
    assert json.loads(done.stdout)["data"]["train_images"] == 4
    with pytest.raises(RelaZooError, match="judged by the images that it learns from"):
        runner.invoke(app, [*command, "--split", "val", "--val-split", "val"], catch_exceptions=False)
    with pytest.raises(EmbeddingsError, match="dev"):
        runner.invoke(app, [*command, "--split", "dev"], catch_exceptions=False)


def test_recommend_for_a_split(tars: Path, tmp_path: Path, make_pictures: Any) -> None:
    for split, count in (("train", 101), ("val", 100)):
        write_tar(tmp_path / "many" / f"{split}-0.tar", make_pictures(count, size=8), 1000)
    command = ["recommend", "cifar10-resnet20", "--dataset", str(tmp_path / "many"), "--json"]
    for split, count in (("train", 101), ("val", 100)):
        done = runner.invoke(app, [*command, "--split", split], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)[0]["embed_bytes"] == count * 64 * 2
    done = runner.invoke(app, [*command, "--split", "val", "--config", str(tmp_path / "x.yaml")])
    assert done.exit_code == 2
    assert not (tmp_path / "x.yaml").exists()


def test_subset_of_a_split(tars: Path, tmp_path: Path) -> None:
    out = tmp_path / "subsets"
    command = [
        "subset",
        "export",
        str(tars),
        "--out",
        str(out),
        "--epochs",
        "1",
        "--data-ratio",
        "0.5",
        "--split",
        "train",
    ]
    done = runner.invoke(app, [*command, "--json"], catch_exceptions=False)
    assert json.loads(done.output)["distinct"] == 4


def test_a_training_takes_its_own_splits(tars: Path) -> None:
    from rela_zoo.hosts.builtin.compose import compose
    from rela_zoo.hosts.builtin.early import check_early

    paths = [f"data.train_path={tars}/train-{{0..1}}.tar", f"data.val_path={tars}"]
    cfg = compose("byol", None, paths)
    check_early(cfg)
    for part, split in (("train", "train"), ("val", "val")):
        dataset = open_dataset(cfg.data, part)
        assert list(dataset.source.ids) == list(image_source(tars, split=split).ids)
        assert dataset.classes == ["0", "1"]
    check_early(compose("byol", None, ["data.train_path=hf://datasets/org/name@main/data/train-*.parquet"]))
    with pytest.raises(ConfigError, match=r"data\.train_path"):
        check_early(compose("byol", None, [f"data.train_path={tars}/test-{{0..1}}.tar"]))


def test_a_prior_by_timms_name_is_looked_up_where_it_is_used() -> None:
    from rela_zoo.hosts.builtin.compose import compose
    from rela_zoo.hosts.builtin.early import check_early

    for name in ("timm:resnet18.a1_in1k", "hf-hub:org/name@" + "a" * 40):
        cfg = compose("byol", None, ["data.train_path=/usr", f"rela.prior={name}"])
        assert cfg.rela.prior == name
        check_early(cfg)
