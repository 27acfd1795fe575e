"""The space that policies ask: in memory and in files the same, computed once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rela_zoo.embeddings import EmbeddingTable, write_rows
from rela_zoo.selection.geometry.space import MemorySpace, TableSpace
from rela_zoo.transport import TargetTransport, fit_transport

N = 300


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[EmbeddingTable, TargetTransport, np.ndarray]:
    draws = torch.Generator().manual_seed(0)
    rows = torch.randn(N, 16, generator=draws) + 3 * torch.randn(6, 16, generator=draws)[torch.arange(N) % 6]
    rows[1:20:2] = rows[0:20:2] + 0.01  # near-duplicates
    ids = [f"{i:03d}" for i in range(N)]
    table = write_rows(tmp_path_factory.mktemp("table") / "t", [rows], ids, prior={"id": "x"}, dtype="float32")
    return table, fit_transport(table), np.random.default_rng(0).permutation(N)[:250]


def test_memory_and_files_agree_in_the_order_of_the_data_set(parts, tmp_path: Path, said) -> None:
    table, transport, positions = parts
    filed = TableSpace(table, transport, positions, cache=tmp_path)
    memory = MemorySpace(table.rows(positions), transport)
    for ask in (
        lambda space: space.clusters(6, 8)[0],
        lambda space: space.clusters(None, 8)[1],
        lambda space: space.cells(40, 8),
        lambda space: space.duplicates(0.99, 6, 16),
    ):
        assert (ask(filed) == ask(memory)).all()
        assert len(ask(memory)) == len(positions)
    count = len(said)
    again = TableSpace(table, transport, positions, cache=tmp_path)
    again.clusters(6, 8)
    again.duplicates(0.99, 6, 16)
    assert len(said) == count  # read, not computed
    groups = memory.duplicates(0.99, 6, 16)
    pair = [int(np.flatnonzero(positions == i)[0]) for i in (4, 5) if i in positions]
    if len(pair) == 2:
        assert groups[pair[0]] == groups[pair[1]]


def test_more_is_asked_for_than_there_is(parts) -> None:
    table, transport, positions = parts
    space = MemorySpace(table.rows(positions[:5]), transport)
    assert len(np.unique(space.clusters(100, 999)[0])) <= 5
    assert len(np.unique(space.cells(10_000, 999))) <= 5


def test_other_processes_wait_for_the_file(parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said) -> None:
    """Made by another process while this one waits for the lock, it is read, not computed again."""
    from contextlib import contextmanager

    from rela_zoo._io import once

    table, transport, positions = parts
    first = TableSpace(table, transport, positions, cache=tmp_path)
    real, seen = once.locked, []

    @contextmanager
    def slow(*args, **kwargs):
        monkeypatch.setattr(once, "locked", real)
        seen.append(first.clusters(6, 8))
        said.clear()
        with real(*args, **kwargs) as held:
            yield held

    monkeypatch.setattr(once, "locked", slow)
    labels, _ = TableSpace(table, transport, positions, cache=tmp_path).clusters(6, 8)
    assert np.array_equal(labels, seen[0][0])
    assert not said
