"""Files from outside, damaged at random: each is read, or refused by an error of this package. Never anything else.

The suite tries the same few damages each time. To look for new ones: `FUZZ_EXAMPLES=5000 pytest tests/test_fuzz.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rela_zoo
from rela_zoo.data import image_source
from rela_zoo.embeddings import open_embeddings, write_rows
from rela_zoo.errors import RelaZooError
from rela_zoo.hub import read_lock
from rela_zoo.hub.index_file import problems, read
from rela_zoo.networks.backbones import build_backbone
from rela_zoo.prior.trained_backbone import read_backbone
from rela_zoo.registry import read_entry
from rela_zoo.remote import Manifest
from rela_zoo.selection.record import read_epoch, read_info
from rela_zoo.transport import PriorTransport, TargetTransport, fit_prior_transport, fit_transport

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "30"))
ODD: list[Any] = [
    None, True, -1, 0, 1 << 70, 1.5, float("nan"), "", "..", "../x", "a" * 70_000, "\x00", "\ud800", [], {}, [[]],
    {"a": 1}, [1] * 9, "1",
]  # fmt: skip


def _bytes(data: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, cut out, doubled, or the end cut off."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 8))):
        at, length = chance.randrange(len(found) + 1), chance.choice((1, 1, 2, 4, 8, 64))
        how = chance.randrange(5)
        if how == 0:
            found[at : at + length] = chance.randbytes(length)
        elif how == 1:
            del found[at : at + length]
        elif how == 2:
            found[at:at] = found[at : at + length]
        elif how == 3:
            found[at : at + length] = chance.choice((b"\x00", b"\xff", b"{", b"}", b"[", b'"', b"\n", b"9" * 30))
        else:
            del found[at:]
        if not found:
            return b""
    return bytes(found)


def _structure(value: Any, chance: random.Random) -> Any:
    """One value somewhere inside put out of shape, taken away, or added."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        key = chance.choice(sorted(value))
        if chance.random() < 0.15:
            return {name: one for name, one in value.items() if name != key}
        if chance.random() < 0.1:
            return {**value, chance.choice(("", "x", "../y", "rows")): chance.choice(ODD)}
        return {**value, key: _structure(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        return [*value[:at], _structure(value[at], chance), *value[at + 1 :]]
    return chance.choice(ODD)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.6:
        try:
            return json.dumps(_structure(json.loads(data), chance)).encode("utf-8", "surrogatepass")
        except ValueError:
            pass
    return _bytes(data, chance)


def _table(folder: Path, name: str) -> Any:
    rows = torch.randn(40, 6, generator=torch.Generator().manual_seed(len(name)))
    ids = [f"{i:03d}.png" for i in range(40)]
    return write_rows(folder / name, [rows], ids, prior={"id": name}, shard_rows=16)


def _npy(folder: Path) -> Path:
    np.save(folder / "images.npy", np.zeros((3, 8, 8, 3), np.uint8))
    return folder / "images.npy"


def _parquet(folder: Path, make_folder: Any) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    make_folder(folder / "pictures", {"a": 3})
    pictures = [{"bytes": one.read_bytes(), "path": one.name} for one in sorted(folder.rglob("*.png"))]
    pq.write_table(pa.table({"image": pictures, "label": [0, 1, 0]}), folder / "images.parquet")
    return folder / "images.parquet"


def _checkpoint(folder: Path) -> Path:
    network, _ = build_backbone("resnet18", {}, "cifar10")
    state = {f"backbone.{name}": value.half() for name, value in network.state_dict().items()}
    config = {"method": "byol", "backbone": {"name": "resnet18"}, "data": {"dataset": "cifar10"}, "augmentations": []}
    torch.save({"state_dict": state, "epoch": 1}, folder / "run.ckpt")
    (folder / "args.json").write_text(json.dumps(config))
    return folder / "args.json"


def _first(path: Path) -> Any:
    source = image_source(path)
    return source.image(0), source.labels


def _lock(folder: Path) -> Path:
    one = {
        "kind": "weights", "repo": "org/x", "repo_type": "model", "revision": "0" * 40, "path": "x", "sha256": "1" * 64,
    }  # fmt: skip
    (folder / "rela.lock").write_text(json.dumps({"format": 1, "artefacts": [one]}))
    return folder / "rela.lock"


def _made(kind: str, folder: Path, make_folder: Any) -> tuple[Path, Callable[[Path], Any]]:
    """A whole file of a kind, and what reads it."""
    root = Path(rela_zoo.__file__).parent.parent / "registry"
    if kind in ("index.json", "ids.jsonl", "shard-00001.safetensors"):
        place = _table(folder, "table").path
        return place / kind, lambda path: list(open_embeddings(path.parent, verify="full").ids)
    if kind == "target":
        fit_transport(_table(folder, "table")).save(folder / "t.safetensors")
        return folder / "t.safetensors", TargetTransport.load
    if kind == "between":
        fit_prior_transport(_table(folder, "one"), _table(folder, "two")).save(folder / "t.safetensors")
        return folder / "t.safetensors", PriorTransport.load
    if kind == "entry":
        (folder / "cifar10-resnet20.yaml").write_bytes((root / "cifar10-resnet20.yaml").read_bytes())
        return folder / "cifar10-resnet20.yaml", read_entry
    if kind == "manifest":
        listed = {"a/b.safetensors": {"sha256": "0" * 64, "bytes": 3}}
        (folder / "m.json").write_text(json.dumps({"format": 1, "files": listed}))
        return folder / "m.json", lambda path: Manifest.parse(path.read_bytes())
    if kind == "lock":
        return _lock(folder), read_lock
    if kind == "hub-index":
        found = {"format": 1, "priors": {"x": {"repo": "org/x", "revision": "0" * 40}}, "embeddings": {}}
        (folder / "index.json").write_text(json.dumps(found))
        return folder / "index.json", lambda path: problems(read(path))
    if kind == "subset":
        make_folder(folder / "pictures", {"a": 6, "b": 6})
        from typer.testing import CliRunner

        from rela_zoo.cli import app

        words = ["subset", "export", str(folder / "pictures"), "--epochs", "1", "--out", str(folder / "subset")]
        assert CliRunner().invoke(app, words).exit_code == 0
        path = next(one for one in sorted((folder / "subset").iterdir()) if one.suffix == ".json")
        return path, lambda path: (read_info(path.parent), read_epoch(path.parent, 0))
    if kind == "checkpoint-config":
        return _checkpoint(folder), lambda path: read_backbone(path.with_name("run.ckpt"))
    if kind == "npy":
        return _npy(folder), _first
    if kind == "tar":
        make_folder(folder / "pictures", {"a": 3})
        with tarfile.open(folder / "images.tar", "w") as archive:
            for number, one in enumerate(sorted(folder.rglob("*.png"))):
                archive.add(one, f"{number:03d}.png")
        return folder / "images.tar", _first
    assert kind == "parquet"
    return _parquet(folder, make_folder), _first


@pytest.mark.parametrize(
    "kind",
    ["index.json", "ids.jsonl", "shard-00001.safetensors", "target", "between", "entry", "manifest", "lock",
     "hub-index", "subset", "checkpoint-config", "npy", "parquet", "tar"],
)  # fmt: skip
def test_damage_is_refused_by_name(kind: str, tmp_path: Path, make_folder: Any) -> None:
    path, opened = _made(kind, tmp_path, make_folder)
    whole = path.read_bytes()
    opened(path)

    @settings(
        max_examples=EXAMPLES, deadline=None, derandomize="FUZZ_EXAMPLES" not in os.environ, database=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(seed=st.integers(0, 1 << 40))
    def attempt(seed: int) -> None:
        path.write_bytes(_damaged(whole, random.Random(seed)))
        with contextlib.suppress(RelaZooError):
            opened(path)

    attempt()
