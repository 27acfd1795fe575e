"""The layout of the Hub in a plain folder, a shared file system or any fsspec address: `RELA_ZOO_MIRROR`.

`models/org/name/<commit>/…` and `datasets/org/name/<commit>/…` hold the files of a repository at a commit, as
`rela-zoo publish --to DIR` writes them, or `hf download org/name --revision COMMIT --local-dir …`. A copy is `cp -r`.
What is read is checked by the same hashes as from the Hub, and what the mirror lacks comes from there.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_path
from rela_zoo.errors import HubError

MIRROR_VARIABLE = "RELA_ZOO_MIRROR"


def mirror_address() -> str | None:
    """What `RELA_ZOO_MIRROR` says: a folder, or an address such as `s3://bucket/zoo`."""
    return os.environ.get(MIRROR_VARIABLE, "").strip() or None


def mirrored_path(repo: str, path: str, revision: str, kind: str) -> str:
    """Where a file lies in a mirror."""
    return f"{kind}s/{repo}/{revision}/{path}"


def mirrored_file(
    repo: str, path: str, revision: str, kind: str, *, limit: int | None = None, download: bool = True
) -> Path | None:
    """A file of the mirror, on this machine; None if it has none. Not checked in any way.

    In a folder it is read where it lies. From anywhere else it is copied once, to a folder of this package.

    Args:
        repo, path, revision, kind: as for `fetch_unsigned`.
        limit: largest size in bytes that is copied.
        download: whether anything but this machine may be asked.

    Raises:
        HubError: the mirror can't be read, or the file is too large.
    """
    where, address = mirrored_path(repo, path, revision, kind), mirror_address()
    folder = _folder(address)
    if folder is not None and (folder / where).is_file():
        return folder / where
    kept = paths.artefact_cache() / "mirrored" / where
    if kept.is_file():
        return kept
    if address is None or folder is not None or not download:
        return None
    return _copy(address, where, kept, limit)


def mirrored_names(repo: str, revision: str, kind: str) -> list[str] | None:
    """The files of a repository at a commit in a mirror that is a folder; None if it has none of it."""
    folder = _folder(mirror_address())
    root = None if folder is None else folder / mirrored_path(repo, "", revision, kind)
    if root is None or not root.is_dir():
        return None
    return sorted(one.relative_to(root).as_posix() for one in root.rglob("*") if one.is_file())


def mirror_commit(repo: str, ref: str | None, kind: str = "model") -> str | None:
    """The commit of a repository in a mirror that is a folder, by tag or the newest; None if it has none."""
    folder = _folder(mirror_address())
    if folder is None:
        return None
    at = folder / f"{kind}s" / repo / "refs"
    return read_reference(at / "main" if ref in (None, "main") else at / "tags" / str(ref))


def read_reference(path: Path) -> str | None:
    """The commit that a reference of a mirror names; None if it is none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if re.fullmatch(r"[0-9a-f]{40}", text) else None


def forget_copy(path: Path) -> bool:
    """Delete a copy that was found damaged; False for a file of a folder, which is somebody's own."""
    if (paths.artefact_cache() / "mirrored") not in path.parents:
        return False
    path.unlink(missing_ok=True)
    return True


def _folder(address: str | None) -> Path | None:
    """The mirror as a folder of this machine, if it is one."""
    if address is None:
        return None
    if "://" in address and not address.startswith("file://"):
        return None
    return Path(address.removeprefix("file://")).expanduser()


def _copy(address: str, where: str, kept: Path, limit: int | None) -> Path | None:
    what = f"{where} of the mirror {address.partition('?')[0]} can't be read"
    try:
        from fsspec.core import url_to_fs

        files: Any
        files, root = url_to_fs(address)
        source = f"{root.rstrip('/')}/{where}"
        if not files.isfile(source):
            return None
        size = files.size(source)
        if limit is not None and size is not None and size > limit:
            raise HubError(f"{where} is too large", expected=f"at most {limit} bytes", got=f"{size} bytes")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(kept) as temporary:
            files.get_file(source, str(temporary))
    except ImportError as error:
        protocol = address.partition("://")[0]
        raise HubError(
            what, expected=f"the package with which fsspec reads {protocol}://", got=error, fix="install it with pip"
        ) from error
    except (OSError, ValueError) as error:
        raise HubError(
            what, expected=f"an address that fsspec can read, or a folder, in {MIRROR_VARIABLE}",
            got=f"{type(error).__name__}: {error}", fix="correct the address, or check the network and your rights",
        ) from error  # fmt: skip
    return kept
