"""Values of the trainer, launchers and places are checked with everything else, before anything is computed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from rela_zoo.errors import ConfigError
from rela_zoo.hosts.builtin._surroundings import ignored, launcher, never_reached, why_not_writable
from rela_zoo.hosts.builtin.checks import check


def problems(config: dict[str, Any]) -> dict[str, str]:
    """Key → problem, of a configuration that is refused."""
    with pytest.raises(ConfigError) as caught:
        check(config)
    return {one.key: str(one) for one in caught.value.problems}


@pytest.mark.parametrize(
    ("key", "value", "fix"),
    [
        ("accelerator", "cpuu", "did you mean accelerator=cpu?"),
        ("accelerator", "mps", "set accelerator=auto"),
        ("strategy", "dpp", "did you mean strategy=ddp?"),
        ("strategy", "ddp_spawn", "set strategy=ddp"),
        ("strategy", "ddp_notebook", "set strategy=ddp"),
        ("precision", "bf16-mix", "did you mean precision=bf16-mixed?"),
        ("name", "cifar/byol", "set name=run"),
    ],
)
def test_a_slip_is_listed_with_all_others(config: dict[str, Any], key: str, value: Any, fix: str) -> None:
    config[key] = value
    config["optimizer"]["lr"] = -1
    found = problems(config)
    assert set(found) == {key, "optimizer.lr"}
    assert fix in found[key]
    assert value in found[key]


@pytest.mark.parametrize("precision", [32, "32", "32-true", "bf16-mixed", 64, None])
def test_precisions_that_there_are(config: dict[str, Any], precision: Any) -> None:
    check({**config, "precision": precision})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("proj_hidden_dim", 0, "an integer ≥ 1"),
        ("proj_output_dim", "wide", "an integer ≥ 1"),
        ("pred_hidden_dim", 1.5, "an integer ≥ 1"),
        ("proj_output_dim", None, "an integer ≥ 1"),
    ],
)
def test_values_of_the_method(config: dict[str, Any], key: str, value: Any, expected: str) -> None:
    config["method_kwargs"][key] = value
    assert expected in problems(config)[f"method_kwargs.{key}"]


def test_temperatures_are_positive_and_switches_true_or_false(config: dict[str, Any]) -> None:
    config.update(method="dino", method_kwargs={"student_temperature": 0, "norm_last_layer": "yes", "clip_grad": 0.3})
    assert set(problems(config)) == {"method_kwargs.student_temperature", "method_kwargs.norm_last_layer"}


def test_a_launcher_with_another_number_of_processes(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert "set devices=2 num_nodes=2" in problems(config)["devices"]
    assert launcher(4) == []
    monkeypatch.setenv("WORLD_SIZE", "1")
    check(config)


def test_places_are_looked_at_before_the_work(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    config["checkpoint"]["dir"] = str(tmp_path / "file" / "runs")
    assert "is no folder" in problems(config)["checkpoint.dir"]
    assert why_not_writable(tmp_path / "new" / "deeper") is None
    config["checkpoint"]["dir"] = str(Path(config["data"]["train_path"]) / "runs")
    assert "outside data.train_path" in problems(config)["checkpoint.dir"]
    config["checkpoint"]["enabled"] = False
    check(config)


def test_what_is_not_heeded_is_said(config: dict[str, Any]) -> None:
    given = copy.deepcopy(config)
    assert ignored(given, ["proj_hidden_dim", "proj_output_dim", "pred_hidden_dim"]) == []
    given.update(auto_umap={"enabled": False}, dali={"enabled": True}, logger=True)
    assert ignored(given, ["proj_hidden_dim"]) == [
        "logger",
        "dali.enabled",
        "method_kwargs.proj_output_dim",
        "method_kwargs.pred_hidden_dim",
    ]


def test_a_schedule_longer_than_the_training_is_said() -> None:
    schedule = {"name": "warmup_cosine", "warmup_epochs": 5, "lr_decay_steps": None}
    assert "never reaches" in never_reached({"scheduler": schedule, "max_epochs": 5})[0]
    assert never_reached({"scheduler": schedule, "max_epochs": 6}) == []
    steps = {**schedule, "name": "step", "lr_decay_steps": [2, 6]}
    assert "[6]" in never_reached({"scheduler": steps, "max_epochs": 6})[0]
