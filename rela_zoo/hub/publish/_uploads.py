"""The files of one repository, as they are to be, with the digests by which the Hub knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rela_zoo.remote import MANIFEST, FileRecord, Kind, Manifest

CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """One file to be there: its path in the repository, and its content as bytes or as a file on this machine."""

    path: str
    content: bytes | Path

    @cached_property
    def size(self) -> int:
        """Bytes."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @cached_property
    def digests(self) -> tuple[str, str]:
        """sha256 of the content, and git's name of a blob with it, hex; read once, in pieces."""
        sha256, blob = hashlib.sha256(), hashlib.sha1(b"blob %d\0" % self.size)
        if isinstance(self.content, bytes):
            sha256.update(self.content)
            blob.update(self.content)
        else:
            with self.content.open("rb") as file:
                while piece := file.read(4 << 20):
                    sha256.update(piece)
                    blob.update(piece)
        return sha256.hexdigest(), blob.hexdigest()


@dataclass
class Wanted:
    """A repository as it is to be.

    Attributes:
        repo: `org/name`.
        kind: `model` or `dataset`.
        files: to be there, but for card and manifest.
        card: text of README.md.
        kept: files that are there already and stay, by path: record of the manifest in force.
    """

    repo: str
    kind: Kind
    files: list[Upload]
    card: str
    kept: dict[str, FileRecord] = field(default_factory=dict)

    def manifest(self) -> Manifest:
        """Of every file but the card and the manifest itself."""
        records = {one.path: FileRecord(one.digests[0], one.size) for one in self.files}
        return Manifest({**self.kept, **records})

    def all_files(self) -> list[Upload]:
        """With card and manifest, in order of path."""
        whole = [
            *self.files,
            Upload(CARD, self.card.encode()),
            Upload(MANIFEST, self.manifest().to_bytes()),
        ]
        return sorted(whole, key=lambda one: one.path)


_SEAL = "<!-- written by rela-zoo, sha256 "


def sealed(text: str) -> str:
    """A card with the digest of its own text in its last line, so that a later run sees whether somebody edited it."""
    return f"{text}\n{_SEAL}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def edited(card: str) -> bool:
    """Whether a card on the Hub is not as `sealed` made it: a person's work, not to be overwritten."""
    body, found, rest = card.rpartition("\n" + _SEAL)
    return not found or rest.strip() != f"{hashlib.sha256(body.encode()).hexdigest()} -->"


def total_bytes(files: Iterable[Upload]) -> int:
    """Of all contents."""
    return sum(one.size for one in files)


def same(wanted: Mapping[str, Upload], there: Mapping[str, tuple[str, int]]) -> dict[str, bool]:
    """Which files are in a repository already, by its own digests (sha256 of a large file, git's name of a small one).

    Args:
        wanted: by path.
        there: path → digest and size, from the repository's tree.
    """
    found = {}
    for path, one in wanted.items():
        digest, size = there.get(path, ("", -1))
        found[path] = size == one.size and digest in one.digests
    return found
