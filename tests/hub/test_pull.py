"""Pulling with the real client from the tests' own Hub: what is published is used, checked, kept, and refused."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import rela_zoo
from rela_zoo.embeddings import image_source, open_embeddings, write_rows
from rela_zoo.errors import HubError, RegistryError, UnknownPriorError
from rela_zoo.hub import pull, search
from rela_zoo.registry import prior_spec
from rela_zoo.remote import MANIFEST, Manifest, _client, safe_path
from rela_zoo.transport import fit_transport

ROWS, DIM, SHARD = 24, 64, 8
ROOT = Path(__file__).parents[2]


@pytest.fixture
def quick(monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(_client, "_sleep", waits.append)
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
    revision = _commit("org/home-made-embeddings", "dataset")
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
        name=f"hf://org/home-made@{_commit('org/home-made', 'model')}",
        entry=entry,
        images=images,
        rows=rows,
        address=f"hf://org/home-made-embeddings@{revision}/toy",
        work=tmp_path / "work",
    )


def _commit(repo: str, kind: str) -> str:
    return str(_client.client().repo_info(repo, repo_type=kind).sha)


def test_embeddings_and_transport_come_whole(zoo):
    pulled = pull(zoo.name)
    table = open_embeddings(pulled.embeddings, verify="full")
    torch.testing.assert_close(table.rows(range(ROWS)), zoo.rows.half())
    assert rela_zoo.TargetTransport.load(pulled.transport).dim == DIM
    assert {one.kind: one.repo for one in pulled.artefacts} == {
        "embeddings": "org/home-made-embeddings",
        "transport": "org/home-made",
    }


def test_what_the_cache_has_needs_no_request(zoo):
    first = pull(zoo.name)
    before = len(zoo.hub.requests)
    assert pull(zoo.name) == first
    assert len(zoo.hub.requests) == before
    zoo.hub.stop()
    assert pull(zoo.name) == first


def test_only_the_shards_that_are_wanted(zoo):
    pulled = pull(zoo.name, what=("embeddings",), shards=[1])
    assert pulled.embeddings is None
    assert zoo.hub.calls("shard-00001")
    assert not zoo.hub.calls("shard-0000[02]")
    with pytest.raises(HubError, match="no such shard"):
        pull(zoo.name, shards=[3])


def test_offline_says_what_to_fetch_and_asks_nobody(zoo, monkeypatch):
    from huggingface_hub import constants

    spec = prior_spec(zoo.name)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    before = len(zoo.hub.requests)
    with pytest.raises(HubError, match=r"(?s)HF_HUB_OFFLINE.*rela-zoo (pull|fetch)"):
        pull(spec)
    assert len(zoo.hub.requests) == before


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        ("/cdn/", {"cut": 700}),
        ("/cdn/", {"cut": 0}),
        ("/cdn/", {"flip": 900}),
        ("/cdn/", {"slow": 0.3}),
        ("index.json", {"flip": 20}),
        ("shard-00001", {"status": 500}),
        ("shard-00001", {"status": 503}),
        ("shard-00001", {"status": 429, "retry_after": 1}),
    ],
)
def test_a_fault_that_passes_is_survived(zoo, path, fault):
    switch = zoo.hub.fail(path, times=1, **fault)
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)
    assert switch.hits == 1


def test_a_flip_that_stays_is_refused_and_mended_later(zoo):
    zoo.hub.fail("/cdn/", flip=900)
    with pytest.raises(HubError, match=r"(?s)damaged or was replaced.*sha256"):
        pull(zoo.name)
    zoo.hub.faults.clear()
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)


def test_a_file_damaged_in_the_cache_is_fetched_again(zoo):
    folder = pull(zoo.name).embeddings
    shard = (folder / "shard-00001.safetensors").resolve()
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.chmod(0o644)
    shard.write_bytes(data)
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)


def test_a_full_disk_says_so_and_the_next_run_completes(zoo, monkeypatch):
    from huggingface_hub import file_download

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    spec = prior_spec(zoo.name)
    with monkeypatch.context() as patched:
        patched.setattr(file_download, "http_get", full)
        with pytest.raises(HubError, match=r"(?s)disk.*full.*HF_HOME"):
            pull(spec)
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)


def test_killed_in_the_middle_it_goes_on_with_what_is_missing(zoo, tmp_path):
    """SIGKILL while the third large file is under way: the finished ones are not asked for again."""
    zoo.hub.fail("/cdn/", after=2, slow=30.0)
    command = [sys.executable, "-m", "rela_zoo", "pull", zoo.name, "--workers", "1"]
    child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(zoo.hub.calls("/cdn/")) < 3 and time.monotonic() < deadline and child.poll() is None:
        time.sleep(0.05)
    assert child.poll() is None, "it was to be killed under way"
    child.send_signal(signal.SIGKILL)
    child.wait()
    zoo.hub.faults.clear()
    finished = {call[1] for call in zoo.hub.calls("/cdn/")[:2]}
    before = len(zoo.hub.calls("/cdn/"))
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)
    again = {call[1] for call in zoo.hub.calls("/cdn/")[before:]}
    assert again
    assert not again & finished


def test_private_repositories_need_a_token_that_is_never_shown(zoo, monkeypatch):
    zoo.hub.store.add("org/secret", {"prior.yaml": yaml.safe_dump(zoo.entry).encode()}, private=True)
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    name = f"hf://org/secret@{_commit('org/secret', 'model')}"
    for token in ("hf_outsider", None):
        if token is None:
            monkeypatch.delenv("HF_TOKEN")
        else:
            monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(UnknownPriorError, match="hf auth login") as caught:
            prior_spec(name)
        assert "hf_" not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    assert prior_spec(name).id == "home-made"


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (403, "GatedRepo", "accept the conditions"),
        (401, "RepoNotFound", "hf auth login"),
        (404, "RevisionNotFound", "history"),
        (404, "EntryNotFound", "see the files"),
        (500, None, "run the same command again"),
        (429, None, "run the same command again"),
    ],
)
def test_refusals_say_what_to_do(zoo, monkeypatch, status, code, says):
    monkeypatch.setenv("HF_TOKEN", "hf_reader")
    spec = prior_spec(zoo.name)
    zoo.hub.fail("index.json", status=status, code=code, times=50)
    with pytest.raises(HubError) as caught:
        pull(spec)
    assert says in str(caught.value)
    assert "hf_reader" not in str(caught.value)


def test_a_moved_main_changes_nothing(zoo):
    zoo.hub.store.add("org/home-made-embeddings", {"toy/index.json": b"{}"}, kind="dataset")
    assert open_embeddings(pull(zoo.name).embeddings).shape == (ROWS, DIM)


def test_an_address_needs_a_manifest(zoo):
    from rela_zoo.hub import open_address

    table, artefact = open_address(zoo.address)
    assert table.shape == (ROWS, DIM)
    assert artefact.sha256 == zoo.entry["artefacts"]["toy"]["embeddings"]["sha256"]
    zoo.hub.store.add("org/half", {"toy/index.json": b"{}"}, kind="dataset")
    with pytest.raises(HubError, match=MANIFEST):
        open_address(f"hf://org/half@{_commit('org/half', 'dataset')}/toy")


def _train(zoo, prior: str, epochs: int = 1):
    from omegaconf import OmegaConf

    from rela_zoo.hosts.builtin.compose import compose
    from rela_zoo.hosts.builtin.train import train

    overrides = [
        "rela=default", f"rela.prior='{prior}'", "rela.data_ratio=0.5", f"max_epochs={epochs}", "rela.handover=1.0",
        "optimizer.batch_size=8", f"data.train_path='{zoo.images / 'train'}'", f"checkpoint.dir='{zoo.work}'",
        "auto_resume.enabled=false",
    ]  # fmt: skip
    return train(OmegaConf.to_container(compose("demo", None, overrides), resolve=True))


def test_training_uses_what_is_published_and_never_loads_the_prior(zoo, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the prior was loaded")

    monkeypatch.setattr("rela_zoo.prior._load.load_prior", refuse)
    result = _train(zoo, zoo.name)
    assert result.steps == 1
    assert not zoo.hub.calls("model.safetensors")
    lock = json.loads((result.folder / "rela.lock").read_text())
    assert {one["kind"] for one in lock["artefacts"]} == {"embeddings", "transport"}
    assert all(one["repo"] and len(one["revision"]) == 40 and len(one["sha256"]) == 64 for one in lock["artefacts"])
    zoo.hub.stop()
    monkeypatch.setenv("RELA_ZOO_LOCKED", "1")
    assert _train(zoo, zoo.name).steps == 1
    lock["artefacts"][0]["sha256"] = "1" * 64
    (result.folder / "rela.lock").write_text(json.dumps(lock))
    with pytest.raises(HubError, match=r"(?s)other embeddings than the lock file"):
        _train(zoo, zoo.name)


def test_the_index_knows_what_was_published_later(zoo, monkeypatch):
    repo, commit = zoo.name.removeprefix("hf://").split("@")
    pointer = yaml.safe_dump({"repo": repo, "revision": commit}).encode()
    with pytest.raises(UnknownPriorError):
        prior_spec("home-made")
    files = {"priors/home-made.yaml": pointer, "priors/other.yaml": pointer, "priors/cifar10-resnet20.yaml": pointer}
    zoo.hub.store.add("rela-zoo/registry", files, kind="dataset")
    assert prior_spec("home-made").id == "home-made"
    assert prior_spec("cifar10-resnet20").source == "embedded", "the index shadows no packaged prior"
    with pytest.raises(RegistryError, match="leads from 'other' to another prior"):
        prior_spec("other")
    assert [(one.repo, one.licence) for one in search()] == [(repo, "mit")]
    zoo.hub.stop()
    assert prior_spec("home-made").id == "home-made", "what was seen is known without a network"


class TestAttacks:
    @pytest.mark.parametrize(
        "path", ["../x", "/x", "a/../b", "a//b", "a\\b", "c:x", "", "a/.", "x\n", "x\0", "é" * 600]
    )
    def test_paths_that_climb_out(self, path):
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
    def test_malformed_manifests(self, data):
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
    def test_entries_from_the_network(self, zoo, change):
        zoo.hub.store.add("org/evil", {"prior.yaml": yaml.safe_dump({**zoo.entry, **change}).encode()})
        with pytest.raises(RegistryError):
            prior_spec(f"hf://org/evil@{_commit('org/evil', 'model')}")

    @pytest.mark.parametrize("text", [b"x: !!python/object/apply:os.getcwd []", b"a: &a [1]\nb: *a", b"#" * 70_000])
    def test_yaml_that_runs_or_grows(self, zoo, text):
        zoo.hub.store.add("org/evil", {"prior.yaml": text})
        with pytest.raises((RegistryError, HubError)):
            prior_spec(f"hf://org/evil@{_commit('org/evil', 'model')}")

    def test_an_artefact_without_a_hash_is_not_pulled(self, zoo):
        del zoo.entry["artefacts"]["toy"]["embeddings"]["sha256"]
        zoo.hub.store.add("org/unpinned", {"prior.yaml": yaml.safe_dump(zoo.entry).encode()})
        with pytest.raises(HubError, match="which bytes"):
            pull(f"hf://org/unpinned@{_commit('org/unpinned', 'model')}")

    def test_branches_are_no_addresses(self):
        for address in ("hf://org/x@main/toy", "hf://org/x", f"hf://org/../x@{'0' * 40}", f"hf://o/x@{'0' * 40}/../y"):
            with pytest.raises((HubError, RegistryError)):
                prior_spec(address)

    def test_a_read_only_cache_with_the_files_is_enough(self, zoo):
        if os.geteuid() == 0:
            pytest.skip("root writes everywhere")
        from huggingface_hub import constants

        first = pull(zoo.name)
        folders = [Path(folder) for folder, _, _ in os.walk(constants.HF_HUB_CACHE)]
        for folder in folders:
            folder.chmod(0o555)
        try:
            assert pull(zoo.name) == first
        finally:
            for folder in folders:
                folder.chmod(0o755)
