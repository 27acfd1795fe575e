"""Which commit a name means today, and what lies in a repository at a commit."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError
from rela_zoo.remote._cached import hub_cache
from rela_zoo.remote._client import client, with_retries
from rela_zoo.remote._fetch import Kind, is_offline
from rela_zoo.remote._mirror import mirror_commit, mirrored_names

_COMMIT = re.compile(r"[0-9a-f]{40}")
# A run looks a name up several times; the newest commit is asked for once.
_ASK_EVERY = 60.0
_asked: dict[tuple[str, str, str, str], tuple[float, str]] = {}


def is_commit(text: str | None) -> bool:
    """Whether a revision is a full commit, which can't move."""
    return text is not None and _COMMIT.fullmatch(text) is not None


def resolve_commit(repo: str, ref: str | None, kind: Kind) -> str:
    """The full commit that a branch, a tag or nothing at all means today.

    Without a network it is the one that it meant when it was last asked on this machine.

    Args:
        repo: `org/name`.
        ref: branch, tag or commit; None for the newest.
        kind: of the repository.

    Raises:
        HubError: no such repository or revision, or the Hub is out of reach and was never asked.
    """
    if ref is not None and is_commit(ref):
        return ref
    if (mirrored := mirror_commit(repo, ref, kind)) is not None:
        return mirrored
    note = paths.artefact_cache() / "commits" / f"{kind}s--{repo.replace('/', '--')}" / (ref or "main")
    seen = None
    with suppress(OSError, UnicodeDecodeError):
        text = note.read_text(encoding="ascii").strip()
        seen = text if is_commit(text) else None
    name = f"{repo}@{ref}" if ref else repo
    if is_offline():
        if seen is not None:
            return seen
        raise HubError(
            f"without a network it can't be seen which commit {name} is",
            expected="a full commit, 40 hexadecimal digits", got=name, fix="write the commit, or unset HF_HUB_OFFLINE",
        )  # fmt: skip
    api = client()
    asked = _asked.get((api.endpoint, kind, repo, ref or ""))
    if asked is not None and time.monotonic() - asked[0] < _ASK_EVERY:
        return asked[1]
    try:
        info = with_retries(
            lambda: api.repo_info(repo, revision=ref, repo_type=kind), f"it can't be seen which commit {name} is",
            repo=repo, revision=ref, kind=kind,
        )  # fmt: skip
        commit = str(info.sha)
    except HubError as error:
        if seen is None or error.status is not None:
            raise
        commit = seen
    _asked[api.endpoint, kind, repo, ref or ""] = time.monotonic(), commit
    if commit != seen:
        with suppress(OSError):  # a home that can't be written costs a request, nothing else
            note.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(note, commit.encode("ascii"))
    return commit


@dataclass(frozen=True)
class Contents:
    """What lies in a repository at a commit.

    Attributes:
        files: sha256 of each file that the Hub keeps by it (large ones), None of the others, by path.
        licence: that the card states; None where it states none, or was not asked.
    """

    files: dict[str, str | None] = field(default_factory=dict)
    licence: str | None = None


def contents(repo: str, commit: str, kind: Kind) -> Contents:
    """What lies in a repository at a full commit: of the mirror, the Hub, or, without a network, the Hub's cache.

    Raises:
        HubError: out of reach.
    """
    names = mirrored_names(repo, commit, kind)
    if names is None and is_offline():
        names = _cached_names(repo, commit, kind)
    if names is not None:
        return Contents({name: _announced(repo, commit, kind, name) for name in names})
    what = f"the files of {repo} at {commit[:12]} can't be listed"
    try:
        info: Any = with_retries(
            lambda: client().repo_info(repo, revision=commit, repo_type=kind, files_metadata=True), what,
            repo=repo, revision=commit, kind=kind,
        )  # fmt: skip
    except HubError as error:
        names = _cached_names(repo, commit, kind) if error.status is None else None
        if not names:
            raise
        return Contents({name: _announced(repo, commit, kind, name) for name in names})
    files = {one.rfilename: getattr(one.lfs, "sha256", None) for one in info.siblings or []}
    card = info.card_data
    stated = card.get("license") if card is not None else None
    return Contents(files, stated if isinstance(stated, str) else None)


def _snapshot(repo: str, commit: str, kind: Kind) -> str:
    return os.path.join(hub_cache(), f"{kind}s--{repo.replace('/', '--')}", "snapshots", commit)


def _cached_names(repo: str, commit: str, kind: Kind) -> list[str]:
    root = _snapshot(repo, commit, kind)
    found = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    return sorted(os.path.relpath(one, root).replace(os.sep, "/") for one in found)


def _announced(repo: str, commit: str, kind: Kind, name: str) -> str | None:
    """The sha256 that the Hub announced of a file in its cache: it is the name of what the link leads to."""
    try:
        blob = os.path.basename(os.readlink(os.path.join(_snapshot(repo, commit, kind), name)))
    except OSError:
        return None
    return blob if re.fullmatch(r"[0-9a-f]{64}", blob) else None
