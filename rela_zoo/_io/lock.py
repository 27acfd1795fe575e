"""One writer a folder, across processes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from rela_zoo.errors import EmbeddingsError

try:
    import fcntl
except ImportError:  # no advisory locks on this system: two runs at once are then the user's to avoid
    fcntl = None  # type: ignore[assignment]

LOCK = ".lock"
_held: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one writer; it is made if it is not there.

    Raises:
        EmbeddingsError: another process is writing into it, or it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(folder / LOCK)
    except BlockingIOError:
        raise EmbeddingsError(
            f"another process is writing embeddings into {folder}",
            expected="one writer at a time",
            got=f"a lock on {folder / LOCK}",
            fix="wait for it to finish, stop it, or give another folder",
        ) from None
    except OSError as error:
        raise EmbeddingsError(
            f"{folder} can't be used for embeddings", expected="a folder that can be written", got=error,
            fix="give another folder",
        ) from error  # fmt: skip
    _held.add(descriptor)
    _let_go_after_fork()
    try:
        yield
    finally:
        _held.discard(descriptor)
        # Removed while it is still held: whoever opened it in the meantime sees that the name is gone and tries again.
        (folder / LOCK).unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                _flock(descriptor)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the one before let go of this file and removed it: try the next


def _flock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network file systems have no locks: refusing to work there would help nobody.
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            raise


@cache
def _let_go_after_fork() -> None:
    """Close the locks in every forked child: the workers of a killed run would else keep its folder locked."""

    def close() -> None:
        for descriptor in _held:
            with suppress(OSError):
                os.close(descriptor)
        _held.clear()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
