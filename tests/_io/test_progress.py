"""The bar: bytes as people read them, and counts from many threads."""

from __future__ import annotations

import io
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from rela_zoo._io.progress import Progress


def test_bytes_are_shown_as_kilobytes_and_so_on(capsys):
    with Progress("fetching", 2_000_000, unit="bytes", show="always") as bar:
        bar.advance(500_000)
        assert capsys.readouterr().err == "", "not before ten seconds, or the end"
        bar.advance(1_500_000)
    line = capsys.readouterr().err
    assert line.startswith("fetching: 2.0 MB/2.0 MB, ")
    assert "B/s, 0 s left" in line


def test_a_terminal_gets_one_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "120")
    with Progress("fetching", 3_000, unit="bytes") as bar:
        bar.advance(1_500)
        bar.advance(1_500)
    assert "3.0 kB/3.0 kB" in sys.stderr.getvalue()


@pytest.mark.parametrize("show", [True, False])
def test_threads_count_together_and_a_pipe_gets_nothing(show, capsys):
    with Progress("x", 80_000, show=show) as bar, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: [bar.advance(1) for _ in range(10_000)], range(8)))
    assert bar._done == 80_000
    assert capsys.readouterr().err == ""
