"""What several processes need is made by one of them: jobs on one cache, ranks of a job, nodes with own disks."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from rela_zoo._io import ranks
from rela_zoo._io.lock import locked
from rela_zoo.errors import EmbeddingsError

# So long the other ranks leave the first one alone: it is the one whose messages are seen.
_HEAD_START = 1.0
# Where there are no locks: so long nothing may change beside the file that is waited for.
_PATIENCE = 600.0


def made_once(done: Path, make: Callable[[], object], *, what: str, lock: Path | None = None) -> bool:
    """Have an artefact made, unless it is there; while another process makes it, wait for that, and say so.

    Whoever comes first takes a lock and makes it. If that fails, or is killed, the next one tries: so no process waits
    for one that has ended. Where nodes don't share a disk, one process of each node makes it.

    Args:
        done: the file that is there once the artefact is whole.
        make: makes it; called at most once.
        what: it is, for messages.
        lock: the file to lock; by default one beside `done`.

    Returns:
        Whether it was made here and now.

    Raises:
        EmbeddingsError: the place can't be written to; or there are no locks, and the first process of the job makes
            no headway.
    """
    if done.exists():
        return False
    if not ranks.is_first():
        time.sleep(_HEAD_START)
    place = lock or done.with_name(f".{done.name}.lock")
    with locked(place.parent, wait=None, what=what, name=place.name, about=done) as really:
        if done.exists():
            return False
        if not really and not ranks.is_first():
            _wait_for(done, what)
            return False
        make()
        return True


def _wait_for(done: Path, what: str) -> None:
    seen, since = _state(done.parent), time.monotonic()
    while not done.exists():
        time.sleep(min(1.0, _PATIENCE / 10))
        now = _state(done.parent)
        if now != seen:
            seen, since = now, time.monotonic()
        if time.monotonic() - since > _PATIENCE:
            raise EmbeddingsError(
                f"{what} that another process of this job was to make are not there",
                expected=f"{done}",
                got=f"nothing new beside it for {_PATIENCE:g} s",
                fix="see the error of rank 0; let RELA_ZOO_HOME name a folder that all nodes share",
            )


def _state(folder: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of a folder's files."""
    found = []
    for path in folder.glob("*"):
        try:
            status = path.stat()
        except OSError:
            continue
        found.append((path.name, status.st_size, status.st_mtime_ns))
    return sorted(found)
