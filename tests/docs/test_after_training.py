"""The commands of docs/after_training.md run as they are written."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from typer.testing import CliRunner

from rela_zoo.cli import app
from rela_zoo.networks.backbones import build_backbone

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "after_training.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^rela-zoo (.*)$", PAGE, flags=re.MULTILINE)


def write_parquet(file: Path, folder: Path) -> None:
    """A folder of classes in the Hub's layout."""
    images = sorted(folder.glob("*/*"))
    file.parent.mkdir(exist_ok=True)
    columns = {
        "image": [{"bytes": one.read_bytes(), "path": f"{one.parent.name}/{one.name}"} for one in images],
        "label": [ord(one.parent.name) - ord("a") for one in images],
    }
    parquet.write_table(pa.table(columns), file)


def test_both_commands_are_on_the_page() -> None:
    assert [one.split()[0] for one in COMMANDS] == ["evaluate"] * 5 + ["export"] * 3


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_runs(command: str, tmp_path: Path, make_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "train", {"a": 12, "b": 12})
    make_folder(tmp_path / "val", {"a": 3, "b": 3}, seed=1)
    for split, folder in (("train", "train"), ("test", "val")):
        write_parquet(tmp_path / "splits" / f"{split}.parquet", tmp_path / folder)
    network, _ = build_backbone("resnet18", {}, "custom")
    config = {
        "method": "byol", "backbone": {"name": "resnet18"}, "data": {"dataset": "custom"},
        "augmentations": [{"crop_size": 32, "num_crops": 2}],
    }  # fmt: skip
    state = {f"backbone.{key}": value for key, value in network.state_dict().items()}
    torch.save({"state_dict": state, "rela_zoo_run": {"config": config}}, "run.ckpt")
    data = "splits" if "--split" in command else "train"
    places = {"CKPT": "run.ckpt", "DIR": data, "TRAIN": "train", "VAL": "val"}
    done = CliRunner().invoke(app, [places.get(word, word) for word in shlex.split(command)])
    assert done.exit_code == 0, done.output
    assert ("held-out accuracy" in done.stdout or '"probe"' in done.stdout) == command.startswith("evaluate")
    assert (tmp_path / "student.safetensors").exists() == command.startswith("export")
