"""Pulling with the real client from the tests' own Hub: what is published is used, checked, kept, and refused."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml

import rela_zoo
from rela_zoo.embeddings import open_embeddings
from rela_zoo.errors import HubError, RegistryError, UnknownPriorError
from rela_zoo.hub import pull, search
from rela_zoo.registry import prior_spec
from rela_zoo.remote import MANIFEST

ROOT = Path(__file__).parents[2]
ROWS, DIM = 24, 64


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


def test_weights_alone_of_a_prior_without_artefacts():
    pulled = pull("cifar10-resnet20", what=("embeddings", "transport", "weights"))
    assert (pulled.embeddings, pulled.transport) == (None, None)
    assert pulled.weights is not None
    assert pulled.artefacts[0].repo is None
    with pytest.raises(HubError, match=r"(?s)nothing is published.*rela-zoo embed"):
        pull("cifar10-resnet20")


def test_requests_do_not_grow(zoo):
    """Two a file, as the client itself makes: what is it, and the file. Of large files the second is to the CDN."""
    from huggingface_hub import snapshot_download

    before = len(zoo.hub.requests)
    pull(zoo.name)
    ours = Counter(path for _, path in zoo.hub.requests[before:])
    files = ["prior.yaml", "transports/toy", "index.json", "ids.jsonl", "shard-00000", "shard-00001", "shard-00002"]
    assert sum(ours.values()) == 2 * len(files)
    before = len(zoo.hub.requests)
    snapshot_download("org/home-made-embeddings", repo_type="dataset", allow_patterns="toy/*", cache_dir=zoo.work)
    theirs = Counter(path for _, path in zoo.hub.requests[before:] if "/api/" not in path)
    assert theirs <= ours, "not one more than the client makes for the same files"


def test_a_list_of_a_repository_spares_questions_about_files_in_xet_storage(zoo, monkeypatch):
    """The client asks nothing of what it has listed. The transfer, which needs the Hub's servers, is replaced."""
    from huggingface_hub import constants, file_download

    def transfer(*, incomplete_path, xet_file_data, tqdm_class, expected_size, **_):
        blobs = zoo.hub.store.repos["dataset", "org/home-made-embeddings"].head.files.values()
        data = next(one.data for one in blobs if one.sha256 == xet_file_data.file_hash)
        incomplete_path.write_bytes(data)

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setattr(file_download, "xet_get", transfer)
    zoo.hub.xet = True
    assert open_embeddings(pull(zoo.name).embeddings, verify="full").shape == (ROWS, DIM)
    assert len(zoo.hub.calls("/tree/")) == 1
    assert not zoo.hub.calls("shard-"), "neither asked about nor fetched past the storage"


def test_one_bar_counts_the_bytes_of_all_files(zoo, monkeypatch):
    from rela_zoo._io import progress

    made = []

    class Bar(progress.Progress):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            self.steps = []
            made.append(self)

        def advance(self, count):
            self.steps.append(count)
            super().advance(count)

    monkeypatch.setattr(progress, "Progress", Bar)
    zoo.hub.fail("/cdn/", flip=900, times=1)  # one file comes twice and counts once
    pulled = pull(zoo.name, what=("embeddings",))
    (bar,) = made
    files = [one for one in pulled.embeddings.iterdir() if one.name != "index.json"]
    assert sum(bar.steps) == bar._total == sum(one.stat().st_size for one in files)
    assert min(bar.steps) >= 0


def test_a_larger_file_than_was_announced_is_refused_before_its_first_byte(zoo):
    from rela_zoo.remote import fetch_file

    repo, revision = "org/home-made-embeddings", zoo.commit_of("org/home-made-embeddings", "dataset")
    for path in ("toy/index.json", "toy/shard-00000.safetensors"):
        with pytest.raises(HubError, match=r"(?s)is too large.*at most 99 bytes"):
            fetch_file(repo, path, revision, "dataset", limit=99)
    kept = (zoo.work.parent / "hf" / "hub" / f"datasets--{repo.replace('/', '--')}" / "blobs").glob("*")
    assert list(kept) == [], "nothing of it is kept"


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
    name = f"hf://org/secret@{zoo.commit_of('org/secret', 'model')}"
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
        open_address(f"hf://org/half@{zoo.commit_of('org/half', 'dataset')}/toy")


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


def test_a_read_only_cache_with_the_files_is_enough(zoo):
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


def test_an_entry_of_the_index_without_licence_or_hash_is_flagged(zoo):
    loose = {**zoo.entry, "id": "loose", "licence": "unstated", "sha256": None, "pin": "none"}
    zoo.hub.store.add("org/loose", {"prior.yaml": yaml.safe_dump(loose).encode()})
    commit = zoo.commit_of("org/loose", "model")
    pointer = yaml.safe_dump({"repo": "org/loose", "revision": commit}).encode()
    zoo.hub.store.add("rela-zoo/registry", {"priors/loose.yaml": pointer}, kind="dataset")
    with pytest.warns(UserWarning, match="not pinned by hash and commit and it states no licence"):
        assert prior_spec("loose").id == "loose"
    zoo.hub.store.add("org/bare", {"prior.yaml": b"", "README.md": b"---\ntags: [rela-prior]\n---\n# x\n"})
    (bare,) = [one for one in search() if one.repo == "org/bare"]
    assert "licence unclear" in bare.flags


@pytest.mark.parametrize("moved", ["datasets--org--home-made-embeddings", "datasets--org--home-made-embeddings/blobs"])
def test_a_repository_kept_on_another_disk(zoo, tmp_path, moved):
    from huggingface_hub import constants

    first = pull(zoo.name)
    folder = Path(constants.HF_HUB_CACHE) / moved
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert pull(zoo.name) == first
    assert open_embeddings(first.embeddings, verify="full").shape == (ROWS, DIM)


def test_advice_leads_to_the_page_of_a_data_set(zoo):
    zoo.hub.fail("home-made-embeddings", status=403, code="GatedRepo")
    with pytest.raises(HubError, match="/datasets/org/home-made-embeddings, then"):
        pull(zoo.name)
