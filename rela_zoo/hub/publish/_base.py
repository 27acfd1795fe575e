"""What publishing needs of the Hub's client and of the manifest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from huggingface_hub import HfApi, constants
from huggingface_hub import errors as hub_errors

from rela_zoo.errors import HubError

MANIFEST = "rela_zoo.json"
# The first base of the client's own error is that of its HTTP library's errors (no route, refused, timeout).
_HTTP_ERROR: Any = hub_errors.HfHubHTTPError.__bases__[0]


def client() -> HfApi:
    """The client, at the endpoint of the environment, with the user's own token."""
    return HfApi(endpoint=constants.ENDPOINT)


@contextmanager
def translated(what: str, *, repo: str | None = None, revision: str | None = None) -> Iterator[None]:
    """Turn the client's errors into this package's.

    Args:
        what: that is wanted, for the message.
        repo, revision: of it.

    Raises:
        HubError: in place of any error of the client.
    """
    try:
        yield
    except (
        hub_errors.HfHubHTTPError,
        hub_errors.EntryNotFoundError,
        hub_errors.HFValidationError,
        getattr(hub_errors, "RevisionResolutionError", OSError),
        _HTTP_ERROR,
        OSError,
    ) as error:
        where = f" of {repo}" + (f" at {revision}" if revision else "") if repo else ""
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise HubError(
            f"{what}{where} is out of reach",
            got=f"{type(error).__name__}: {first}",
            fix="check the network, the names, and that the token of `hf auth login` (or HF_TOKEN) may do this",
        ) from error


@dataclass(frozen=True)
class FileRecord:
    """One file of a version: sha256, hex, and size."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class Manifest:
    """The files of a version by path; README.md and .gitattributes are not among them."""

    files: dict[str, FileRecord]

    def to_bytes(self) -> bytes:
        """The bytes of `rela_zoo.json`; equal files give equal bytes."""
        listed = {path: {"bytes": one.bytes, "sha256": one.sha256} for path, one in self.files.items()}
        return (json.dumps({"files": listed, "format": 1}, indent=1, sort_keys=True) + "\n").encode("ascii")

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read what `to_bytes` wrote.

        Raises:
            HubError: malformed, or of another format.
        """
        try:
            raw = json.loads(data)
            if raw["format"] != 1:
                raise ValueError(f"format {raw['format']}")
            return cls(
                {str(path): FileRecord(str(one["sha256"]), int(one["bytes"])) for path, one in raw["files"].items()}
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise HubError(f"{MANIFEST} is malformed", expected="format 1", got=str(error)) from error
