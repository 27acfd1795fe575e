from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from experiments import _results


def test_a_line_cut_off_is_skipped_and_not_glued_to_the_next(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "deep" / "results.jsonl"
    _results.append(path, {"run": "a"})
    with open(path, "a") as file:
        file.write('{"run": "b", "lin')
    _results.append(path, {"run": "c"})
    assert [row["run"] for row in _results.read(path)] == ["a", "c"]
    assert "line 2" in capsys.readouterr().err


def test_many_writers_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: _results.append(path, {"run": i, "text": "x" * 5000}), range(64)))
    assert sorted(row["run"] for row in _results.read(path)) == list(range(64))


def test_no_file_is_no_results(tmp_path: Path) -> None:
    assert _results.read(tmp_path / "none.jsonl") == []
