"""The format, byte for byte, and files made to harm."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from rela_zoo.data import encoded_ids, ids_sha256
from rela_zoo.embeddings import _format, embed, open_embeddings
from rela_zoo.embeddings._format import read_index, read_shard_header, shard_header
from rela_zoo.errors import EmbeddingsError

GOLDEN_INDEX = "faa6288998d646e1a59eb229c17dd6ba8d3707c79e49c44555f3360544e920d2"


@pytest.fixture
def artefact(tmp_path: Path, make_prior: Any) -> Path:
    """Two shards of two rows and one row, of pictures of one colour: (0, …), (255, …), (0, …)."""
    stack = np.zeros((3, 8, 8, 3), np.uint8)
    stack[1] = 255
    embed(make_prior(), stack, tmp_path / "out", shard_rows=2, progress=False)
    return tmp_path / "out"


def test_golden_bytes_of_a_shard(artefact: Path) -> None:
    plan = json.loads((artefact / "index.json").read_bytes())
    plan = {
        key: plan[key]
        for key in ("format", "format_version", "prior", "preprocessing", "layer", "dtype", "dim", "source")
    }
    del plan["source"]["probe"]
    plan_digest = hashlib.sha256(json.dumps(plan, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    header = (
        '{"__metadata__":{"rela_zoo":"{\\"plan\\":\\"' + plan_digest + '\\",\\"shard\\":0,\\"skipped\\":[]}"},'
        '"rows":{"dtype":"F16","shape":[2,4],"data_offsets":[0,16]}}'
    ).encode()
    header += b" " * (-len(header) % 8)
    # a white picture: the sums over the three rows of 0 … 11 in rows of four, 12 15 18 21
    rows = struct.pack("<8e", 0, 0, 0, 0, 12, 15, 18, 21)
    assert (artefact / "shard-00000.safetensors").read_bytes() == struct.pack("<Q", len(header)) + header + rows


def test_golden_bytes_of_ids_and_index(artefact: Path) -> None:
    black = hashlib.blake2b(bytes(192), digest_size=8).hexdigest()
    white = hashlib.blake2b(b"\xff" * 192, digest_size=8).hexdigest()
    ids = f'"0:{black}"\n"1:{white}"\n"2:{black}"\n'.encode()
    assert (artefact / "ids.jsonl").read_bytes() == ids
    index = json.loads((artefact / "index.json").read_bytes())
    asked = {"format", "format_version", "prior", "preprocessing", "layer", "dtype", "dim", "source"}
    assert set(index) == asked | {"made_by", "rows", "ids", "shards", "skipped", "digest"}
    assert index["ids"] == {"file": "ids.jsonl", "bytes": len(ids), "sha256": hashlib.sha256(ids).hexdigest()}
    shards = []
    for name, rows in (("shard-00000.safetensors", 2), ("shard-00001.safetensors", 1)):
        content = (artefact / name).read_bytes()
        shards.append(
            {"file": name, "rows": rows, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        )
    assert index["shards"] == shards
    content_keys = {
        "dim": 4,
        "dtype": "float16",
        "ids": index["ids"]["sha256"],
        "prior": index["prior"],
        "rows": 3,
        "shards": [shard["sha256"] for shard in shards],
    }
    canonical = json.dumps(content_keys, sort_keys=True, separators=(",", ":")).encode()
    assert index["digest"] == hashlib.sha256(canonical).hexdigest()
    # sha256 of the whole index, of version 0.1.0: a change here is a change of the format
    text = (artefact / "index.json").read_bytes().replace(index["made_by"].encode(), b"rela-zoo 0.1.0")
    assert hashlib.sha256(text).hexdigest() == GOLDEN_INDEX


def test_the_safetensors_library_reads_a_shard(artefact: Path) -> None:
    rows = load_file(artefact / "shard-00000.safetensors")["rows"]
    assert torch.equal(rows, torch.tensor([[0, 0, 0, 0], [12, 15, 18, 21]], dtype=torch.float16))
    with safe_open(artefact / "shard-00001.safetensors", "pt") as file:
        assert json.loads(file.metadata()["rela_zoo"])["shard"] == 1


def test_ids_of_any_characters_survive() -> None:
    ids = ["a/b.png", 'quo"te', "back\\slash", "new\nline", "ünï", "日本", "\udcff-not-utf8", "\U0001f600", "\u2028"]
    ids += ['ends like a list", ', "", '", "'] + [f"{i}" for i in range(70_000)]  # more than are encoded at once
    encoded = b"".join(encoded_ids(ids))
    assert [json.loads(line) for line in encoded.splitlines()] == ids
    assert encoded.endswith(b"\n")
    assert ids_sha256(iter(ids)) == hashlib.sha256(encoded).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (b"\x01\x02", "cut short"),
        (struct.pack("<Q", 1 << 62) + b"{}", "cut short"),
        (struct.pack("<Q", 100) + b"{}", "cut short"),
        (struct.pack("<Q", 2) + b"{}", "malformed"),
        (struct.pack("<Q", 4) + b"null", "malformed"),
        (struct.pack("<Q", 20000) + b"[" * 20000, "malformed"),
    ],
)
def test_headers_that_are_none(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "shard").write_bytes(content)
    with pytest.raises(EmbeddingsError, match=message):
        read_shard_header(tmp_path / "shard", 1, 4, "float16")


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ({"dtype": "F16", "shape": [1, 4], "data_offsets": [0, 9]}, "not of the size"),
        ({"dtype": "F16", "shape": [1, 4], "data_offsets": [4, 8]}, "not of the size"),
        ({"dtype": "F16", "shape": [1, 5], "data_offsets": [0, 8]}, "another width"),
        ({"dtype": "F32", "shape": [1, 4], "data_offsets": [0, 8]}, "another dtype"),
        ({"dtype": "F16", "shape": [1 << 50, 4], "data_offsets": [0, 8]}, "another number of rows"),
        ({"dtype": "F16", "shape": [-1, 4], "data_offsets": [0, 8]}, "another number of rows"),
        ({"dtype": "F16", "shape": [4], "data_offsets": [0, 8]}, "malformed"),
        ({"dtype": "F16", "shape": "no", "data_offsets": [0, 8]}, "malformed"),
        ({"dtype": "F16", "shape": [1, 4]}, "malformed"),
    ],
)
def test_headers_that_lie(tmp_path: Path, tensor: Any, message: str) -> None:
    text = json.dumps({"__metadata__": {"rela_zoo": "{}"}, "rows": tensor}).encode()
    (tmp_path / "shard").write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(EmbeddingsError, match=message):
        read_shard_header(tmp_path / "shard", 1, 4, "float16")


def test_a_header_announces_no_more_rows_than_the_file_holds(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(shard_header(1 << 40, 4, "float16", {}) + bytes(8))
    with pytest.raises(EmbeddingsError, match="truncated"):
        read_shard_header(tmp_path / "shard", 1 << 40, 4, "float16")


def edit(folder: Path, change: Any) -> None:
    index = json.loads((folder / "index.json").read_bytes())
    change(index)
    (folder / "index.json").write_text(json.dumps(index))


def put(*keys: Any) -> Any:
    *path, last, value = keys

    def change(index: Any) -> None:
        for key in path:
            index = index[key]
        index[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("shards", 0, "file", "../../etc/passwd"), "not allowed"),
        (put("shards", 0, "file", "/etc/passwd"), "not allowed"),
        (put("shards", 0, "file", "shard-00001.safetensors"), "not allowed"),
        (put("ids", "file", "../ids.jsonl"), "not allowed"),
        (put("ids", "bytes", 1 << 39), "not allowed"),
        (put("format_version", 2), "format version"),
        (put("format_version", "1"), "not an index"),
        (put("format", "something"), "not an index"),
        (put("extra", 1), "extra"),
        (put("dtype", "float64"), "dtype"),
        (put("dim", 0), "dim"),
        (put("dim", -4), "dim"),
        (put("rows", 4), "do not add up"),
        (put("rows", 1 << 60), "rows"),
        (put("shards", 0, "sha256", "zz"), "sha256"),
        (put("shards", 0, "sha256", "0" * 64), "wrong digest"),
        (put("digest", "0" * 64), "wrong digest"),
        (put("prior", "id", "another"), "wrong digest"),
        (put("preprocessing", "other"), "made for other embeddings"),
    ],
)
def test_an_index_that_was_changed(artefact: Path, change: Any, message: str) -> None:
    edit(artefact, change)
    with pytest.raises(EmbeddingsError, match=message):
        open_embeddings(artefact)


def test_an_index_that_is_none(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("", "{", "[]", "3", "[" * 100_000):
        (artefact / "index.json").write_text(text)
        with pytest.raises(EmbeddingsError, match="not"):
            read_index(artefact)
    monkeypatch.setattr(_format, "MAX_JSON_BYTES", 100)
    (artefact / "index.json").write_text(" " * 101)
    with pytest.raises(EmbeddingsError, match="too large"):
        read_index(artefact)


def test_a_newer_format_asks_for_a_newer_version(artefact: Path) -> None:
    edit(artefact, put("format_version", 9))
    with pytest.raises(EmbeddingsError, match="a newer rela-zoo") as caught:
        open_embeddings(artefact)
    assert (caught.value.expected, caught.value.got) == (1, 9)
