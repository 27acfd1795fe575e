"""The header of a safetensors file, and files that only claim to have one."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from rela_zoo._io import safetensors_header
from rela_zoo._io.safetensors_header import HeaderError, read_header


def test_a_file_of_the_library(tmp_path: Path) -> None:
    path = tmp_path / "x"
    rows = np.arange(6, dtype=np.float32).reshape(2, 3)
    save_file({"a": rows, "b": np.zeros(1, np.float16)}, path, metadata={"by": "test"})
    header = read_header(path)
    assert header.metadata == {"by": "test"}
    assert header.tensors["a"] == {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    assert set(header.tensors) == {"a", "b"}
    content = path.read_bytes()
    assert header.file_size == len(content)
    assert content.startswith(header.raw)
    start, end = header.tensors["a"]["data_offsets"]
    found = content[header.data_start + start : header.data_start + end]
    assert np.array_equal(np.frombuffer(found, np.float32).reshape(2, 3), rows)


def test_no_metadata(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "x")
    assert read_header(tmp_path / "x").metadata == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"\x01\x02", "cut short"),
        (struct.pack("<Q", 1 << 62) + b"{}", "cut short"),
        (struct.pack("<Q", 3) + b"{}", "cut short"),
        (struct.pack("<Q", 2) + b"[]", "malformed"),
        (struct.pack("<Q", 4) + b"null", "malformed"),
        (struct.pack("<Q", 3) + b"{a}", "malformed"),
        (struct.pack("<Q", 2) + b"\xff\xfe", "malformed"),
        (struct.pack("<Q", 20) + b'{"__metadata__": [] }', "malformed"),
        (struct.pack("<Q", 100000) + b"[" * 100000, "malformed"),
    ],
)
def test_what_is_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(HeaderError, match=message) as caught:
        read_header(tmp_path / "x")
    assert str(tmp_path / "x") in caught.value.what


def test_a_header_out_of_all_proportion_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps({"a": "x" * 100}).encode()
    (tmp_path / "x").write_bytes(struct.pack("<Q", len(text)) + text)
    read_header(tmp_path / "x")
    monkeypatch.setattr(safetensors_header, "MAX_HEADER_BYTES", len(text) - 1)
    with pytest.raises(HeaderError, match="too long"):
        read_header(tmp_path / "x")


def test_a_missing_file_stays_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "x")
