"""What a process may use: the smallest of what machine, binding and container allow."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rela_zoo._io import resources


@pytest.fixture
def container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(resources, "_CGROUP", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("quota", "cores"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1), ("", 8)])
def test_cores(container: Path, monkeypatch: pytest.MonkeyPatch, quota: str, cores: int) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    (container / "cpu.max").write_text(quota)
    assert resources.usable_cores() == cores


def test_memory(container: Path) -> None:
    machine = resources.free_memory()
    (container / "memory.max").write_text("max\n")
    (container / "memory.current").write_text("1000\n")
    again = resources.free_memory()
    assert (machine is None) == (again is None), "no bound of the container"
    (container / "memory.max").write_text("1500\n")
    assert resources.free_memory() == 500
