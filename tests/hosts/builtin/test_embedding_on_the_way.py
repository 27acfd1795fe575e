"""Missing embeddings are made before training, by as many workers as `embed` chooses, and one sees how far they are."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import get_worker_info

from rela_zoo._io.resources import usable_cores
from rela_zoo.data import FileSource
from rela_zoo.hosts.builtin.train import train


@pytest.fixture
def read_by_workers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The images that workers have read so far; a third of them is trained on, so more are read for the rows only."""
    log, read = tmp_path / "read", FileSource.raw

    def noted(self: FileSource, index: int) -> bytes:
        if get_worker_info() is not None:
            with log.open("a") as file:
                file.write(f"{index}\n")
        return read(self, index)

    monkeypatch.setattr(FileSource, "raw", noted)
    return lambda: {int(line) for line in log.read_text().split()} if log.exists() else set()


def _with_prior(config: dict[str, Any], workers: int = 0) -> dict[str, Any]:
    rela = {"prior": "random-test_resnet", "data_ratio": 0.34, "handover": 1.0}
    return {**config, "max_epochs": 1, "data": {**config["data"], "num_workers": workers}, "rela": rela}


def test_a_handful_of_images_in_this_process(config: dict[str, Any], read_by_workers: Any, capsys: Any) -> None:
    train(_with_prior(config))
    assert read_by_workers() == set()
    assert "embedding: 24/24" in capsys.readouterr().err


@pytest.mark.skipif(usable_cores() < 2 or sys.platform != "linux", reason="no core to spare, or costly processes")
def test_more_of_them_by_workers_whatever_the_run_has_for_its_views(
    config: dict[str, Any], read_by_workers: Any, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (140, 8, 8, 3), dtype=np.uint8)
    for i, one in enumerate(pixels):
        path = tmp_path / "many" / "ab"[i % 2] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
    config = {**config, "data": {**config["data"], "train_path": str(tmp_path / "many")}}
    train(_with_prior(config, workers=0))
    assert read_by_workers() == set(range(140))


def test_silently_where_messages_are_not_wanted(config: dict[str, Any], capsys: Any) -> None:
    log = logging.getLogger("rela_zoo")
    before, level = log.level, logging.WARNING
    log.setLevel(level)
    try:
        train(_with_prior(config))
    finally:
        log.setLevel(before)
    assert "embedding" not in capsys.readouterr().err
