"""Files of the Hugging Face Hub: fetched at a commit, checked by hash, with errors that say what to do.

Knows repositories, commits, paths and hashes, and nothing of priors.
"""

from rela_zoo.remote._cached import cached_file
from rela_zoo.remote._client import client, translated, with_retries
from rela_zoo.remote._commits import Contents, contents, is_commit, resolve_commit
from rela_zoo.remote._fetch import Kind, RemoteFile, fetch_file, fetch_manifest, is_offline, parse_address
from rela_zoo.remote._manifest import MANIFEST, Manifest, ManifestEntry, safe_path
from rela_zoo.remote._mirror import MIRROR_VARIABLE, mirror_address, mirror_commit, mirrored_path, read_reference

__all__ = [
    "MANIFEST",
    "MIRROR_VARIABLE",
    "Contents",
    "Kind",
    "Manifest",
    "ManifestEntry",
    "RemoteFile",
    "cached_file",
    "client",
    "contents",
    "fetch_file",
    "fetch_manifest",
    "is_commit",
    "is_offline",
    "mirror_address",
    "mirror_commit",
    "mirrored_path",
    "parse_address",
    "read_reference",
    "resolve_commit",
    "safe_path",
    "translated",
    "with_retries",
]
