"""A mirror as the place to publish to: the same repositories, in a folder, without the Hub."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError
from rela_zoo.hub.publish._changes import RepoChange
from rela_zoo.hub.publish._repo_state import RepoState, read_texts
from rela_zoo.hub.publish._send import check_tag, next_version
from rela_zoo.remote import MANIFEST, Kind, Manifest, mirrored_path, read_reference

_MAIN, _TAGS = "refs/main", "refs/tags"


@dataclass(frozen=True)
class FolderPlace:
    """A folder with the layout of a mirror; beside the commits of a repository lie `refs/main` and `refs/tags/NAME`.

    A commit is named by its content: hashes of all its files.
    """

    root: Path

    def _repo(self, repo: str, kind: str) -> Path:
        return self.root / mirrored_path(repo, "", "", kind).rstrip("/")

    def state(self, repo: str, kind: Kind, revision: str | None = None) -> RepoState:
        """What it holds of a repository, as `read_state` says it of the Hub.

        Raises:
            HubError: it can't be read.
        """
        folder = self._repo(repo, kind)
        commit = revision or read_reference(folder / _MAIN)
        if commit is None:
            return RepoState(repo, kind)
        at = folder / commit
        found = RepoState(repo, kind, commit, folder=at)
        known = {}
        if (at / MANIFEST).is_file():
            known = Manifest.parse((at / MANIFEST).read_bytes()).files
        for path in sorted(at.rglob("*")):
            if path.is_file():
                name, size = path.relative_to(at).as_posix(), path.stat().st_size
                record = known.get(name)
                digest = record.sha256 if record is not None and record.bytes == size else file_sha256(path)
                found.tree[name] = digest, size
        if revision is None and (folder / _TAGS).is_dir():
            tags = {one.name: read_reference(one) for one in (folder / _TAGS).iterdir()}
            found.tags = {name: commit for name, commit in tags.items() if commit is not None}
        read_texts(found)
        return found

    def send(self, change: RepoChange) -> str:
        """Write a new commit and move `main` to it; files that stay are linked where the file system can.

        Returns:
            the commit, 40 hexadecimal digits.

        Raises:
            HubError: it can't be written, or what was written is not what was to be.
        """
        wanted, remote = change.wanted, change.remote
        folder = self._repo(wanted.repo, wanted.kind)
        sent = {one.path: one for one in change.send}
        stay = {path: one[0] for path, one in remote.tree.items() if path not in sent and path not in change.delete}
        content = {**stay, **{path: one.digests[0] for path, one in sent.items()}}
        commit = hashlib.sha1(json.dumps(content, sort_keys=True).encode(), usedforsecurity=False).hexdigest()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "refs").mkdir(exist_ok=True)
            with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as temporary:
                new = Path(temporary) / commit
                for path in stay:
                    assert remote.folder is not None  # there is something that stays
                    _link(remote.folder / path, _place(new, path))
                for path, one in sent.items():
                    target = _place(new, path)
                    if isinstance(one.content, bytes):
                        target.write_bytes(one.content)
                    else:
                        shutil.copyfile(one.content, target)
                    if file_sha256(target) != one.digests[0]:
                        raise HubError(
                            f"{path} is not what was to be written to {folder}", expected=f"sha256 {one.digests[0]}",
                            got="other bytes", fix="check the disk, and run the same command again",
                        )  # fmt: skip
                if not (folder / commit).exists():
                    new.rename(folder / commit)
            atomic_write(folder / _MAIN, commit.encode())
        except OSError as error:
            raise HubError(
                f"{folder} can't be written, and no version was made", expected="a folder with room and write access",
                got=error, fix="correct it, and run the same command again",
            ) from error  # fmt: skip
        return commit

    def tag(self, repo: str, kind: Kind, commit: str, tag: str | None, tags: dict[str, str]) -> str:
        """Name a commit; the next `vN` where no name is given.

        Raises:
            HubError: the name is of another commit.
        """
        check_tag(repo, tag, tags, commit)
        name = tag or next_version(tags)
        folder = self._repo(repo, kind) / _TAGS
        if "/" in name or name.startswith("."):
            raise HubError("this is no name of a version", expected="letters, digits, '.', '-', '_'", got=name)
        folder.mkdir(parents=True, exist_ok=True)
        atomic_write(folder / name, commit.encode())
        return name


def _place(folder: Path, path: str) -> Path:
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    return target


def _link(there: Path, here: Path) -> None:
    try:
        os.link(there, here)
    except OSError:  # another file system, or one without links
        shutil.copyfile(there, here)
