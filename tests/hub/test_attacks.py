"""What a repository of the Hub may try, and what becomes of it. Weights as files are in tests/prior/test_weights.py."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
import torch
import yaml

from rela_zoo import load_prior
from rela_zoo.errors import HubError, RegistryError, WeightsError
from rela_zoo.hub import pull
from rela_zoo.registry import prior_spec
from rela_zoo.remote import Manifest, safe_path


@pytest.mark.parametrize("path", ["../x", "/x", "a/../b", "a//b", "a\\b", "c:x", "", "a/.", "x\n", "x\0", "é" * 600])
def test_paths_that_climb_out(path):
    with pytest.raises(HubError, match="not allowed"):
        safe_path(path)
    with pytest.raises(HubError):
        Manifest.parse(json.dumps({"format": 1, "files": {path: {"sha256": "0" * 64, "bytes": 1}}}).encode())


@pytest.mark.parametrize(
    "data",
    [b"[]", b"{", b"[" * 100_000, b" " * (9 << 20), b'{"format": 2, "files": {}}', b'{"format": 1, "files": []}',
     b'{"format": 1, "files": {"a": {"sha256": "x", "bytes": 1}}}',
     json.dumps({"format": 1, "files": {"a": {"sha256": "0" * 64, "bytes": True}}}).encode(),
     json.dumps({"format": 1, "files": {"a": {"sha256": "0" * 64, "bytes": -1}}}).encode()],
)  # fmt: skip
def test_malformed_manifests(data):
    with pytest.raises(HubError, match="malformed"):
        Manifest.parse(data)


@pytest.mark.parametrize(
    "change",
    [
        {"source": "callable", "family": "callable", "architecture": "os:getcwd", "file": None, "sha256": None,
         "pin": "none"},
        {"file": "../../model.safetensors"},
        {"file": "pytorch_model.bin"},
        {"model_args": {"checkpoint_path": "x"}},
        {"trust_remote_code": True},
        {"id": "../evil"},
        {"id": "clip-vit-b32"},
        {"aliases": ["random"]},
        {"artefacts": {"toy": {"embeddings": {"repo": "o/x", "revision": "0" * 40, "path": "../../x"}}}},
    ],
)  # fmt: skip
def test_entries_from_the_network(zoo, change):
    zoo.hub.store.add("org/evil", {"prior.yaml": yaml.safe_dump({**zoo.entry, **change}).encode()})
    with pytest.raises(RegistryError):
        prior_spec(f"hf://org/evil@{zoo.commit_of('org/evil', 'model')}")


@pytest.mark.parametrize("text", [b"x: !!python/object/apply:os.getcwd []", b"a: &a [1]\nb: *a", b"#" * 70_000])
def test_yaml_that_runs_or_grows(zoo, text):
    zoo.hub.store.add("org/evil", {"prior.yaml": text})
    with pytest.raises((RegistryError, HubError)):
        prior_spec(f"hf://org/evil@{zoo.commit_of('org/evil', 'model')}")


def test_an_artefact_without_a_hash_is_not_pulled(zoo):
    del zoo.entry["artefacts"]["toy"]["embeddings"]["sha256"]
    zoo.hub.store.add("org/unpinned", {"prior.yaml": yaml.safe_dump(zoo.entry).encode()})
    with pytest.raises(HubError, match="which bytes"):
        pull(f"hf://org/unpinned@{zoo.commit_of('org/unpinned', 'model')}")


def test_branches_are_no_addresses():
    for address in ("hf://org/x@main/toy", "hf://org/x", f"hf://org/../x@{'0' * 40}", f"hf://o/x@{'0' * 40}/../y"):
        with pytest.raises((HubError, RegistryError)):
            prior_spec(address)


def _pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save({"conv1.weight": torch.zeros(1)}, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (_pickle(), "is a pickle"),
        (b"\x80\x04K\x01.", "pickle"),
        ((64 << 20).to_bytes(8, "little") + b"{" + b" " * 100, "safetensors"),
        ((1 << 62).to_bytes(8, "little") + b"{}", "safetensors"),
        ((4).to_bytes(8, "little") + b"{}}}", "damaged"),
    ],
)
def test_published_weights_that_are_no_safetensors(zoo, data, says):
    """The hash is right, for the attacker wrote the entry: the content is refused all the same."""
    entry = {**zoo.entry, "sha256": hashlib.sha256(data).hexdigest()}
    files = {"prior.yaml": yaml.safe_dump(entry).encode(), "model.safetensors": data}
    zoo.hub.store.add("org/evil", files)
    with pytest.raises(WeightsError, match=says):
        load_prior(f"hf://org/evil@{zoo.commit_of('org/evil', 'model')}")


def test_a_repository_with_only_a_pickle_is_not_fallen_back_to(zoo):
    """timm would take pytorch_model.bin where the safetensors file is missing; here nothing but the named file is."""
    zoo.hub.store.add("org/evil", {"prior.yaml": yaml.safe_dump(zoo.entry).encode(), "pytorch_model.bin": _pickle()})
    with pytest.raises(WeightsError):
        load_prior(f"hf://org/evil@{zoo.commit_of('org/evil', 'model')}")
    assert not zoo.hub.calls("pytorch_model")


def test_an_index_of_embeddings_that_names_other_files(zoo):
    """The shards' names are checked before anything is fetched by them."""
    index = json.loads(zoo.index)
    index["shards"][0]["file"] = "../../prior.yaml"
    data = json.dumps(index).encode()
    zoo.hub.store.add("org/evil-embeddings", {"toy/index.json": data}, kind="dataset")
    place = {
        "repo": "org/evil-embeddings",
        "revision": zoo.commit_of("org/evil-embeddings", "dataset"),
        "path": "toy",
        "sha256": hashlib.sha256(data).hexdigest(),
    }
    zoo.entry["artefacts"]["toy"]["embeddings"] = place
    zoo.hub.store.add("org/evil", {"prior.yaml": yaml.safe_dump(zoo.entry).encode()})
    with pytest.raises(Exception, match="not allowed"):
        pull(f"hf://org/evil@{zoo.commit_of('org/evil', 'model')}")


def test_an_index_larger_than_any_is_not_downloaded(zoo, monkeypatch):
    from rela_zoo.hub import _rows

    spec = prior_spec(zoo.name)
    monkeypatch.setattr(_rows, "_MAX_JSON_BYTES", 100)
    with pytest.raises(HubError, match="too large"):
        pull(spec)
    assert not list((zoo.work.parent / "hf").rglob("index.json")), "nothing of it is kept"
