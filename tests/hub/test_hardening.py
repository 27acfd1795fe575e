"""Faults of cache and connection that a hash of the file alone does not cover."""

from __future__ import annotations

import os
import time

import pytest

from rela_zoo import prior_spec, pull
from rela_zoo.embeddings import open_embeddings
from rela_zoo.errors import HubError
from rela_zoo.remote import translated

SHARD = "shard-00001.safetensors"


def test_a_link_out_of_the_cache_is_neither_read_nor_deleted(zoo, tmp_path):
    link = pull(zoo.name, "toy").embeddings / SHARD
    own = tmp_path / "own.safetensors"
    own.write_bytes(b"a file of the user's")
    link.unlink()
    link.symlink_to(own)
    with pytest.raises(HubError, match="leads out of the Hub's cache"):
        pull(zoo.name, "toy")
    assert own.read_bytes() == b"a file of the user's"


def test_damage_is_seen_though_size_and_time_are_as_before(zoo):
    path = (pull(zoo.name, "toy").embeddings / SHARD).resolve()
    pull(zoo.name, "toy")
    state, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    open_embeddings(pull(zoo.name, "toy").embeddings, verify="full")


def test_damage_without_a_network_is_an_error_of_ours_and_mended_later(zoo):
    path = (pull(zoo.name, "toy").embeddings / SHARD).resolve()
    path.write_bytes(b"damaged")
    zoo.hub.stop()
    with pytest.raises(HubError):
        pull(zoo.name, "toy")
    zoo.hub.start()
    open_embeddings(pull(zoo.name, "toy").embeddings, verify="full")


def test_an_entry_that_is_changed_on_the_way_is_fetched_again(zoo):
    """Nothing vouches for the entry's own bytes but the Hub: one wrong digit in `mean` would change every row."""
    data = zoo.hub.store.repos["model", "org/home-made"].head.files["prior.yaml"].data
    at = data.index(b"std: 0.25") + len(b"std: 0.2")
    fault = zoo.hub.fail("/resolve/.*prior.yaml", method="GET", flip=at, times=1)
    assert prior_spec(zoo.name).preprocessing.std[0] == 0.25
    assert fault.hits == 1


def test_an_entry_that_stays_changed_is_refused(zoo):
    data = zoo.hub.store.repos["model", "org/home-made"].head.files["prior.yaml"].data
    zoo.hub.fail("/resolve/.*prior.yaml", method="GET", flip=data.index(b"std: 0.25") + 8)
    with pytest.raises(Exception, match="damaged or was replaced"):
        prior_spec(zoo.name)
    zoo.hub.faults.clear()
    assert prior_spec(zoo.name).id == "home-made"


def test_a_shard_longer_than_its_index_says_is_not_downloaded(zoo, tmp_path):
    repo = zoo.hub.store.repos["dataset", "org/home-made-embeddings"]
    commit = repo.commits[prior_spec(zoo.name).artefacts["toy"].embeddings.revision]
    blob = commit.files[f"toy/{SHARD}"]
    commit.files[f"toy/{SHARD}"] = type(blob)(blob.data + bytes(100_000), blob.large)
    huge = commit.files[f"toy/{SHARD}"].sha256
    zoo.hub.fail(f"/cdn/{huge}", chunk_delay=10)  # of 4 kB: all of it would take minutes
    started = time.monotonic()
    with pytest.raises(HubError, match="too large"):
        pull(zoo.name, "toy")
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("text", ["Illegal header value b'Bearer hf_secret'", "token hf_secret is wrong"])
def test_a_quoted_token_is_blacked_out(text):
    with pytest.raises(HubError) as error, translated("x", repo="a/b"):
        raise OSError(text)
    assert "secret" not in str(error.value)
