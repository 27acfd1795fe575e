"""A prior on the tests' own Hub, as others find it: embeddings, a transport, an entry that names both, no weights."""

from __future__ import annotations

import hashlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from rela_zoo.data import image_source
from rela_zoo.embeddings import write_rows
from rela_zoo.remote import MANIFEST, client
from rela_zoo.transport import fit_transport

ROWS, DIM, SHARD = 24, 64, 8


@pytest.fixture
def quick(monkeypatch):
    """Pauses between attempts are noted, not waited for; those of the client itself are left out."""
    from huggingface_hub.utils import _http

    waits: list[float] = []
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda seconds: None))
    monkeypatch.setattr("rela_zoo.remote._client._sleep", waits.append)
    return waits


@pytest.fixture
def zoo(hub, tmp_path, quick):
    """A prior on the Hub with embeddings of a folder and a transport, and without its weights."""
    images = tmp_path / "images"
    for number in range(ROWS):
        path = images / "train" / str(number % 2) / f"{number:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)).save(path)
    ids = list(image_source(str(images / "train")).ids)
    rows = torch.randn(ROWS, DIM, generator=torch.Generator().manual_seed(0))
    prior = {"id": "home-made"}
    table = write_rows(tmp_path / "made", [rows], ids, prior=prior, preprocessing="upstream", shard_rows=SHARD)
    files = {f"toy/{path.name}": path.read_bytes() for path in (tmp_path / "made").iterdir() if path.is_file()}
    records = {path: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for path, data in files.items()}
    files[MANIFEST] = json.dumps({"format": 1, "files": records}).encode()
    hub.store.add("org/home-made-embeddings", files, kind="dataset")
    revision = commit_of("org/home-made-embeddings", "dataset")
    fit_transport(table, max_dim=12).save(tmp_path / "t.safetensors")
    moved = (tmp_path / "t.safetensors").read_bytes()
    embeddings = {
        "repo": "org/home-made-embeddings",
        "revision": revision,
        "path": "toy",
        "sha256": records["toy/index.json"]["sha256"],
    }
    entry = {
        "id": "home-made",
        "title": "A prior made at home",
        "family": "cifar-resnet",
        "architecture": "resnet20",
        "dim": DIM,
        "file": "model.safetensors",
        "sha256": "0" * 64,
        "pin": "confirmed",
        "licence": "mit",
        "preprocessing": {"input_size": 32, "resize": 32, "interpolation": "bilinear", "mean": 0.5, "std": 0.25},
        "artefacts": {
            "toy": {
                "embeddings": embeddings,
                "transport": {"path": "transports/toy.safetensors", "sha256": hashlib.sha256(moved).hexdigest()},
            }
        },
    }
    card = b"---\nlicense: mit\ntags: [rela-zoo, rela-prior]\n---\n# x\n"
    model = {"prior.yaml": yaml.safe_dump(entry).encode(), "transports/toy.safetensors": moved, "README.md": card}
    hub.store.add("org/home-made", model)
    return SimpleNamespace(
        hub=hub,
        name=f"hf://org/home-made@{commit_of('org/home-made', 'model')}",
        entry=entry,
        images=images,
        rows=rows,
        address=f"hf://org/home-made-embeddings@{revision}/toy",
        work=tmp_path / "work",
        index=files["toy/index.json"],
        commit_of=commit_of,
    )


def commit_of(repo: str, kind: str) -> str:
    return str(client().repo_info(repo, repo_type=kind).sha)
