"""What is needed by many is made by one: jobs side by side, ranks without a process group, makers that fail."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rela_zoo._io import lock, once
from rela_zoo._io.once import made_once
from rela_zoo.errors import EmbeddingsError


def _job(folder: Path, number: int, seconds: float, fails: bool, made: Any, rank: int) -> None:
    os.environ["RANK"] = str(rank)

    def make() -> None:
        with made.get_lock():
            made.value += 1
        time.sleep(seconds)
        if fails:
            raise EmbeddingsError("a broken image")
        (folder / "done").write_text(str(number))

    try:
        made_once(folder / "done", make, what="rows")
    except EmbeddingsError:
        raise SystemExit(2) from None


def _start(folder: Path, *, ranks: tuple[int, ...], fails: bool = False) -> tuple[list[Any], Any]:
    context = multiprocessing.get_context("spawn")
    made = context.Value("i", 0)
    jobs = [context.Process(target=_job, args=(folder, i, 1.0, fails, made, rank)) for i, rank in enumerate(ranks)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(60)
    return [job.exitcode for job in jobs], made.value


@pytest.mark.parametrize("ranks", [(0, 0), (0, 1)])
def test_one_of_them_makes_it(tmp_path: Path, ranks: tuple[int, ...]) -> None:
    codes, made = _start(tmp_path, ranks=ranks)
    assert (codes, made) == ([0, 0], 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done"]


def test_if_the_maker_fails_nobody_waits_for_it(tmp_path: Path) -> None:
    codes, made = _start(tmp_path, ranks=(0, 1), fails=True)
    assert (codes, made) == ([2, 2], 2)


def test_nodes_with_own_disks_each_make_it(tmp_path: Path) -> None:
    for node in ("a", "b"):
        (tmp_path / node).mkdir()
    assert made_once(tmp_path / "a" / "done", (tmp_path / "a" / "done").touch, what="rows")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        patch.setattr(once, "_HEAD_START", 0.0)
        assert made_once(tmp_path / "b" / "done", (tmp_path / "b" / "done").touch, what="rows")
        assert not made_once(tmp_path / "b" / "done", pytest.fail, what="rows")


def test_whoever_waits_says_for_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: Any) -> None:
    monkeypatch.setattr(lock, "_REMINDER", 0.2)
    with (
        lock.locked(tmp_path),
        pytest.raises(EmbeddingsError, match=r"after 0\.5 s"),
        lock.locked(tmp_path, wait=0.5, what="rows"),
    ):
        pass
    assert "another process is writing rows into" in said[0]
    assert "still waiting" in said[1]


def test_without_locks_another_rank_waits_for_the_file_and_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "_acquire", lambda *_: False)
    monkeypatch.setattr(once, "_HEAD_START", 0.0)
    monkeypatch.setattr(once, "_PATIENCE", 0.3)
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(EmbeddingsError, match="RELA_ZOO_HOME") as caught:
        made_once(tmp_path / "done", pytest.fail, what="rows")
    assert str(tmp_path / "done") in str(caught.value)
    monkeypatch.setenv("RANK", "0")
    assert made_once(tmp_path / "done", (tmp_path / "done").touch, what="rows")
