"""What a training says while it runs."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest

from rela_zoo.hosts.builtin import progress
from rela_zoo.hosts.builtin.progress import TrainingProgress, clock
from rela_zoo.hosts.builtin.train import train


def test_clock() -> None:
    assert [clock(one) for one in (0, 7.4, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]


def test_a_line_after_each_epoch_without_a_terminal(
    config: dict[str, Any], folders: Any, caplog: pytest.LogCaptureFixture
) -> None:
    config["data"]["val_path"] = str(folders / "val")
    config["rela"] = {"prior": "random-test_resnet", "data_ratio": 1.0, "handover": 0.5}
    del config["enable_progress_bar"]
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        result = train(config)
    lines = [one for one in caplog.messages if "epoch " in one and "%" in one and "loss" in one]
    assert len(lines) == 2
    first, second = lines
    assert re.match(r" 50% · epoch 1/2 · accelerated · loss [\d.]+ · [\d,]+ images/s · 0:\d\d left · val_acc1 ", first)
    assert re.match(r"100% · epoch 2/2 · byol · loss ", second)
    assert "0:00 left" in second or "left" not in second
    assert result.steps == 6


def test_the_loss_shown_is_the_mean_since_the_last_look(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[float] = []

    class Look(TrainingProgress):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
            seen.append(float(outputs["loss"]))
            super().on_train_batch_end(trainer, pl_module, outputs, *args)

    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        train({**config, "max_epochs": 1}, callbacks=[Look()])
    (line,) = [one for one in caplog.messages if "loss" in one and "epoch 1/1" in one]
    shown = re.search(r"loss ([\d.e+-]+)", line)
    assert shown is not None
    assert float(shown[1]) == pytest.approx(sum(seen) / 3, rel=1e-3)


def test_rho_is_shown_in_the_accelerated_stage(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    config["rela"] = {"prior": "random-test_resnet", "data_ratio": 1.0, "handover": "adaptive"}
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        train({**config, "max_epochs": 1}, callbacks=[TrainingProgress()])
    assert any(re.search(r"accelerated · loss \S+ · ρ 0\.\d{3} ·", one) for one in caplog.messages)


def test_the_device_is_read_only_when_something_is_shown(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(progress, "loss_of", lambda outputs: _Counted(outputs["loss"], reads))
    train({**config, "max_epochs": 2}, callbacks=[TrainingProgress()])
    assert len(reads) == 2  # at the ends of the epochs, of 6 steps


class _Counted:
    """A loss that notes when it is read."""

    def __init__(self, value: Any, reads: list[int]) -> None:
        self.value, self.reads = value, reads

    def detach(self) -> _Counted:
        return self

    def __mul__(self, factor: float) -> _Counted:
        return self

    def __add__(self, other: _Counted) -> _Counted:
        return self

    def __float__(self) -> float:
        self.reads.append(1)
        return float(self.value)


def test_a_terminal_gets_a_line_that_is_written_over(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[tuple[float, str]] = []
    monkeypatch.setattr(progress, "place", lambda: "terminal")
    monkeypatch.setattr(progress.StatusLine, "show", lambda self, done, text: shown.append((done, text)))
    monkeypatch.setattr(progress, "_REFRESH", 0.0)
    train({**config, "max_epochs": 1}, callbacks=[TrainingProgress()])
    assert [done for done, _ in shown] == pytest.approx([1 / 3, 2 / 3, 1.0, 1.0])
    assert all(text.startswith("epoch 1/1 · byol") for _, text in shown)


def test_other_ranks_are_silent(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    line = TrainingProgress()

    class Second:
        is_global_zero, global_step = False, 0

    line.on_train_start(Second(), None)  # type: ignore[arg-type]
    line.on_train_batch_end(Second(), None, None, [range(8)], 0)  # type: ignore[arg-type]
    line.on_train_epoch_end(Second(), None)  # type: ignore[arg-type]
    assert not caplog.messages
