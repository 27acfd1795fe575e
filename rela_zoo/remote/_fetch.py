"""One file of the Hub at one full commit: from the cache without a request, else fetched; checked by sha256."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rela_zoo._io import paths
from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError
from rela_zoo.remote._client import with_retries
from rela_zoo.remote._counter import counter
from rela_zoo.remote._manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from rela_zoo.remote._mirror import MIRROR_VARIABLE, forget_copy, mirrored_file

Kind = Literal["model", "dataset"]

_REPO = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = rf"hf://({_REPO})@([0-9a-f]{{40}})((?:/[A-Za-z0-9_][\w.-]*)*)"


@dataclass(frozen=True)
class RemoteFile:
    """Where something lies on the Hub: repository, full commit, path inside (empty for the root)."""

    repo: str
    revision: str
    path: str


def parse_address(text: str) -> RemoteFile:
    """`hf://org/name@<40-hex commit>[/path]`.

    Raises:
        HubError: if it is not that; branches and tags can move, so they are no addresses.
    """
    match = re.fullmatch(_ADDRESS, text)
    if match is None or ".." in text:
        raise HubError(
            "this is no address on the Hub",
            expected="hf://org/name@<40 hexadecimal digits, lower case>/path",
            got=text[:200],
            fix="copy the full commit from the repository's history",
        )
    repo, revision, path = match.groups()
    return RemoteFile(repo, revision, path.lstrip("/"))


def is_offline() -> bool:
    """Whether the Hub's client was told not to use the network."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def fetch_unsigned(
    repo: str,
    path: str,
    revision: str | None,
    kind: Kind,
    *,
    sha256: str | None = None,
    limit: int | None = None,
    download: bool = True,
    on_bytes: Callable[[int], None] | None = None,
) -> Path:
    """A file in the Hub's cache on this machine, or of the mirror that `RELA_ZOO_MIRROR` names.

    No signature is asked for: for what is looked at and not used, what only leads elsewhere, and what is checked by a
    hash that was vouched for already. `fetch_file` is for everything else.

    What the cache has is used without any request. A file with a wrong hash is deleted and fetched once more: over
    plain HTTP the client checks sizes only.

    Args:
        repo: `org/name`.
        path: inside it, with slashes.
        revision: full commit; None takes the newest, which is asked for.
        kind: of the repository.
        sha256: of the file, hex; None checks it against the digest that the Hub announced when it was fetched.
        limit: largest size in bytes that is downloaded; a larger file is refused before its first byte.
        download: whether the network may be asked.
        on_bytes: told of bytes of a download as they come, perhaps in another thread, and again of those of a second
            try; of nothing where the file is here. The client then draws no bar of its own.

    Raises:
        HubError: out of reach, refused, too large, or with another hash even when fetched again.
    """
    if revision is not None:
        mirrored = _from_mirror(repo, path, revision, kind, sha256, limit, download)
        if mirrored is not None:
            return mirrored
    got = ""
    download = download and not is_offline()
    for _ in range(2 if download else 1):
        found = _download(repo, path, revision, kind, limit, download, on_bytes)
        if found.is_symlink() and not _in_cache(found):
            raise HubError(
                f"{found} is a link that leads out of the Hub's cache",
                expected=f"a file below {_cache_root()}",
                got=str(found.resolve()),
                fix="delete the link",
            )
        if limit is not None and found.stat().st_size > limit:
            raise _too_large(repo, path, found.stat().st_size, limit)
        if _intact(found) if sha256 is None else _matches(found, sha256):
            return found
        got = file_sha256(found)
        if _in_cache(found):
            with suppress(OSError):
                found.resolve().unlink()
    raise HubError(
        f"{path} of {repo} is damaged or was replaced",
        expected=f"sha256 {sha256}" if sha256 else "the bytes that the Hub announced",
        got=f"sha256 {got}; deleted from the cache if that can be written",
        fix="run the same command again with a network; if it stays so, the repository is not what its entry says",
    )


def _from_mirror(
    repo: str, path: str, revision: str, kind: Kind, sha256: str | None, limit: int | None, download: bool
) -> Path | None:
    """A file of the mirror, checked; None where it has none. A damaged copy of one is copied once more."""
    wanted = sha256 or _announced(repo, path, revision, kind, download)
    for _ in range(2):
        found = mirrored_file(repo, path, revision, kind, limit=limit, download=download)
        if found is None:
            return None
        if limit is not None and found.stat().st_size > limit:
            raise _too_large(repo, path, found.stat().st_size, limit)
        if wanted is None or _matches(found, wanted):
            return found
        got = file_sha256(found)
        if not forget_copy(found):
            break
    raise HubError(
        f"{path} of {repo} is damaged in the mirror, or was replaced", expected=f"sha256 {wanted}",
        got=f"sha256 {got} at {found}", fix=f"copy it there anew, or leave {MIRROR_VARIABLE} unset to ask the Hub",
    )  # fmt: skip


def _announced(repo: str, path: str, revision: str, kind: Kind, download: bool) -> str | None:
    """The hash of a file by the manifest beside it, which stands for the digest that the Hub announces.

    None for a repository without a manifest, and for files that it doesn't list, such as the card.
    """
    if path == MANIFEST:
        return None
    beside = mirrored_file(repo, MANIFEST, revision, kind, limit=MAX_MANIFEST_BYTES, download=download)
    record = None if beside is None else Manifest.parse(beside.read_bytes()).files.get(path)
    return None if record is None else record.sha256


def _download(
    repo: str,
    path: str,
    revision: str | None,
    kind: Kind,
    limit: int | None,
    download: bool,
    on_bytes: Callable[[int], None] | None,
) -> Path:
    """By as few requests as the client makes: one for the facts of a file, one for the file."""
    from huggingface_hub import hf_hub_download, try_to_load_from_cache

    what = f"{path} of {repo} at {revision[:12] if revision else 'its head'} can't be fetched"
    cached = try_to_load_from_cache(repo, path, revision=revision, repo_type=kind)
    if revision is not None and isinstance(cached, str) and Path(cached).exists():
        return Path(cached)
    bar = (
        None
        if limit is None and on_bytes is None
        else counter(on_bytes, limit, lambda size, most: _too_large(repo, path, size, most))
    )
    fetched = with_retries(
        lambda: hf_hub_download(
            repo, path, revision=revision, repo_type=kind, local_files_only=not download, tqdm_class=bar
        ),
        what, repo=repo, revision=revision, kind=kind,
        attempts=2,  # the client itself asks six times about a file, for half a minute, and goes on with a cut one
    )  # fmt: skip
    return Path(fetched)


def _too_large(repo: str, path: str, size: int, limit: int) -> HubError:
    return HubError(
        f"{path} of {repo} is too large", expected=f"at most {limit} bytes", got=f"{size} bytes",
        fix="do not use this repository; tell its owner",
    )  # fmt: skip


def _cache_root() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE).resolve()


def _in_cache(path: Path) -> bool:
    """Whether a file lies in the Hub's cache: no other is ever deleted, and no link to another is read."""
    root, real = _cache_root(), path.resolve().parents
    if root in real:
        return True
    # A repository's folder, or its blobs, may be a link to another disk, made by whoever owns the cache.
    return any(
        folder.name == "snapshots"
        and folder.parent.parent.resolve() == root
        and not {folder.parent.resolve(), (folder.parent / "blobs").resolve()}.isdisjoint(real)
        for folder in path.parents
    )


def _intact(path: Path) -> bool:
    """Whether a file is what the Hub announced: blobs are named by their sha256, or by git's digest of small files."""
    # The first link only: a blob may itself be a link into a store that names files otherwise.
    name = os.path.basename(os.readlink(path)) if path.is_symlink() else ""
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return _matches(path, name)
    if re.fullmatch(r"[0-9a-f]{40}", name):
        data = path.read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest() == name
    return True  # a cache without links, or a digest of another kind


def _matches(path: Path, sha256: str) -> bool:
    """Whether a file has this hash. A file found right is not hashed again while it is untouched.

    Untouched: same file, size and times; the time of change is one that no program can set back.
    """
    state = path.stat()
    stamp = f"{state.st_size} {state.st_mtime_ns} {state.st_ctime_ns} {state.st_ino} {state.st_dev}"
    note = paths.artefact_cache() / "verified" / sha256
    with suppress(OSError, UnicodeDecodeError):
        if note.read_text(encoding="ascii") == stamp:
            return True
    if file_sha256(path) != sha256:
        return False
    with suppress(OSError):  # a home that can't be written costs time, nothing else
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, stamp.encode("ascii"), lasting=False)
    return True
