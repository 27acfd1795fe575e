"""One writer a folder, across processes."""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from rela_zoo._io.log import logger
from rela_zoo.errors import EmbeddingsError

log = logger(__name__)

LOCK = ".lock"
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


# Between two messages to somebody who waits.
_REMINDER = 60.0


@contextmanager
def locked(
    folder: Path,
    *,
    wait: float | None = 0.0,
    what: str = "embeddings",
    name: str = LOCK,
    about: Path | None = None,
) -> Iterator[bool]:
    """Hold the folder for one writer; it is made if it is not there.

    Forked children, such as the workers of a loader, do not hold it: `filelock` closes it in them.

    Args:
        folder: to be written to.
        wait: seconds to wait for another writer; 0 for not at all, None for as long as it takes.
        what: is written there, for messages.
        name: of the lock's file.
        about: what is written, for messages; the folder by default.

    Yields:
        Whether it is really held: some file systems have no locks.

    Raises:
        EmbeddingsError: another process is writing into it, or it can't be made.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> folder = Path(mkdtemp())
        >>> with locked(folder):
        ...     (folder / LOCK).exists()
        True
        >>> (folder / LOCK).exists()
        False
    """
    path, place = folder / name, about or folder
    # A marker file in place of a lock would outlive a killed run: no fallback to one.
    lock = FileLock(path, timeout=0, fallback_to_soft=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        really = _acquire(lock, wait, f"{what} into {place}")
    except Timeout:
        waited = f" after {wait:g} s" if wait else ""
        raise EmbeddingsError(
            f"another process is writing {what} into {place}",
            expected="one writer at a time",
            got=f"a lock on {path}{waited}",
            fix="wait for it to finish, stop it, or give another folder",
        ) from None
    except OSError as error:
        raise EmbeddingsError(
            f"{place} can't be used for {what}", expected="a folder that can be written", got=error,
            fix="give another folder",
        ) from error  # fmt: skip
    try:
        yield really
    finally:
        # Removed while it is still held: whoever opened it in the meantime sees that the name is gone and tries again.
        with suppress(OSError):
            path.unlink()
        lock.release()


def _acquire(lock: BaseFileLock, wait: float | None, doing: str) -> bool:
    """Take a lock; says what is waited for, at once and every minute. False where there are no locks."""
    started = time.monotonic()
    try:
        try:
            lock.acquire()
            return True
        except Timeout:
            if wait == 0:
                raise
        log.info(f"rela_zoo: another process is writing {doing}; waiting for it")
        while True:
            left = _REMINDER if wait is None else min(_REMINDER, wait - (time.monotonic() - started))
            try:
                lock.acquire(timeout=max(left, 0.0))
                return True
            except Timeout:
                waited = time.monotonic() - started
                if wait is not None and waited >= wait:
                    raise
                log.info(f"rela_zoo: still waiting, for {waited / 60:.0f} min: another process is writing {doing}")
    except OSError as error:
        # Some network file systems have no locks: refusing to work there would help nobody.
        if isinstance(error, Timeout) or error.errno not in _NO_LOCKS:
            raise
        return False
