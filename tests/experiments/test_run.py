from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from experiments import _watch, run

from rela_zoo.hosts.builtin.config import run_digest


def _grid(folder: Path, tiny: dict[str, Any], cells: list[dict[str, Any]], **more: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(
        yaml.safe_dump({"data": {"train": 40, "test": 24}, "judged": 2, "defaults": tiny, "grids": cells, **more})
    )
    return path


@pytest.fixture
def grid(tmp_path: Path, tiny: dict[str, Any]) -> Path:
    cells = [
        {"untrained": True},
        {"rela": "default", "rela.data_ratio": 1.0},
        {"config": "dino", "rela": "cifar10-resnet20", "rela.data_ratio": 0.5, "rela.handover": 0.5, "max_epochs": 2},
    ]
    return _grid(tmp_path, tiny, cells)


def _arguments(grid: Path, data: Path, *more: str) -> list[str]:
    folder = grid.parent
    given = {"--data": data, "--results": folder / "r.jsonl", "--work": folder / "work"}
    return [str(grid), *(str(part) for pair in given.items() for part in pair), *more]


def _rows(grid: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (grid.parent / "r.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_a_grid_from_end_to_end_and_again(
    grid: Path, data: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = Path.cwd()
    assert run.main(_arguments(grid, data)) == 0
    assert Path.cwd() == here
    untrained, byol, dino = _rows(grid)
    assert untrained["samples_seen"] == untrained["flops"] == 0
    assert (byol["samples_seen"], byol["prior_flops"], byol["handover_step"]) == (40, 0, None)
    assert (dino["samples_seen"], dino["handover_step"], len(dino["curve"])) == (32, 2, 2)
    assert dino["flops"] == dino["prior_flops"] + 2 * sum(dino["step_flops"].values())
    assert dino["step_flops"]["accelerated"] < dino["step_flops"]["own"]
    # 40.8 M multiply-adds an image (He et al. 2015: 41 M).
    assert dino["prior_flops"] == pytest.approx(40 * 2 * 40.8e6, rel=0.02)
    assert dino["wall_seconds"] > dino["prior_seconds"] > 0
    for row in (untrained, byol, dino):
        assert row["engine"] == "product"
        assert 0 <= row["linear_accuracy"] <= 1
        assert {"hardware", "versions", "command", "knn_accuracy", "few_label_accuracy", "config"} <= set(row)
        assert row["run"].removeprefix("untrained-") == run_digest(row["config"])
        for folder in (data, grid.parent):
            assert str(folder) not in json.dumps(row), "no folders of this machine"
    assert dino["prepare"] == (
        f"rela-zoo embed cifar10-resnet20 {dino['config']['data']['train_path']} "
        f"--out {dino['config']['rela']['embeddings']}"
    )
    results = grid.parent / "r.jsonl"
    before = results.read_bytes()
    capsys.readouterr()
    assert run.main(_arguments(grid, data)) == 0
    assert results.read_bytes() == before
    assert "3 done, 0 to make" in capsys.readouterr().err


@pytest.mark.slow
def test_a_user_repeats_a_row(grid: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commands of a row, typed in the work folder, train the same network: the watching leaves no trace."""
    import shlex

    from rela_zoo.cli import main

    assert run.main(_arguments(grid, data, "--only", "config=dino")) == 0
    (row,) = _rows(grid)
    work = grid.parent / "work"
    monkeypatch.chdir(work)
    folder = Path(row["config"]["rela"]["embeddings"])
    for file in folder.iterdir():
        file.unlink()
    histories = []
    from rela_zoo.hosts.builtin import train as module

    original = module.train

    def watched(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        histories.append(result)
        return result

    monkeypatch.setattr(module, "train", watched)
    for command in (row["prepare"], row["command"]):
        monkeypatch.setattr("sys.argv", shlex.split(command))
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
    (result,) = histories
    assert result.folder.name == f"dino-{row['run']}"
    assert round(result.history[-1]["val_acc1"] / 100, 4) == row["online_accuracy"]
    assert result.samples_seen == row["samples_seen"]
    total = [h.get("train_rela_loss", h.get("dino_loss")) + h["train_class_loss"] for h in result.history]
    assert total == pytest.approx(row["losses"], abs=1e-4)


@pytest.mark.slow
def test_stopped_by_the_clock_and_called_again_it_ends_the_same(
    tmp_path: Path, tiny: dict[str, Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = {"rela": "cifar10-resnet20", "rela.data_ratio": 0.5, "rela.handover": 0.5, "max_epochs": 4}
    grid = _grid(tmp_path, tiny, [cell])
    assert run.main(_arguments(grid, data)) == 0
    (whole,) = _rows(grid)
    (tmp_path / "r.jsonl").unlink()
    clock = iter([0.0, 0.0, 0.0, *[99.0] * 99])  # the time is up after the second epoch
    with monkeypatch.context() as patch:
        patch.setattr(_watch.time, "monotonic", lambda: next(clock))
        assert run.main(_arguments(grid, data, "--stop-after", "10")) == 0
    assert not (tmp_path / "r.jsonl").exists()
    assert run.main(_arguments(grid, data, "--stop-after", "1000000")) == 0
    (again,) = _rows(grid)
    times = ("wall_seconds", "cpu_seconds")

    def untimed(row: dict[str, Any]) -> dict[str, Any]:
        curve = [{key: value for key, value in one.items() if key not in times} for one in row["curve"]]
        return {**{key: value for key, value in row.items() if key not in times}, "curve": curve}

    assert untimed(again) == untimed(whole)
    assert again["cpu_seconds"] > 0


def test_a_dry_run_trains_nothing(grid: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, data, "--dry-run", "--jobs", "2")) == 0
    shown = capsys.readouterr().out
    assert shown.count("rela-zoo pretrain --config-name") == 3
    assert not (grid.parent / "r.jsonl").exists()


def test_a_run_that_fails_does_not_stop_the_others(
    tmp_path: Path, tiny: dict[str, Any], data: Path, capsys: pytest.CaptureFixture
) -> None:
    grid = _grid(tmp_path, tiny, [{"rela": "default", "rela.data_ratio": 0.1}, {"untrained": True}])
    assert run.main(_arguments(grid, data)) == 1
    assert "optimizer.batch_size" in capsys.readouterr().err
    assert [row["untrained"] for row in _rows(grid)] == [True]


def test_mistakes_are_told(grid: Path, data: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, data, "--only", "colour")) == 2
    assert "error: " in capsys.readouterr().err


def test_missing_data_are_told(grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert run.main(_arguments(grid, tmp_path / "nowhere")) == 2
    assert "--data" in capsys.readouterr().err


def test_weights_that_cannot_be_downloaded_are_found_in_a_folder(
    tmp_path: Path, tiny: dict[str, Any], data: Path
) -> None:
    import torch
    from safetensors.torch import save_file

    from rela_zoo.networks.cifar_resnet import CifarResNet

    (tmp_path / "priors").mkdir()
    torch.manual_seed(0)
    save_file(CifarResNet(32, 10).state_dict(), tmp_path / "priors" / "cifar10-resnet32.safetensors")
    grid = _grid(tmp_path, tiny, [{"rela": "cifar10-resnet32-akamaster", "rela.data_ratio": 0.5}])
    assert run.main(_arguments(grid, data, "--priors", str(tmp_path / "priors"))) == 0
    assert _rows(grid)[0]["config"]["rela"]["prior"] == "cifar10-resnet32-akamaster"


@pytest.mark.slow
def test_two_jobs_at_a_time(tmp_path: Path, tiny: dict[str, Any], data: Path) -> None:
    grid = _grid(tmp_path, tiny, [{"untrained": True, "seed": [0, 1]}])
    assert run.main(_arguments(grid, data, "--jobs", "2", "--threads", "1")) == 0
    assert sorted(row["config"]["seed"] for row in _rows(grid)) == [0, 1]


@pytest.mark.parametrize(
    ("epochs", "times", "expected"),
    [(10, 5, {1, 2, 3, 6, 10}), (100, 6, {1, 3, 6, 16, 40, 100}), (2, 5, {1, 2}), (8, 1, {8}), (1, 3, {1})],
)
def test_judgements_are_spread_over_the_logarithm(epochs: int, times: int, expected: set[int]) -> None:
    assert _watch.judged_epochs(epochs, times) == expected


_PARENT = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from experiments import run

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=run._end_with_parent)
    worker = pool.submit(run.os.getpid).result()
    busy = pool.submit(time.sleep, 300)
    print(worker, flush=True)
    time.sleep(600)
"""


def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    (tmp_path / "parent.py").write_text(_PARENT)
    path = os.pathsep.join([str(Path(run.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    parent = subprocess.Popen(
        [sys.executable, str(tmp_path / "parent.py")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    for _ in range(100):
        if not Path(f"/proc/{worker}/cmdline").exists() or not Path(f"/proc/{worker}/cmdline").read_bytes():
            return
        time.sleep(0.1)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker goes on without its parent")
