"""From the handover on the accelerated loss keeps a share and schedules begin anew; and all of it resumes."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from rela_zoo.hosts.builtin.momentum import MomentumUpdater
from rela_zoo.hosts.builtin.train import TrainResult, train

# 16 of 24 samples in an epoch, two batches; epochs 0 and 1 are accelerated, 2 and 3 the method's own.
RELA = {"prior": "random-resnet18", "data_ratio": 0.7, "handover": 0.5}
ANEW = {**RELA, "mix": "linear", "rewarm": True, "head": "mlp"}


def kept(result: TrainResult) -> Any:
    assert result.checkpoint is not None
    return torch.load(result.checkpoint, weights_only=True)


def flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [x for key in sorted(value, key=str) for x in flat(value[key])]
    if isinstance(value, list | tuple):
        return [x for part in value for x in flat(part)]
    return [value.tolist() if isinstance(value, torch.Tensor) else value]


@pytest.fixture
def long(config: dict[str, Any]) -> dict[str, Any]:
    config.update(max_epochs=4)
    config["checkpoint"]["keep_prev"] = True
    return config


@pytest.mark.parametrize("rela", [ANEW, {**ANEW, "prior": "self", "selection": "static"}], ids=["prior", "self"])
def test_resumed_in_either_stage(
    long: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rela: dict[str, Any]
) -> None:
    moves = []
    original = MomentumUpdater.update_tau

    def note(self: MomentumUpdater, step: int, total: int) -> None:
        moves.append((step, total))
        original(self, step, total)

    monkeypatch.setattr(MomentumUpdater, "update_tau", note)
    long["rela"] = rela
    whole = train(long)
    assert moves == [(step, 8) for step in range(4)] + [(step, 4) for step in range(4)]
    assert all(math.isfinite(value) for row in whole.history for value in row.values())
    for epoch in (0, 2):
        again = copy.deepcopy(long)
        again["checkpoint"]["dir"] = str(tmp_path / f"from {epoch}")
        again["resume_from_checkpoint"] = str(whole.folder / f"test-ep={epoch}.ckpt")
        resumed = train(again)
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "rela"):
            assert flat(kept(whole)[part]) == flat(kept(resumed)[part]), part
        assert kept(whole)["rela"]["embeddings"]


@pytest.mark.parametrize("more", [{"prior": ["random-resnet18", "random-test_resnet"]}, {"handover": "plateau"}])
def test_other_targets_and_handovers(long: dict[str, Any], more: dict[str, Any]) -> None:
    result = train({**long, "rela": {**RELA, **more}})
    assert result.steps == 8
    assert all(math.isfinite(value) for row in result.history for value in row.values())


def test_a_handover_by_what_the_student_knows(
    long: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking changes nothing; the handover comes after the epoch in which the prior is surpassed, also resumed."""
    from rela_zoo.engine.surpass import Judge

    def run(handover: Any, wanted: float, name: str, **more: Any) -> TrainResult:
        real = Judge.student

        def seen(self: Judge) -> float:
            self.wanted = wanted
            real(self)
            return 0.5 if self._network.training else 0.0

        changed = copy.deepcopy({**long, "rela": {**RELA, "handover": handover}, **more})
        changed["checkpoint"]["dir"] = str(tmp_path / name)
        with monkeypatch.context() as patch:
            patch.setattr(Judge, "student", seen)
            patch.setattr("rela_zoo.engine.surpass._LEAST", 4)
            return train(changed)

    never, plain = run("surpass", 2.0, "never"), run(1.0, 2.0, "plain")
    assert ["train_rela_loss" in row for row in never.history] == [True] * 4
    assert flat(kept(never)["state_dict"]) == flat(kept(plain)["state_dict"])
    at_once = run("surpass", 0.4, "at once")
    assert ["train_rela_loss" in row for row in at_once.history] == [True, False, False, False]
    for epoch in (0, 1):
        start = str(at_once.folder / f"test-ep={epoch}.ckpt")
        resumed = run("surpass", 0.4, f"from {epoch}", resume_from_checkpoint=start)
        for part in ("state_dict", "optimizer_states", "rela"):
            assert flat(kept(at_once)[part]) == flat(kept(resumed)[part]), part


@pytest.mark.parametrize("mix", [0.0, 0.5])
def test_supervised_training_is_accelerated_too(long: dict[str, Any], mix: float) -> None:
    result = train({**long, "method": "supervised", "method_kwargs": {}, "rela": {**RELA, "mix": mix}})
    assert ["train_rela_loss" in row for row in result.history] == [True, True, False, False]
    assert ["train_supervised_loss" in row for row in result.history] == [False, False, True, True]
    assert all(math.isfinite(value) for row in result.history for value in row.values())
