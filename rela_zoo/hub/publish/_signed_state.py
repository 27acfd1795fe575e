"""Before something is signed: what is kept from the version in force must have been signed by whom is trusted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rela_zoo._io.digest import file_sha256
from rela_zoo.errors import HubError, SignatureError
from rela_zoo.hub.publish._repo_state import RepoState, fetch_text, read_state
from rela_zoo.hub.publish._to_folder import FolderPlace
from rela_zoo.registry import HUB_ENTRY_FILE
from rela_zoo.remote import (
    MANIFEST,
    SIGNATURE,
    Kind,
    SigningKey,
    check_signature,
    client,
    read_key,
    trusted_signers,
)


def check_before_signing(state: RepoState, keys: Sequence[SigningKey]) -> None:
    """Refuse to sign over a version that somebody else may have written: files and words of it would be kept.

    Args:
        state: the repository as it is.
        keys: by which the next version is signed; those of `RELA_ZOO_TRUSTED` will do for the one in force, too.

    Raises:
        SignatureError: it is not signed, not by one of them, or the entry is not what was signed.
    """
    if MANIFEST not in state.tree:
        return
    trusted = {key.identity for key in keys} | (trusted_signers() or frozenset())
    try:
        if SIGNATURE not in state.tree:
            raise SignatureError("it is not signed", got="no signature")
        signature, manifest = (fetch_text(state, name).read_bytes() for name in (SIGNATURE, MANIFEST))
        check_signature(manifest, signature, state.repo, state.kind, trusted)
        record = state.manifest.files.get(HUB_ENTRY_FILE) if state.manifest is not None else None
        if record is not None and file_sha256(fetch_text(state, HUB_ENTRY_FILE)) != record.sha256:
            raise SignatureError(f"{HUB_ENTRY_FILE} is not what was signed", got="other bytes")
    except HubError as error:
        raise SignatureError(
            f"{state.repo} holds a version that you have not signed, and signing would vouch for what is kept of it",
            expected="a version signed by this key, or by one of RELA_ZOO_TRUSTED", got=f"{error.what}: {error.got}",
            fix="--replace, with everything that is to be published given again: then nothing of it is kept",
        ) from error  # fmt: skip


def check_signers(
    repo: str, sign: Sequence[str | os.PathLike[str]], *, rows_only: bool, to: str | os.PathLike[str] | None = None
) -> None:
    """Refuse keys by which `publish` would not sign over what is there: before the work that is to be published.

    Args:
        repo: as for `publish`, whose repository of embeddings is the usual one.
        sign, to: as for `publish`.
        rows_only: whether it is a prior of the registry, of which embeddings alone are published.

    Raises:
        SignatureError: a key can't be read, or what would be kept was not signed by it.
        HubError: the Hub is out of reach.
    """
    keys = [read_key(path) for path in sign]
    repositories: list[tuple[str, Kind]] = [(repo, "dataset")]
    if not rows_only:
        repositories = [(repo, "model"), (f"{repo}-embeddings", "dataset")]
    for name, kind in repositories if keys else ():
        state = read_state(client(), name, kind) if to is None else FolderPlace(Path(to).expanduser()).state(name, kind)
        check_before_signing(state, keys)
