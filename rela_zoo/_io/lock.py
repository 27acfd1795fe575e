"""One writer a folder, across processes."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from rela_zoo.errors import EmbeddingsError

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def locked(folder: Path, *, wait: float | None = 0.0, what: str = "embeddings") -> Iterator[None]:
    """Hold the folder for one writer; it is made if it is not there.

    Forked children, such as the workers of a loader, do not hold it: `filelock` closes it in them.

    Args:
        folder: to be written to.
        wait: seconds to wait for another writer; 0 for not at all, None for as long as it takes.
        what: is written there, for the error.

    Raises:
        EmbeddingsError: another process is writing into it, or it can't be made.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> with locked(folder):
        ...     (folder / LOCK).exists()
        True
        >>> (folder / LOCK).exists()
        False
    """
    path = folder / LOCK
    # A marker file in place of a lock would outlive a killed run: no fallback to one.
    lock = FileLock(path, timeout=-1 if wait is None else wait, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _acquire(lock)
    except Timeout:
        waited = f" after {wait:g} s" if wait else ""
        raise EmbeddingsError(
            f"another process is writing {what} into {folder}",
            expected="one writer at a time",
            got=f"a lock on {path}{waited}",
            fix="wait for it to finish, stop it, or give another folder",
        ) from None
    except OSError as error:
        raise EmbeddingsError(
            f"{folder} can't be used for {what}", expected="a folder that can be written", got=error,
            fix="give another folder",
        ) from error  # fmt: skip
    try:
        yield
    finally:
        # Removed while it is still held: whoever opened it in the meantime sees that the name is gone and tries again.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _acquire(lock: BaseFileLock) -> None:
    try:
        lock.acquire()
    except OSError as error:
        # Some network file systems have no locks: refusing to work there would help nobody.
        if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
            raise
