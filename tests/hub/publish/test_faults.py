"""Whatever goes wrong while publishing: a clear error, no half version, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from rela_zoo.errors import HubError

MODEL, DATA = ("model", "org/home-made"), ("dataset", "org/home-made-embeddings")


def versions(hub: Any) -> dict[Any, int]:
    """Commits that hold a manifest, a repository."""
    return {
        key: sum("rela_zoo.json" in one.files for one in repo.commits.values()) for key, repo in hub.store.repos.items()
    }


def completes(hub: Any, send: Any) -> None:
    """The next run finishes, with one version of each repository."""
    done = send()
    assert done.tag == "v1"
    assert versions(hub) == {MODEL: 1, DATA: 1}
    assert hub.store.repos[MODEL].tags == {"v1": hub.store.repos[MODEL].head.oid}
    assert not send().changed


@pytest.mark.parametrize(
    ("token", "message"),
    [
        ("", "there is none"),
        ("hf_reader", "can only read"),
        ("hf_outsider", "can't write to org"),
        ("hf_wrong", "token"),
    ],
)
def test_a_token_that_can_t_write_is_refused_first(
    token: str, message: str, hub: Any, send: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(HubError, match=message) as refused:
        send()
    assert not hub.store.repos
    assert token == "" or token not in str(refused.value)


@pytest.mark.parametrize("large", [0, 3, 5], ids=["first file", "second repository", "last file"])
def test_a_quota_in_the_middle(large: int, writer: Any, send: Any) -> None:
    fault = writer.fail("/upload/", method="PUT", status=413, message="Storage quota exceeded", after=large)
    with pytest.raises(HubError, match="refused the upload") as stopped:
        send()
    assert fault.hits
    assert "run the same command again" in str(stopped.value)
    assert versions(writer).get(MODEL, 0) == 0
    writer.faults.clear()
    before = len(writer.calls("/upload/", "PUT"))
    completes(writer, send)
    assert len(writer.calls("/upload/", "PUT")) - before <= 6 - large, "what had arrived is not sent again"


def test_a_refused_commit(writer: Any, send: Any) -> None:
    writer.fail(r"/api/models/.*/commit/", status=403, message="You don't have the rights")
    with pytest.raises(HubError, match="no version was made"):
        send()
    assert versions(writer) == {MODEL: 0, DATA: 1}
    writer.faults.clear()
    completes(writer, send)


def test_a_server_that_goes_away(writer: Any, send: Any) -> None:
    send()
    writer.stop()
    with pytest.raises(HubError):
        send()
    writer.start()
    completes(writer, send)


def test_a_flip_on_the_way_back(writer: Any, home: Any, send: Any, caplog: pytest.LogCaptureFixture) -> None:
    fault = writer.fail("/cdn/", flip=100, times=1)
    done = send()
    assert fault.hits == 1
    assert "came back changed" in caplog.text
    assert done.tag == "v1", "fetched again, it was right"
    home.change_entry(training_data="other noise")
    writer.fail("/resolve/.*/prior.yaml", method="GET", flip=5, after=1)  # the first is the comparison before
    with pytest.raises(HubError, match=r"prior.yaml of .* is not what was sent"):
        send()
    assert set(writer.store.repos[MODEL].tags) == {"v1"}, "an unverified version is not tagged"
    writer.faults.clear()
    again = send()
    assert (again.changed, again.tag) == (False, "v2")


def test_the_hub_holds_something_else(writer: Any, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is swapped behind the commit is seen without downloading it."""
    from rela_zoo.hub.publish import _publisher

    real = _publisher.send

    def swap(api: Any, change: Any, *args: Any, **kwargs: Any) -> Any:
        made = real(api, change, *args, **kwargs)
        repo = writer.store.repos[change.wanted.kind, change.wanted.repo]
        commit = repo.commits[made[0]]
        path = "zoo/index.json" if change.wanted.kind == "dataset" else "prior.yaml"
        commit.files[path] = type(commit.files[path])(b"else", False)
        return made

    monkeypatch.setattr(_publisher, "send", swap)
    with pytest.raises(HubError, match=r"zoo/index.json of .* is not what was sent"):
        send(verify_by="digests")
    assert MODEL not in writer.store.repos


def test_somebody_publishes_in_between(writer: Any, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    send()
    from rela_zoo.hub.publish import _publisher

    real = _publisher.send

    def late(*args: Any, **kwargs: Any) -> Any:
        writer.store.add("org/home-made", {"elsewhere.txt": b"x"})
        return real(*args, **kwargs)

    monkeypatch.setattr(_publisher, "send", late)
    with pytest.raises(HubError, match="changed while this was being published"):
        send(notes="mine")
    monkeypatch.setattr(_publisher, "send", real)
    assert send(notes="mine").changed
    assert b"mine" in writer.store.repos[MODEL].head.files["README.md"].data
    assert "elsewhere.txt" in writer.store.repos[MODEL].head.files


def test_two_publishers_at_once(writer: Any, send: Any) -> None:
    outcomes: list[Any] = []

    def run(number: int) -> None:
        try:
            outcomes.append(send(notes=f"by {number}"))
        except HubError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    errors = [one for one in outcomes if isinstance(one, HubError)]
    assert all("run the same command again" in str(one) for one in errors), errors
    assert len(errors) < 2
    done = send(notes="by 0")
    assert done.tag in writer.store.repos[MODEL].tags
    assert set(writer.store.repos[MODEL].tags) <= {"v1", "v2"}
    assert versions(writer)[DATA] == 1
    assert not send(notes="by 0").changed


def test_a_tag_that_somebody_takes_meanwhile(writer: Any, send: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from rela_zoo.hub.publish import _publisher

    real = _publisher.put_tag

    def late(*args: Any, **kwargs: Any) -> Any:
        repo = writer.store.repos[MODEL]
        repo.tags["v1"] = next(iter(repo.commits))
        return real(*args, **kwargs)

    monkeypatch.setattr(_publisher, "put_tag", late)
    assert send().tag == "v2"


_MOMENTS = {
    "upload": "/upload/",
    "first commit": r"/api/datasets/.*/commit/",
    "between the two": r"/api/models/.*/preupload/",
    "second commit": r"/api/models/.*/commit/",
    "tag": "/tag/",
}


@pytest.mark.slow
def test_killed_in_the_middle(writer: Any, home: Any, send: Any) -> None:
    """SIGKILL while a request is on its way; the server may or may not carry that request out."""
    files = [str(home.entry), str(home.embeddings), str(home.transport)]
    driver = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kill_driver.py")), *files],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1,
    )  # fmt: skip
    assert driver.stdin is not None
    assert driver.stdout is not None
    try:
        for moment, path in _MOMENTS.items():
            writer.store.repos.clear()
            writer.store.large.clear()
            writer.requests.clear()
            writer.fail(path, slow=0.4)
            driver.stdin.write("go\n")
            child = int(driver.stdout.readline())
            until = time.monotonic() + 60
            while not writer.calls(path) and time.monotonic() < until:
                time.sleep(0.01)
            os.kill(child, signal.SIGKILL)
            assert driver.stdout.readline() == "killed\n", f"it ended before it could be killed: {moment}"
            time.sleep(0.6)  # what was on its way arrives
            for repo in writer.store.repos.values():
                for commit in repo.commits.values():
                    held = set(commit.files) - {".gitattributes"}
                    assert not held or {"rela_zoo.json", "README.md"} <= held, f"half a version: {moment}"
            writer.faults.clear()
            completes(writer, send)
    finally:
        driver.stdin.close()
        driver.wait(timeout=60)
