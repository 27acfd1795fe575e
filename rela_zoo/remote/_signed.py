"""What is fetched where signatures are asked for: only files in a manifest that somebody trusted has signed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from rela_zoo.errors import HubError, SignatureError
from rela_zoo.remote._fetch import Kind, fetch_unsigned
from rela_zoo.remote._manifest import MANIFEST, MAX_MANIFEST_BYTES, Manifest
from rela_zoo.remote._mirror import mirrored_file
from rela_zoo.remote._signature import MAX_SIGNATURE_BYTES, SIGNATURE, check_signature
from rela_zoo.remote._trust import trusted_signers

# What this process has found signed: a manifest is read and checked once, and what it says is kept in memory.
_known: dict[tuple[str, str, Kind, frozenset[str]], tuple[Manifest, str]] = {}
_lock = threading.Lock()


def fetch_file(
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
    """`fetch_unsigned`, and where signatures are asked for (`RELA_ZOO_TRUSTED`) none but a file that is signed for.

    Args:
        repo, path, revision, kind, sha256, limit, download, on_bytes: as for `fetch_unsigned`.

    Raises:
        SignatureError: the repository is not signed by whom is trusted, or its manifest says otherwise of this file;
            before the file is asked for.
        HubError: as `fetch_unsigned`.
    """
    trusted = trusted_signers()
    if trusted is not None:
        if revision is None:
            raise SignatureError(
                f"{path} of {repo} is asked for at whatever is newest there", expected="a full commit that is signed",
                got="none", fix=f"name one: hf://{repo}@<40 hexadecimal digits>",
            )  # fmt: skip
        manifest, signer = _signed(repo, revision, kind, trusted, download)
        record = manifest.record(path, f"{repo}, signed by {signer},")
        if sha256 not in (None, record.sha256):
            raise SignatureError(
                f"{path} of {repo} is not the file that is asked for", expected=f"sha256 {sha256}",
                got=f"sha256 {record.sha256}, signed by {signer}", fix="ask for what is signed, or tell its owner",
            )  # fmt: skip
        sha256 = record.sha256
    return fetch_unsigned(repo, path, revision, kind, sha256=sha256, limit=limit, download=download, on_bytes=on_bytes)


def fetch_manifest(repo: str, revision: str, kind: Kind) -> Manifest:
    """The manifest of a repository at a full commit, from the Hub's cache or the network.

    Raises:
        SignatureError: signatures are asked for, and it is not signed by whom is trusted.
        HubError: not there (so nothing was published at this commit), out of reach, or malformed.
    """
    trusted = trusted_signers()
    if trusted is not None:
        return _signed(repo, revision, kind, trusted, True)[0]
    path = fetch_unsigned(repo, MANIFEST, revision, kind, limit=MAX_MANIFEST_BYTES)
    return Manifest.parse(path.read_bytes())


def signer_of(repo: str | None, revision: str | None, kind: str | None) -> str | None:
    """The public key by which a repository was found signed when something was fetched from it; None: nobody asked."""
    trusted = trusted_signers()
    found = None if trusted is None else _known.get((repo, revision, kind, trusted))  # type: ignore[arg-type]
    return found[1] if found is not None else None


def _signed(repo: str, revision: str, kind: Kind, trusted: frozenset[str], download: bool) -> tuple[Manifest, str]:
    key = repo, revision, kind, trusted
    with _lock:
        if key not in _known:
            signature = _signature(repo, revision, kind, download)
            manifest = fetch_unsigned(
                repo, MANIFEST, revision, kind, limit=MAX_MANIFEST_BYTES, download=download
            ).read_bytes()
            signer = check_signature(manifest, signature, repo, kind, trusted)
            _known[key] = Manifest.parse(manifest), signer
        return _known[key]


def _signature(repo: str, revision: str, kind: Kind, download: bool) -> bytes:
    # A mirror that has the version without its signature says as much as the Hub would.
    mirrored = [
        mirrored_file(repo, name, revision, kind, limit=size, download=download)
        for name, size in ((MANIFEST, MAX_MANIFEST_BYTES), (SIGNATURE, MAX_SIGNATURE_BYTES))
    ]
    if mirrored[0] is not None and mirrored[1] is None:
        raise _unsigned(repo, revision, kind)
    try:
        path = fetch_unsigned(repo, SIGNATURE, revision, kind, limit=MAX_SIGNATURE_BYTES, download=download)
    except HubError as error:
        if error.status == 404:
            raise _unsigned(repo, revision, kind) from error
        raise SignatureError(
            f"it can't be seen who has signed {kind}s/{repo}: {error.what}", expected=error.expected, got=error.got,
            fix=error.fix, transient=error.transient, retry_after=error.retry_after, status=error.status,
        ) from error  # fmt: skip
    return path.read_bytes()


def _unsigned(repo: str, revision: str, kind: Kind) -> SignatureError:
    return SignatureError(
        f"{kind}s/{repo} is not signed at {revision[:12]}, and nothing of it is used",
        expected=f"{SIGNATURE} beside {MANIFEST}", got="none",
        fix="ask its owner to sign it (`rela-zoo publish … --sign KEYFILE`), or choose a commit that is signed",
    )  # fmt: skip
