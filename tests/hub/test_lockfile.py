"""Lock files of runs with several priors: every artefact counts, in whichever order."""

import pytest

from rela_zoo.errors import HubError
from rela_zoo.hub import Artefact, read_lock, write_lock

LOCK = "RELA_ZOO_LOCK"


def _rows(sha256):
    return Artefact("embeddings", None, None, None, "", sha256)


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.delenv(LOCK, raising=False)
    write_lock(tmp_path, [_rows("a" * 64), _rows("b" * 64)])
    assert len(read_lock(tmp_path / "rela.lock")) == 2
    monkeypatch.setenv(LOCK, str(tmp_path / "rela.lock"))


def test_the_same_in_another_order(lock):
    write_lock(None, [_rows("b" * 64), _rows("a" * 64)])


@pytest.mark.parametrize("digests", ["cb", "ac", "b", "a", "abc", "bb", ""])
def test_any_other_is_seen(lock, digests):
    with pytest.raises(HubError, match="other embeddings than the lock file says"):
        write_lock(None, [_rows(one * 64) for one in digests])
