"""With no `rela` in the configuration, a wrapped method is the original: losses bit for bit, keys, parameters."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.solo

METHODS = ["byol", "dino", "simclr", "swav"]


@pytest.fixture(scope="module")
def pairs(solo):
    jobs = [solo.job(method, "data.val_path=null") for method in METHODS]
    bare = solo.run(*jobs, **solo.without_plugin())
    wrapped = solo.run(*jobs)
    return dict(zip(METHODS, zip(bare, wrapped, strict=True), strict=True))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_changes(pairs, method):
    bare, wrapped = pairs[method]
    assert bare.ok, bare.error
    assert wrapped.ok, wrapped.error
    assert not bare.start["wrapped"]
    assert wrapped.start["wrapped"]
    assert wrapped.start["keys"] == bare.start["keys"]
    for key in ("loss", "indices", "pixels", "lr"):
        assert [b[key] for b in wrapped.batches] == [b[key] for b in bare.batches], key
    assert wrapped.end["parameters"] == bare.end["parameters"]
    assert wrapped.end["metrics"] == bare.end["metrics"]
    assert "rela" not in wrapped.output
