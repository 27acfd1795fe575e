"""Files of the Hugging Face Hub: fetched at a commit, checked by hash, with errors that say what to do.

Knows repositories, commits, paths and hashes, and nothing of priors.
"""

from rela_zoo.remote._cached import cached_file
from rela_zoo.remote._client import client, translated, with_retries
from rela_zoo.remote._commits import Contents, contents, is_commit, resolve_commit
from rela_zoo.remote._fetch import Kind, RemoteFile, fetch_unsigned, is_offline, parse_address
from rela_zoo.remote._listed import list_once
from rela_zoo.remote._manifest import MANIFEST, Manifest, ManifestEntry, safe_path
from rela_zoo.remote._mirror import MIRROR_VARIABLE, mirror_address, mirror_commit, mirrored_path, read_reference
from rela_zoo.remote._signature import (
    SIGNATURE,
    SigningKey,
    check_signature,
    create_key,
    read_key,
    sign_manifest,
    signers,
)
from rela_zoo.remote._signed import fetch_file, fetch_manifest, signer_of
from rela_zoo.remote._trust import TRUSTED_VARIABLE, require_signature, trusted_signers

__all__ = [
    "MANIFEST",
    "MIRROR_VARIABLE",
    "SIGNATURE",
    "TRUSTED_VARIABLE",
    "Contents",
    "Kind",
    "Manifest",
    "ManifestEntry",
    "RemoteFile",
    "SigningKey",
    "cached_file",
    "check_signature",
    "client",
    "contents",
    "create_key",
    "fetch_file",
    "fetch_manifest",
    "fetch_unsigned",
    "is_commit",
    "is_offline",
    "list_once",
    "mirror_address",
    "mirror_commit",
    "mirrored_path",
    "parse_address",
    "read_key",
    "read_reference",
    "require_signature",
    "resolve_commit",
    "safe_path",
    "sign_manifest",
    "signer_of",
    "signers",
    "translated",
    "trusted_signers",
    "with_retries",
]
