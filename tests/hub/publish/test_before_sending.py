"""What is found out before anything is sent, what is tried again, and what a killed run leaves."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from rela_zoo.errors import HubError
from rela_zoo.hub.publish import _prepare
from rela_zoo.hub.publish._prepare import work_folder


@pytest.mark.parametrize(
    "path",
    ["/api/whoami-v2", "/api/repos/create", "/api/models/org/home-made/commit/", "/api/models/org/home-made/tag/"],
)
def test_a_busy_hub_is_asked_again(path: str, writer: Any, send: Any, quick: list[float]) -> None:
    fault = writer.fail(path, status=503, times=2)
    assert send().tag == "v1"
    assert fault.hits == 2
    assert quick == [1.0, 2.0]


def test_a_revoked_token_is_known_before_a_byte_is_read(
    hub: Any, send: Any, monkeypatch: pytest.MonkeyPatch, quick: list[float]
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_revoked")
    monkeypatch.setattr(_prepare.PriorChoice, "read", lambda *a: pytest.fail("read before the token was checked"))
    with pytest.raises(HubError, match="revoked, has expired, or is mistyped"):
        send()


def test_a_card_that_is_refused_leaves_nothing_behind(writer: Any, send: Any, quick: list[float]) -> None:
    writer.fail("/api/validate-yaml", status=400, message='"license" must be one of', times=1, after=1)
    with pytest.raises(HubError, match=r"(?s)card"):
        send()
    assert not writer.store.repos


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = (
        f"import os, signal, tempfile; tempfile.tempdir = {str(tmp_path)!r}\n"
        "from rela_zoo.hub.publish._prepare import work_folder\n"
        "with work_folder() as work:\n"
        "    (work / 'weights').write_bytes(b'x'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code], env=os.environ, check=False)
    (left,) = tmp_path.iterdir()
    with work_folder() as mine:
        assert not left.exists()
        with work_folder():
            assert mine.exists(), "that of a running process stays"
    assert not list(tmp_path.iterdir())
