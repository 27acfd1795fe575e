"""A run that was killed and resumed ends bit for bit like one that was not."""

from __future__ import annotations

import copy
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.errors import RelaZooError
from rela_zoo.hosts.builtin.checkpoint import find_checkpoint, read_checkpoint
from rela_zoo.hosts.builtin.train import TrainResult, train

# Trains, and kills itself without warning in the middle of the third epoch.
KILLED = """
import json, os, signal, sys
import torch
torch.set_num_threads(1)
from rela_zoo.hosts.builtin import _callbacks as module

def die(self, trainer, pl_module, batch, batch_idx, seed=module.Chance.on_train_batch_start):
    seed(self, trainer, pl_module, batch, batch_idx)
    if (trainer.current_epoch, batch_idx) == (2, 1):
        os.kill(os.getpid(), signal.SIGKILL)

module.Chance.on_train_batch_start = die
from rela_zoo.hosts.builtin.train import train
train(json.loads(sys.argv[1]))
"""


def run_killed(config: dict[str, Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, json.dumps(config)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def same(a: TrainResult, b: TrainResult) -> None:
    first, second = (torch.load(result.checkpoint, weights_only=True) for result in (a, b))
    assert list(first["state_dict"]) == list(second["state_dict"])
    for key, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][key]), key

    def flat(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [x for key in sorted(value, key=str) for x in flat(value[key])]
        return [x for part in value for x in flat(part)] if isinstance(value, list | tuple) else [value]

    for part in ("optimizer_states", "lr_schedulers", "rela"):
        for x, y in zip(flat(first.get(part)), flat(second.get(part)), strict=True):
            assert torch.equal(x, y) if isinstance(x, torch.Tensor) else x == y, part
    assert (a.steps, a.samples_seen) == (b.steps, b.samples_seen)
    clock = "seconds"
    assert [{k: v for k, v in row.items() if k != clock} for row in a.history] == [
        {k: v for k, v in row.items() if k != clock} for row in b.history
    ]


def run_stopped(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """As `run_killed` in this process, for the sake of time."""
    from rela_zoo.hosts.builtin import _callbacks as module

    seed = module.Chance.on_train_batch_start

    def stop(self: Any, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        seed(self, trainer, pl_module, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == (2, 1):
            raise RuntimeError("stopped here")

    with monkeypatch.context() as patch:
        patch.setattr(module.Chance, "on_train_batch_start", stop)
        with pytest.raises(RuntimeError, match="stopped here"):
            train(config)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["byol", "swav", "rela-accelerated", "rela-handed-over"])
def test_killed_and_resumed(
    config: dict[str, Any], tmp_path: Path, folders: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    """Killed in the third of four epochs, with other numbers of workers before, after and in the undisturbed run."""
    config["max_epochs"] = 4
    config["auto_resume"] = {"enabled": True}
    config["data"]["val_path"] = str(folders / "val")
    if case == "swav":
        config.update(method="swav", method_kwargs={"num_prototypes": 8, "queue_size": 20, "epoch_queue_starts": 2})
    elif case.startswith("rela"):
        handover = 0.75 if case == "rela-accelerated" else 0.25
        config["rela"] = {"prior": "random-resnet18", "data_ratio": 0.7, "handover": handover, "head": "trained"}
    whole = copy.deepcopy(config)
    whole["checkpoint"]["dir"] = str(tmp_path / "whole")
    undisturbed = train(whole)

    config["data"]["num_workers"] = 2
    if case == "rela-accelerated":
        run_killed(config)
    else:
        run_stopped(config, monkeypatch)
    folder = next((tmp_path / "trained").glob("*/*"))
    assert find_checkpoint(folder).name == "test-ep=1.ckpt"
    locked = ["rela.lock"] if case.startswith("rela") else []
    kept = ["config.json", "config.yaml", "logs", *locked, "run.json", "tensorboard", "test-ep=1.ckpt"]
    assert [path.name for path in sorted(folder.iterdir())] == kept

    config["data"]["num_workers"] = 0 if case == "byol" else 2
    resumed = train(config)
    assert resumed.resumed_from == folder / "test-ep=1.ckpt"
    same(undisturbed, resumed)


def test_an_explicit_checkpoint_and_every_epoch_kept(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config["checkpoint"]["keep_prev"] = True
    first = train(config)
    assert sorted(path.name for path in first.folder.glob("*.ckpt")) == ["test-ep=0.ckpt", "test-ep=1.ckpt"]
    again = copy.deepcopy(config)
    again["checkpoint"]["dir"] = str(tmp_path / "again")
    again["resume_from_checkpoint"] = str(first.folder / "test-ep=0.ckpt")
    same(first, train(again))
    assert "other" not in capsys.readouterr().err
    again["optimizer"]["lr"] = 0.01
    train(again)
    assert "run with other optimizer.lr" in capsys.readouterr().err


def test_only_a_run_with_the_same_configuration_is_resumed(config: dict[str, Any]) -> None:
    config["auto_resume"] = {"enabled": True}
    config["max_epochs"] = 1
    first = train(config)
    assert train(config).resumed_from == first.checkpoint
    config["optimizer"]["weight_decay"] = 0.01
    other = train(config)
    assert other.resumed_from is None
    assert other.folder != first.folder
    config["rela"] = {"prior": None, "data_ratio": 0.5}
    assert train(config).resumed_from is None


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "x-ep=0.ckpt"
    damaged.write_bytes(b"PK\x03\x04 not a checkpoint")
    with pytest.raises(RelaZooError, match=r"x-ep=0\.ckpt can't be read"):
        read_checkpoint(damaged)


def test_a_checkpoint_with_objects_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": Path("/")}, tmp_path / "x.ckpt")
    with pytest.raises(RelaZooError, match="can't be read"):
        read_checkpoint(tmp_path / "x.ckpt")


def test_ctrl_c_says_how_to_go_on(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rela_zoo.hosts.builtin import _callbacks as module

    config["max_epochs"] = 3
    seed = module.Chance.on_train_batch_start

    def interrupt(self: Any, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        seed(self, trainer, pl_module, batch, batch_idx)
        if (trainer.current_epoch, batch_idx) == (1, 1):
            raise KeyboardInterrupt

    monkeypatch.setattr(module.Chance, "on_train_batch_start", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(config)
    said = capsys.readouterr().err
    assert "1 of 3 epochs are kept in" in said
    assert "add auto_resume.enabled=true" in said
    monkeypatch.undo()
    config["auto_resume"] = {"enabled": True}
    resumed = train(config)
    assert resumed.resumed_from.name == "test-ep=0.ckpt"
    assert [row["epoch"] for row in resumed.history] == [0, 1, 2]


def test_copies_and_empty_checkpoints(config: dict[str, Any]) -> None:
    """A copy beside the newest is no checkpoint of the run; an empty one is refused with advice."""
    config["max_epochs"] = 1
    first = train(config)
    assert first.checkpoint is not None
    copied = first.checkpoint.with_name(first.checkpoint.name.replace(".ckpt", " (copy).ckpt"))
    copied.write_bytes(first.checkpoint.read_bytes())
    assert find_checkpoint(first.folder) == first.checkpoint
    first.checkpoint.write_bytes(b"")
    for content, said in ((b"", "the file is empty"), (copied.read_bytes()[:-2000], ""), (b"no archive", "")):
        first.checkpoint.write_bytes(content)
        with pytest.raises(RelaZooError, match="can't be read") as caught:
            read_checkpoint(first.checkpoint)
        assert said in str(caught.value)
    torch.save({"state_dict": {}}, first.checkpoint)
    with pytest.raises(RelaZooError, match="no checkpoint of the built-in host"):
        train({**config, "auto_resume": {"enabled": True}})


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": {"name": "sgd"}}, "optimizer.name"),
        ({"method": "simclr", "method_kwargs": {"pred_hidden_dim": None, "temperature": 0.2}}, "method"),
        ({"backbone": {"name": "resnet18", "kwargs": {}}}, "backbone.name"),
        ({"rela": {"prior": None, "data_ratio": 1.0}}, "rela"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(config: dict[str, Any], changes: dict[str, Any], named: str) -> None:
    config["max_epochs"] = 1
    first = train(config)
    other = copy.deepcopy(config)
    for key, value in changes.items():
        merged = isinstance(value, dict) and key in ("optimizer", "method_kwargs")
        other[key] = {**other[key], **value} if merged else value
    if other["method"] == "simclr":
        other["method_kwargs"].pop("pred_hidden_dim")
    other["resume_from_checkpoint"] = str(first.checkpoint)
    with pytest.raises(RelaZooError, match="is of another run") as caught:
        train(other)
    assert named in str(caught.value.what)
    assert "start a new run" in str(caught.value.fix)
