"""`rela.lock`: exactly which artefacts a run used, written into its folder; `--locked` insists on the same."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError
from rela_zoo.hub._pull import Artefact

LOCK_FILE = "rela.lock"
LOCKED_VARIABLE = "RELA_ZOO_LOCKED"
_FORMAT = 1
_MAX_BYTES = 1 << 20


def is_locked() -> bool:
    """Whether the environment insists on the lock file."""
    return os.environ.get(LOCKED_VARIABLE, "") not in ("", "0")


def write_lock(folder: Path, artefacts: Sequence[Artefact]) -> None:
    """Write the lock file of a run; with `RELA_ZOO_LOCKED` set, insist that it is there and says the same.

    Raises:
        HubError: locked, and the run has no lock file or would use other artefacts.
    """
    path = folder / LOCK_FILE
    if is_locked():
        _check_lock(path, artefacts)
        return
    content = {"format": _FORMAT, "artefacts": [asdict(one) for one in artefacts]}
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(path, (json.dumps(content, indent=1) + "\n").encode())


def _check_lock(path: Path, artefacts: Sequence[Artefact]) -> None:
    """Compare with a lock file.

    Raises:
        HubError: no lock file, a damaged one, or other artefacts; says which differ.
    """
    if not path.is_file():
        raise HubError(
            "the run is to use locked artefacts, but has no lock file", expected=path, got="nothing there",
            fix="run once without --locked, or copy the lock file of the run to be repeated",
        )  # fmt: skip
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        raw = json.loads(path.read_bytes())
        if raw["format"] != _FORMAT:
            raise ValueError(f"format {raw['format']}")
        before = [Artefact(**one) for one in raw["artefacts"]]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise HubError(f"{path} is damaged", expected="a lock file", got=error, fix="delete it and run once") from error
    then, now = {one.kind: one for one in before}, {one.kind: one for one in artefacts}
    changed = sorted(kind for kind in {*then, *now} if then.get(kind) != now.get(kind))
    if changed:
        kind = changed[0]
        raise HubError(
            f"this run would use other {', '.join(changed)} than the lock file says",
            expected=_words(then.get(kind)),
            got=_words(now.get(kind)),
            fix="restore what the lock file names, or run without --locked to write a new one",
        )


def _words(artefact: Artefact | None) -> str:
    if artefact is None:
        return "none"
    where = f"{artefact.repo}@{artefact.revision}/{artefact.path}" if artefact.repo else "made on this machine"
    return f"{where}, sha256 {artefact.sha256}"
