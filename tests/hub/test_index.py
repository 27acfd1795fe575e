"""The index: one file; a named prior that was seen stays known; one bad entry hides no other."""

from __future__ import annotations

import json

import pytest
import yaml
from huggingface_hub import constants

from rela_zoo.errors import UnknownPriorError
from rela_zoo.hub import search
from rela_zoo.registry import index_names, prior_spec


@pytest.fixture(autouse=True)
def _ask_each_time(monkeypatch):
    monkeypatch.setattr("rela_zoo.registry._hub_index._ASK_EVERY", -1.0)


def _pointer(zoo):
    repo, commit = zoo.name.removeprefix("hf://").split("@")
    return {"repo": repo, "revision": commit}


def _put(zoo, priors, **more):
    content = json.dumps({"format": 1, "priors": priors, **more}).encode()
    zoo.hub.store.add("rela-zoo/registry", {"index.json": content}, kind="dataset")


def test_one_file_whatever_the_number_of_entries(zoo):
    _put(zoo, {f"other-{i}": _pointer(zoo) for i in range(50)} | {"home-made": _pointer(zoo)})
    zoo.hub.requests.clear()
    assert len(index_names()) == 51
    asked = [path for _, path in zoo.hub.requests if "registry" in path]
    assert len(asked) <= 4, "which commit, whether index.json is there and of which size, and the file"


def test_a_malformed_entry_hides_no_other(zoo, said):
    _put(zoo, {"zz": {"repo": "x"}, "home-made": _pointer(zoo), "worse": {"repo": "../x", "revision": "main"}})
    assert set(index_names()) == {"home-made"}
    assert "malformed entry for 'zz'" in str(said)
    assert prior_spec("home-made").id == "home-made"


def test_bad_yaml_of_the_old_layout_hides_no_other(zoo, said):
    good = yaml.safe_dump(_pointer(zoo)).encode()
    files = {"priors/home-made.yaml": good, "priors/zz.yaml": b"repo: [unclosed", "priors/yy.yaml": b"\xff\xfe"}
    zoo.hub.store.add("rela-zoo/registry", files, kind="dataset")
    assert set(index_names()) == {"home-made"}
    assert [one.name for one in search()] == ["home-made"]
    assert "malformed entry for 'zz'" in str(said)


@pytest.mark.parametrize("layout", ["one file", "a file an entry"])
def test_a_prior_that_was_seen_is_known_for_good(zoo, layout, monkeypatch):
    pointer = _pointer(zoo)
    if layout == "one file":
        _put(zoo, {"home-made": pointer})
    else:
        files = {"priors/home-made.yaml": yaml.safe_dump(pointer).encode()}
        zoo.hub.store.add("rela-zoo/registry", files, kind="dataset")
    assert prior_spec("home-made").id == "home-made"
    # The index moves on; another name is looked up, and with it the new head is seen.
    zoo.hub.store.add("rela-zoo/registry", {"README.md": b"more"}, kind="dataset")
    with pytest.raises(UnknownPriorError):
        prior_spec("nobody-knows-this")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert prior_spec("home-made").id == "home-made"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    zoo.hub.stop()
    assert prior_spec("home-made").id == "home-made"


def test_an_index_that_became_malformed_does_not_take_away_what_was_seen(zoo):
    _put(zoo, {"home-made": _pointer(zoo)})
    assert prior_spec("home-made").id == "home-made"
    zoo.hub.store.add("rela-zoo/registry", {"index.json": b"{"}, kind="dataset")
    assert prior_spec("home-made").id == "home-made"
