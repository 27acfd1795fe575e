"""Missing embeddings are made before training by the run's own workers, and one sees how far they are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import get_worker_info

from rela_zoo.data import FileSource
from rela_zoo.hosts.builtin.train import train


@pytest.fixture
def read_by_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The images that workers have read so far; a third of the 24 is trained on, so more are read for the rows only."""
    log, read = tmp_path / "read", FileSource.raw

    def noted(self: FileSource, index: int) -> bytes:
        if get_worker_info() is not None:
            with log.open("a") as file:
                file.write(f"{index}\n")
        return read(self, index)

    monkeypatch.setattr(FileSource, "raw", noted)
    return lambda: {int(line) for line in log.read_text().split()} if log.exists() else set()


def _with_prior(config: dict[str, Any], workers: int) -> dict[str, Any]:
    rela = {"prior": "random-test_resnet", "data_ratio": 0.34, "handover": 1.0}
    return {**config, "max_epochs": 1, "data": {**config["data"], "num_workers": workers}, "rela": rela}


def test_by_the_workers_of_the_run(config: dict[str, Any], read_by_workers: Any, capsys: Any) -> None:
    train(_with_prior(config, 1))
    assert read_by_workers() == set(range(24))
    assert "embedding: 24/24" in capsys.readouterr().err


def test_without_workers_in_this_process(config: dict[str, Any], read_by_workers: Any) -> None:
    train(_with_prior(config, 0))
    assert read_by_workers() == set()


def test_silently_where_messages_are_not_wanted(config: dict[str, Any], capsys: Any) -> None:
    log = logging.getLogger("rela_zoo")
    before, level = log.level, logging.WARNING
    log.setLevel(level)
    try:
        train(_with_prior(config, 0))
    finally:
        log.setLevel(before)
    assert "embedding" not in capsys.readouterr().err
