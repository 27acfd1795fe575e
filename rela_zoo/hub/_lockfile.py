"""`rela.lock`: exactly which artefacts a run used, written into its folder; `--locked` and `--lock` insist on it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError
from rela_zoo.hub._pull import Artefact
from rela_zoo.registry import at_revision, moves

LOCK_FILE = "rela.lock"
# The first insists on the lock file in the run's own folder; the second on a file anywhere, for a run whose folder is
# new each time.
LOCKED_VARIABLE = "RELA_ZOO_LOCKED"
LOCK_VARIABLE = "RELA_ZOO_LOCK"
_FORMAT = 1
_MAX_BYTES = 1 << 20


def is_locked() -> bool:
    """Whether the environment insists on the lock file of the run's folder."""
    return os.environ.get(LOCKED_VARIABLE, "") not in ("", "0")


def given_lock() -> Path | None:
    """The lock file that the environment names, wherever the run's folder is."""
    named = os.environ.get(LOCK_VARIABLE, "")
    return Path(named).expanduser() if named else None


def write_lock(folder: Path | None, artefacts: Sequence[Artefact]) -> None:
    """Compare with the lock file that was named, or with that of the run's folder if that is asked for; write its own.

    Args:
        folder: of the run; None for one without.
        artefacts: that it uses.

    Raises:
        HubError: the lock file is missing or damaged, or the run would use other artefacts.
    """
    named = given_lock()
    if named is not None:
        _check_lock(named, artefacts)
    elif is_locked() and folder is not None:
        _check_lock(folder / LOCK_FILE, artefacts)
        return
    if folder is not None:
        content = {"format": _FORMAT, "artefacts": [asdict(one) for one in artefacts]}
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / LOCK_FILE, (json.dumps(content, indent=1) + "\n").encode())


def read_lock(path: Path) -> list[Artefact]:
    """What a lock file names.

    Raises:
        HubError: no such file, or a damaged one.
    """
    if not path.is_file():
        raise HubError(
            "the run is to use locked artefacts, but has no lock file", expected=path, got="nothing there",
            fix="run once without --locked, or name the lock file of the run to be repeated: --lock FILE",
        )  # fmt: skip
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        raw = json.loads(path.read_bytes())
        if raw["format"] != _FORMAT:
            raise ValueError(f"format {raw['format']}")
        return [Artefact(**one) for one in raw["artefacts"]]
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise HubError(f"{path} is damaged", expected="a lock file", got=error, fix="delete it and run once") from error


def as_locked(name: str) -> str:
    """A prior's name that says no commit, at the commit of the lock file that the environment names; else unchanged.

    Raises:
        HubError: no such lock file, or a damaged one.
    """
    named = given_lock()
    if named is None or not moves(name):
        return name
    held = [one for one in read_lock(named) if one.kind == "weights"]
    return at_revision(name, {one.repo: one.revision for one in held if one.repo and one.revision})


def _check_lock(path: Path, artefacts: Sequence[Artefact]) -> None:
    """Compare with a lock file, by sha256: where the same bytes are published, and at which commit, plays no part.

    Raises:
        HubError: no lock file, a damaged one, or other artefacts; says which differ.
    """
    then, now = read_lock(path), list(artefacts)
    # A run with several priors has several of a kind.
    kinds = sorted({one.kind for one in (*then, *now)})
    changed = [kind for kind in kinds if _bytes_of(then, kind) != _bytes_of(now, kind)]
    if changed:
        raise HubError(
            f"this run would use other {', '.join(changed)} than the lock file says",
            expected=_words(then, changed[0]),
            got=_words(now, changed[0]),
            fix="restore what the lock file names, or run without --locked and --lock to write a new one",
        )


def _bytes_of(artefacts: Sequence[Artefact], kind: str) -> list[str]:
    return sorted(str(one.sha256) for one in artefacts if one.kind == kind)


def _words(artefacts: Sequence[Artefact], kind: str) -> str:
    return "; ".join(_said(one) for one in artefacts if one.kind == kind) or "none"


def _said(artefact: Artefact) -> str:
    where = f"{artefact.repo}@{artefact.revision}/{artefact.path}" if artefact.repo else "made on this machine"
    return f"{where}, sha256 {artefact.sha256}"
