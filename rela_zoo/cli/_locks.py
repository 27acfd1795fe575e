"""`--lock FILE`: a run that insists on the artefacts of another."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

LockFile = Annotated[
    Path | None,
    typer.Option(
        help="Insist on the artefacts, by sha256, that this rela.lock of another run names.", show_default=False
    ),
]


def insist_on(lock: Path | None) -> None:
    """Make this process and the others of its run compare what they use with a lock file.

    Raises:
        HubError: no such file, or a damaged one.
    """
    if lock is None:
        return
    from rela_zoo.hub import LOCK_VARIABLE, read_lock

    path = lock.expanduser().resolve()  # a run may change its folder
    read_lock(path)
    os.environ[LOCK_VARIABLE] = str(path)
