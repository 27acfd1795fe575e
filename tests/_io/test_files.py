"""A file is whole or not there, whatever goes wrong while it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rela_zoo._io.files import atomic_path, atomic_write, temporary_path


def test_pieces_become_one_file_and_replace_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")
    atomic_write(path, b"one, ", memoryview(b"two"), b"")
    assert path.read_bytes() == b"one, two"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_failure_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, moment: str
) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"old")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, moment, fail)
    with pytest.raises(type(error)):
        atomic_write(path, b"new")
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]


def test_a_writer_of_paths_that_fails_half_way(tmp_path: Path) -> None:
    path = tmp_path / "x"

    def write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise ValueError("the writer broke")

    with pytest.raises(ValueError, match="broke"):
        write()
    assert not list(tmp_path.iterdir())


def test_a_writer_that_writes_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "x"):
        pass
    assert not list(tmp_path.iterdir())


def test_the_content_is_on_disk_before_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), fsync(fd))[1])
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b))[1])
    with atomic_path(tmp_path / "x") as temporary:
        temporary.write_bytes(b"x")
    assert done == ["fsync", "replace", "fsync"]  # the last one is of the folder


def test_two_writers_use_two_names_and_a_fixed_suffix_one(tmp_path: Path) -> None:
    path = tmp_path / "x"
    assert temporary_path(path) != temporary_path(path)
    assert temporary_path(path, ".part") == tmp_path / "x.part"
    # Left by a run that was killed; the next one clears it away.
    (tmp_path / "x.part").write_bytes(b"a longer rest")
    atomic_write(path, b"new", suffix=".part")
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == ["x"]
