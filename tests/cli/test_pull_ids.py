"""The ids that `rela-zoo pull --ids FILE` reads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rela_zoo.cli._hub import _read_ids

IDS = ["a\u2028b.png", "c\x85d.png", "e\x1cf.png", "g\x0bh\x0c.png", "plain.png"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("form", ["txt", "jsonl"])
def test_a_line_ends_where_the_file_says_so(tmp_path: Path, form: str, end: str) -> None:
    listed = tmp_path / f"ids.{form}"
    lines = [json.dumps(one, ensure_ascii=False) if form == "jsonl" else one for one in [*IDS, IDS[0]]]
    listed.write_bytes(end.join([*lines, "", ""]).encode())
    assert _read_ids(listed) == IDS
