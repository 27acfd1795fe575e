"""The server answers the real client as the Hub would; else tests built on it would prove nothing."""

from __future__ import annotations

import hashlib
import os

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

CARD = b"---\nlicense: mit\ntags: [rela-zoo, rela-prior]\nlibrary_name: rela-zoo\n---\n# x\n"
BIG = os.urandom(200_000)


@pytest.fixture
def api(hub):
    return HfApi(token="hf_writer")


def _add(path, data):
    return CommitOperationAdd(path, data)


def test_a_commit_of_small_and_large_files_comes_back(api, hub):
    assert api.whoami()["name"] == "writer"
    assert str(api.create_repo("org/a", private=False)) == f"{hub.url}/org/a"
    api.create_repo("org/a", exist_ok=True)
    done = api.create_commit(
        "org/a", [_add("README.md", CARD), _add("w/model.safetensors", BIG)], commit_message="first"
    )
    for path, data in (("README.md", CARD), ("w/model.safetensors", BIG)):
        with open(hf_hub_download("org/a", path, revision=done.oid), "rb") as file:
            assert file.read() == data
    assert hub.calls("/cdn/"), "large files come from the other port"
    info = api.model_info("org/a", files_metadata=True)
    assert info.sha == done.oid
    assert info.card_data.license == "mit"
    entries = {one.path: one for one in api.list_repo_tree("org/a", recursive=True)}
    assert entries["w/model.safetensors"].lfs.sha256 == hashlib.sha256(BIG).hexdigest()
    assert "w" in entries
    assert [one.path for one in api.get_paths_info("org/a", ["README.md", "nope"])] == ["README.md"]


def test_data_sets_tags_refs_and_lists(api, hub):
    api.create_repo("org/d", repo_type="dataset")
    first = api.create_commit("org/d", [_add("README.md", CARD)], commit_message="c", repo_type="dataset")
    api.create_tag("org/d", tag="v1", repo_type="dataset")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("org/d", tag="v1", repo_type="dataset")
    second = api.create_commit("org/d", [_add("b", b"2")], commit_message="d", repo_type="dataset")
    refs = api.list_repo_refs("org/d", repo_type="dataset")
    assert {one.name: one.target_commit for one in (*refs.tags, *refs.branches)} == {
        "v1": first.oid,
        "main": second.oid,
    }
    assert api.dataset_info("org/d", revision="v1").sha == first.oid
    assert [one.id for one in api.list_datasets(filter="rela-zoo")] == ["org/d"]
    assert list(api.list_datasets(filter=["rela-zoo", "other"])) == []
    assert list(api.list_models(filter="rela-zoo")) == []
    path = snapshot_download("org/d", repo_type="dataset", revision=second.oid)
    assert sorted(os.listdir(path)) == [".gitattributes", "README.md", "b"]


def test_a_pull_request_leaves_main_alone(hub):
    hub.store.add("org/a", {"a": b"1"})
    api = HfApi(token="hf_outsider")
    with pytest.raises(HfHubHTTPError, match="403"):
        api.create_commit("org/a", [_add("a", b"2")], commit_message="c")
    done = api.create_commit("org/a", [_add("a", b"2")], commit_message="c", create_pr=True)
    assert done.pr_revision == "refs/pr/1"
    assert hub.store.repos["model", "org/a"].head.files["a"].data == b"1"
    with open(hf_hub_download("org/a", "a", revision="refs/pr/1"), "rb") as file:
        assert file.read() == b"2"


def test_a_stale_parent_is_refused(api, hub):
    first = hub.store.add("org/a", {"a": b"1"})
    hub.store.add("org/a", {"a": b"2"})
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("org/a", [_add("a", b"3")], commit_message="c", parent_commit=first)


def test_roles_and_what_is_missing(hub):
    hub.store.add("org/private", {"a": b"1"}, private=True)
    hub.store.add("org/gated", {"a": b"1"}, gated=True)
    with pytest.raises(RepositoryNotFoundError):
        HfApi().model_info("org/private")
    with pytest.raises(RepositoryNotFoundError):
        hf_hub_download("org/private", "a", token="hf_outsider")
    assert hf_hub_download("org/private", "a", token="hf_reader")
    for token in (None, "hf_outsider"):
        with pytest.raises(GatedRepoError):
            hf_hub_download("org/gated", "a", token=token)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download("org/private", "a", revision="0" * 40, token="hf_reader")
    with pytest.raises(EntryNotFoundError):
        hf_hub_download("org/private", "b", token="hf_reader")
    with pytest.raises(HfHubHTTPError, match="403"):
        HfApi(token="hf_reader").create_repo("org/new")
    with pytest.raises(HfHubHTTPError, match="401"):
        HfApi().create_repo("org/new")


def test_bad_cards_and_corrupt_uploads_are_refused(hub):
    import httpx2
    from huggingface_hub import ModelCard

    with pytest.raises(ValueError, match="license"):
        ModelCard("---\nlicense: [1]\n---\n").validate()
    ModelCard(CARD.decode()).validate()
    answer = httpx2.put(f"{hub.cdn_url}/upload/{'0' * 64}", content=b"other")
    assert answer.status_code == 400


def test_faults(hub):
    hub.store.add("org/a", {"model.safetensors": BIG, "small": b"0123456789"})
    flip = hub.fail("/cdn/", flip=5, times=1)
    with open(hf_hub_download("org/a", "model.safetensors"), "rb") as file:
        got = file.read()
    assert len(got) == len(BIG)
    assert [i for i in range(10) if got[i] != BIG[i]] == [5], "the client takes a flipped byte: pull must not"
    assert flip.hits == 1
    hub.faults.clear()
    hub.fail("/small", status=403)
    with pytest.raises(LocalEntryNotFoundError) as missing:
        hf_hub_download("org/a", "small")
    assert "403" in str(missing.value.__cause__), "the client hides the status one level down"
    hub.faults.clear()
    hub.fail("/cdn/", cut=1000, times=1)
    path = hf_hub_download("org/a", "model.safetensors", force_download=True)
    with open(path, "rb") as file:
        assert file.read() == BIG, "the client asks for the rest with Range"
    port = hub.url
    hub.stop()
    with pytest.raises(Exception, match="onnect"):
        HfApi().model_info("org/a")
    hub.start()
    assert hub.url == port
    assert HfApi().model_info("org/a").id == "org/a"
