"""The files of a repository as they should be, with the digests by which the Hub knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rela_zoo.remote import MANIFEST, SIGNATURE, Kind, Manifest, ManifestEntry, SigningKey, sign_manifest

CARD = "README.md"


@dataclass(frozen=True)
class Upload:
    """One file: its path in the repository, and its content as bytes or as a file on this machine."""

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
class DesiredRepo:
    """A repository as it should be.

    Attributes:
        repo: `org/name`.
        kind: `model` or `dataset`.
        files: all but card and manifest.
        card: text of README.md.
        kept: files that are there already and stay: path → record of the manifest in force.
        keys: by which the manifest is signed; without any there is no signature.
    """

    repo: str
    kind: Kind
    files: list[Upload]
    card: str
    kept: dict[str, ManifestEntry] = field(default_factory=dict)
    keys: Sequence[SigningKey] = ()

    def manifest(self) -> Manifest:
        """Of every file but the card and the manifest itself."""
        records = {one.path: ManifestEntry(one.digests[0], one.size) for one in self.files}
        return Manifest({**self.kept, **records})

    def all_files(self) -> list[Upload]:
        """With card, manifest and signature, in order of path."""
        manifest = self.manifest().to_bytes()
        whole = [*self.files, Upload(CARD, self.card.encode()), Upload(MANIFEST, manifest)]
        if self.keys:
            whole.append(Upload(SIGNATURE, sign_manifest(manifest, self.repo, self.kind, self.keys)))
        return sorted(whole, key=lambda one: one.path)


_SEAL = "<!-- written by rela-zoo, sha256 "


def seal_card(text: str) -> str:
    """A card with the digest of its text in the last line, so that a later run sees whether somebody edited it."""
    return f"{text}\n{_SEAL}{hashlib.sha256(text.encode()).hexdigest()} -->\n"


def is_edited(card: str) -> bool:
    """Whether a card is not as `seal_card` made it: a person's work, not to be overwritten."""
    body, found, rest = card.rpartition("\n" + _SEAL)
    return not found or rest.strip() != f"{hashlib.sha256(body.encode()).hexdigest()} -->"


def is_there(file: Upload, tree: Mapping[str, tuple[str, int]]) -> bool:
    """Whether a repository holds a file already, by its own digests.

    Args:
        file: by path and content.
        tree: path → digest (sha256 of a large file, git's name of a small one) and size.
    """
    digest, size = tree.get(file.path, ("", -1))
    return size == file.size and digest in file.digests
