"""Curves of a run in files and trackers, and the offer to extend one that is finished."""

from __future__ import annotations

import csv
import json
import logging
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from rela_zoo.errors import ConfigError
from rela_zoo.hosts.builtin import _loggers
from rela_zoo.hosts.builtin.base import BaseMethod
from rela_zoo.hosts.builtin.checks import check
from rela_zoo.hosts.builtin.train import train


def rows(folder: Path) -> list[dict[str, str]]:
    return [row for path in sorted(folder.glob("logs/*/metrics.csv")) for row in csv.DictReader(path.open())]


def test_csv_and_tensorboard_by_default(config: dict[str, Any]) -> None:
    config["log_every_n_steps"] = 1
    first = train(config)
    logged = rows(first.folder)
    assert {"train_neg_cos_sim", "train_acc1", "lr-AdamW/backbone"} <= set(logged[0])
    assert [row["epoch"] for row in logged if row["train_neg_cos_sim"]] == ["0", "1"]
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(first.folder / "tensorboard"))
    events.Reload()
    losses = [one.value for one in events.Scalars("train_neg_cos_sim")]
    assert losses == pytest.approx([one["train_neg_cos_sim"] for one in first.history], rel=1e-5)


@pytest.mark.parametrize("ends", [{}, {"limit_train_batches": 2}, {"max_steps": 5}, {"stop": 5}])
def test_means_are_those_of_all_batches(
    ends: dict[str, int], config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of both stages, also where a stage, the steps or a callback end an epoch early."""
    stop = ends.pop("stop", None)
    config.update(
        rela={"prior": "random", "data_ratio": 1.0, "handover": 0.3, "handover_at": "step"}, max_epochs=3, **ends
    )
    config["checkpoint"]["enabled"] = False
    given: dict[tuple[int, str], list[float]] = {}
    whole = BaseMethod.log_means

    def noted(self: BaseMethod, values: dict[str, torch.Tensor]) -> None:
        for name, value in values.items():
            given.setdefault((self.trainer.current_epoch, name), []).append(float(value))
        whole(self, values)

    class Stops(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = trainer.global_step == stop

    monkeypatch.setattr(BaseMethod, "log_means", noted)
    result = train(config, callbacks=[Stops()])
    assert {name for _, name in given} >= {"train_class_loss", "train_acc1", "train_neg_cos_sim"}
    found = {(row["epoch"], name): value for row in result.history for name, value in row.items()}
    for key, values in given.items():
        assert found[key] == pytest.approx(sum(values) / len(values), rel=1e-5), key


def test_the_curve_survives_a_resumption(config: dict[str, Any]) -> None:
    first = train({**config, "max_epochs": 1})
    assert first.checkpoint is not None
    longer = {**config, "max_epochs": 2, "resume_from_checkpoint": str(first.checkpoint)}
    second = train(longer)
    again = train({**longer, "resume_from_checkpoint": str(second.checkpoint), "max_epochs": 3})
    assert [row["epoch"] for row in rows(second.folder) if row["train_neg_cos_sim"]] == ["1"]
    assert [int(row["epoch"]) for row in again.history] == [0, 1, 2]


def test_no_files_where_nothing_is_kept_or_wanted(config: dict[str, Any], tmp_path: Path) -> None:
    config["checkpoint"]["enabled"] = False
    train({**config, "max_epochs": 1})
    assert not (tmp_path / "trained").exists()
    config["checkpoint"]["enabled"] = True
    result = train({**config, "max_epochs": 1, "logs": {"csv": False, "tensorboard": False}})
    assert not (result.folder / "logs").exists()
    assert not (result.folder / "tensorboard").exists()


def test_logging_changes_no_weight(config: dict[str, Any], tmp_path: Path) -> None:
    weights = []
    for logs in (True, False):
        config["checkpoint"]["dir"] = str(tmp_path / str(logs))
        result = train({**config, "log_every_n_steps": 1, "logs": {"csv": logs, "tensorboard": logs}})
        weights.append(result.method.state_dict())
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


def test_wandb_by_the_keys_of_solo_learn(config: dict[str, Any], tmp_path: Path, monkeypatch: Any) -> None:
    made = []
    monkeypatch.setattr("lightning.pytorch.loggers.WandbLogger", lambda **given: made.append(given))
    cfg = {**config, "logs": {"csv": False, "tensorboard": False}, "scheduler": {"name": "none"}}
    cfg["wandb"] = {"enabled": True, "project": "p", "entity": None, "offline": True}
    _loggers.make_loggers(cfg, tmp_path)
    assert made == [{"name": "test", "offline": True, "project": "p", "save_dir": str(tmp_path)}]
    monkeypatch.setattr(_loggers, "_installed", lambda name: False)
    with pytest.raises(ConfigError, match="pip install wandb"):
        check({**config, "wandb": {"enabled": True}})


def test_trackio_gets_the_metrics(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    fake = types.ModuleType("trackio")
    fake.init = lambda **given: calls.append(("init", given))  # type: ignore[attr-defined]
    fake.log = lambda metrics, step: calls.append(("log", metrics))  # type: ignore[attr-defined]
    fake.finish = lambda: calls.append(("finish", None))  # type: ignore[attr-defined]
    fake.__spec__ = types.SimpleNamespace()  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "trackio", fake)
    train({**config, "max_epochs": 1, "trackio": {"enabled": True, "project": "p"}})
    assert calls[0] == ("init", {"project": "p", "name": "test"})
    assert calls[-1] == ("finish", None)
    assert any("train_neg_cos_sim" in metrics for name, metrics in calls if name == "log")


def test_a_longer_run_offers_to_extend_the_finished_one(
    config: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    first = train(config)
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        longer = train({**config, "max_epochs": 4})
    (offer,) = [one for one in caplog.messages if "to extend it instead" in one]
    assert f"++resume_from_checkpoint={first.checkpoint}" in offer
    assert "stands where it would after 2 of 4 epochs" in offer
    assert longer.steps == longer.new_steps == 12
    caplog.clear()
    extended = train({**config, "max_epochs": 5, "resume_from_checkpoint": str(first.checkpoint)})
    assert (extended.steps, extended.new_steps) == (15, 9)
    assert [row["epoch"] for row in extended.history] == [0, 1, 2, 3, 4]


def test_another_run_is_not_offered(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    train({**config, "max_epochs": 1})
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        train({**config, "max_epochs": 2, "seed": 9})
    assert not [one for one in caplog.messages if "to extend it instead" in one]


def test_an_extended_run_follows_the_longer_schedule(config: dict[str, Any]) -> None:
    rates: dict[str, list[float]] = {}

    def watch(name: str) -> Any:
        from lightning.pytorch import Callback

        class Rates(Callback):
            def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
                rates.setdefault(name, []).append(trainer.optimizers[0].param_groups[0]["lr"])

        return Rates()

    first = train(config)
    train({**config, "max_epochs": 4}, callbacks=[watch("whole")])
    train({**config, "max_epochs": 4, "resume_from_checkpoint": str(first.checkpoint)}, callbacks=[watch("extended")])
    # The first step is still made with the rate that was set when the checkpoint was written.
    assert rates["extended"][1:] == pytest.approx(rates["whole"][7:])


def test_what_is_done_is_said(config: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    config["auto_resume"] = {"enabled": True}
    first = train(config)
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        again = train(config)
    assert f"done already: {first.checkpoint} has all 2 epochs, and nothing is trained" in caplog.messages
    assert again.new_steps == 0
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="rela_zoo"):
        train({**config, "max_epochs": 3, "resume_from_checkpoint": str(first.checkpoint)})
    assert f"going on from {first.checkpoint}: 2 of 3 epochs are done" in caplog.messages


def test_the_record_of_a_run(config: dict[str, Any]) -> None:
    result = train(config)
    record = json.loads((result.folder / "run.json").read_text())
    assert (record["epochs"], record["max_epochs"], record["steps"]) == (2, 2, 6)
    # 24 images, all of them in each of 2 epochs.
    assert record["seen"] == {"2": 24}
    assert record["history"] == result.history
    assert record["environment"]["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def test_how_often_samples_were_seen_goes_on_with_a_resumption(config: dict[str, Any]) -> None:
    config["rela"] = {"prior": None, "data_ratio": 0.5, "handover": 0.0}
    config["optimizer"]["batch_size"] = 4
    whole = train({**config, "max_epochs": 4})
    first = train({**config, "max_epochs": 2})
    resumed = train({**config, "max_epochs": 4, "resume_from_checkpoint": str(first.checkpoint), "name": "again"})
    seen = [json.loads((one.folder / "run.json").read_text())["seen"] for one in (whole, resumed)]
    assert seen[0] == seen[1]
    assert sum(int(times) * count for times, count in seen[0].items()) == whole.samples_seen == 48
    assert len(seen[0]) > 2
