"""One writer a folder: refusal, waiting, forks, and file systems without locks."""

from __future__ import annotations

import errno
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rela_zoo._io.lock import LOCK, locked
from rela_zoo.errors import EmbeddingsError

HOLD = """
import sys, time
from pathlib import Path
from rela_zoo._io.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""
# Holds the lock, starts a child that outlives it, and says the child's number.
FORK = """
import os, sys, time
from pathlib import Path
from rela_zoo._io.lock import locked
with locked(Path(sys.argv[1])):
    child = os.fork()
    if child == 0:
        sys.stdout.close()
        time.sleep(60)
        os._exit(0)
    print(child, flush=True)
    sys.stdin.readline()
"""


def start(program: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, str(folder)]
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


def test_another_process_is_refused_until_the_first_lets_go(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    with start(HOLD, folder) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with (
            pytest.raises(EmbeddingsError, match="another process is writing embeddings into") as caught,
            locked(folder),
        ):
            pass
        assert caught.value.expected
        assert caught.value.fix
        assert (folder / LOCK).exists()
        process.communicate("go\n", timeout=30)
    assert not list(folder.iterdir())
    with locked(folder):
        assert (folder / LOCK).exists()
    assert not list(folder.iterdir())


def test_waiting_for_a_writer(tmp_path: Path) -> None:
    with start(HOLD, tmp_path) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        process.stdout.readline()
        began = time.monotonic()
        with pytest.raises(EmbeddingsError, match=r"rows(.|\n)*after 0\.3 s"), locked(tmp_path, wait=0.3, what="rows"):
            pass
        assert 0.3 <= time.monotonic() - began < 10
        process.stdin.write("go\n")
        process.stdin.flush()
        with locked(tmp_path, wait=30):
            assert (tmp_path / LOCK).exists()
    assert not (tmp_path / LOCK).exists()


def test_a_second_writer_in_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(EmbeddingsError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), locked(tmp_path):
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_keep_the_lock(tmp_path: Path) -> None:
    with start(FORK, tmp_path) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        try:
            with pytest.raises(EmbeddingsError, match="another process"), locked(tmp_path):
                pass
            process.kill()
            process.wait(30)
            os.kill(child, 0)  # it is alive
            with locked(tmp_path, wait=10.0):  # it may not have run since it was forked
                os.kill(child, 0)
        finally:
            os.kill(child, 9)


def _take(folder: Path, barrier: Any, held: Any) -> None:
    for _ in range(20):
        barrier.wait()
        try:
            with locked(folder):
                with held.get_lock():
                    held.value += 1
                    assert held.value == 1
                time.sleep(0.001)
                with held.get_lock():
                    held.value -= 1
        except EmbeddingsError:
            pass


def test_never_two_at_once_while_the_name_comes_and_goes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, held = context.Barrier(3), context.Value("i", 0)
    workers = [context.Process(target=_take, args=(tmp_path, barrier, held)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_used_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def refuse(*_: object) -> None:
        raise OSError(number, "no locks")

    monkeypatch.setattr(fcntl, "flock", refuse)
    entered = False
    with locked(tmp_path):
        entered = True
    assert entered
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(EmbeddingsError, match="can't be used for embeddings"), locked(folder):
            pass
