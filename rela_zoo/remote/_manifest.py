"""`rela_zoo.json`: which bytes the files of a published repository are."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from rela_zoo.errors import HubError

MANIFEST = "rela_zoo.json"
MAX_MANIFEST_BYTES = 8 * 1024 * 1024
_MAX_FILES = 50_000
_FORMAT = 1
_SHA256 = re.compile(r"[0-9a-f]{64}")


def safe_path(text: Any) -> str:
    """A relative path inside a repository, checked.

    Raises:
        HubError: if it is absolute, climbs out, is no plain text, or means something else on another system.
    """
    good = isinstance(text, str) and 0 < len(text) <= 512 and text.isprintable()
    good = good and not any(character in text for character in '\\:*?"<>|')
    if not good or any(part in ("", ".", "..") for part in text.split("/")):
        raise HubError(
            "a file has a name that is not allowed",
            expected="a relative path of plain parts, such as transports/cifar10.safetensors",
            got=repr(text)[:200],
            fix="do not use this repository; tell its owner",
        )
    return str(text)


@dataclass(frozen=True)
class ManifestEntry:
    """sha256 (hex) and size in bytes of one file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """Path → record of every file of a published repository but its card and the manifest itself."""

    files: dict[str, ManifestEntry]

    def to_bytes(self) -> bytes:
        """JSON; equal manifests give equal bytes."""
        files = {path: {"sha256": one.sha256, "bytes": one.bytes} for path, one in sorted(self.files.items())}
        return (json.dumps({"format": _FORMAT, "files": files}, indent=1, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read and check a manifest.

        Raises:
            HubError: too large, not JSON, of an unknown format, or with paths, hashes or sizes that can't be.
        """

        def wrong(what: object) -> HubError:
            return HubError(
                f"{MANIFEST} is malformed", expected="a manifest as `rela-zoo publish` writes it", got=what,
                fix="choose another commit of the repository, or tell its owner",
            )  # fmt: skip

        if len(data) > MAX_MANIFEST_BYTES:
            raise wrong(f"more than {MAX_MANIFEST_BYTES} bytes")
        try:
            raw = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise wrong(f"{type(error).__name__}") from error
        if not isinstance(raw, dict) or raw.get("format") != _FORMAT or not isinstance(raw.get("files"), dict):
            raise wrong("another structure or format version")
        if len(raw["files"]) > _MAX_FILES:
            raise wrong(f"{len(raw['files'])} files")
        files = {}
        for path, record in raw["files"].items():
            if not isinstance(record, dict) or set(record) != {"sha256", "bytes"}:
                raise wrong(f"no sha256 and bytes for {path!r}"[:200])
            digest, size = record["sha256"], record["bytes"]
            if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or type(size) is not int or size < 0:
                raise wrong(f"no sha256 and bytes for {path!r}"[:200])
            files[safe_path(path)] = ManifestEntry(digest, size)
        return cls(files)

    def record(self, path: str, repo: str) -> ManifestEntry:
        """The record of one file.

        Raises:
            HubError: if the manifest does not have it.
        """
        if path not in self.files:
            near = ", ".join(sorted(self.files)[:5])
            raise HubError(f"{repo} does not vouch for {path}", expected=f"one of: {near}", got=path, fix="correct it")
        return self.files[path]
