"""Entries on the Hub: of a repository at a commit, and the index that lists published ones by name."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError, RegistryError
from rela_zoo.registry._read import HUB_ENTRY_FILE, MAX_BYTES, parse_yaml
from rela_zoo.registry._spec import NAME_PATTERN
from rela_zoo.remote import client, fetch_file, is_offline, parse_address, with_retries

# `org/name[@commit]` of a data set repository with files priors/<id>.yaml; empty or `none`: no index.
INDEX_VARIABLE = "RELA_ZOO_INDEX"
DEFAULT_INDEX = "rela-zoo/registry"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 10.0
_MAX_POINTER_BYTES = 4096
# A run looks its prior up several times; the newest commit is asked for once.
_ASK_EVERY = 60.0
_asked: dict[tuple[str, str], tuple[float, str]] = {}


def hub_entry_file(repo: str, revision: str) -> Path:
    """The entry file of a repository at a full commit, from the Hub's cache or the network.

    Raises:
        HubError: out of reach, refused, or too large for an entry.
    """
    return fetch_file(repo, HUB_ENTRY_FILE, revision, "model", limit=MAX_BYTES)


def index_place(name: str) -> tuple[str, str] | None:
    """Repository and full commit that the index has for a name; None if it has none, or there is no index.

    Raises:
        HubError: the index is out of reach and was never seen on this machine.
        RegistryError: the index is malformed.
    """
    found = _index()
    if found is None or not re.fullmatch(NAME_PATTERN, name) or len(name) > 96:
        return None
    repo, commit = found
    try:
        return _pointer(repo, commit, name)
    except HubError as error:
        if error.status == 404 or is_offline():
            return None
        raise


def index_names() -> dict[str, tuple[str, str]]:
    """Every name of the index → repository and full commit; empty without an index.

    Raises:
        HubError: the index is out of reach.
    """
    found = _index()
    if found is None or is_offline():
        return {}
    repo, commit = found
    files = with_retries(
        lambda: client().list_repo_files(repo, revision=commit, repo_type="dataset"), f"the index {repo} can't be read"
    )
    names = [file[len("priors/") : -len(".yaml")] for file in files if re.fullmatch(r"priors/[^/]+\.yaml", file)]
    found_names = {}
    for name in sorted(name for name in names if re.fullmatch(NAME_PATTERN, name)):
        with suppress(RegistryError):  # one malformed pointer hides no other prior
            found_names[name] = _pointer(repo, commit, name)
    return found_names


def _index() -> tuple[str, str] | None:
    """Repository and commit of the index; the commit last seen where the network is away."""
    setting = os.environ.get(INDEX_VARIABLE, DEFAULT_INDEX).strip()
    if setting in ("", "none"):
        return None
    repo, _, commit = setting.partition("@")
    if commit:
        parse_address(f"hf://{repo}@{commit}")
        return repo, commit
    parse_address(f"hf://{repo}@{'0' * 40}")
    note = paths.artefact_cache() / "index" / repo.replace("/", "--")
    seen = None
    with suppress(OSError, UnicodeDecodeError):
        text = note.read_text(encoding="ascii").strip()
        seen = text if _COMMIT.fullmatch(text) else None
    if is_offline():
        return (repo, seen) if seen else None
    api = client()
    asked = _asked.get((api.endpoint, repo))
    if asked is not None and time.monotonic() - asked[0] < _ASK_EVERY:
        return repo, asked[1]
    try:
        info = with_retries(
            lambda: api.repo_info(repo, repo_type="dataset", timeout=_SECONDS), f"the index {repo} can't be asked"
        )
    except HubError as error:
        if seen is not None:
            return repo, seen
        if error.status in (401, 404):
            return None  # nobody has made this index (the Hub says 401 for what does not exist)
        raise
    commit = str(info.sha)
    _asked[api.endpoint, repo] = time.monotonic(), commit
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, commit.encode("ascii"))
    return repo, commit


def _pointer(repo: str, commit: str, name: str) -> tuple[str, str]:
    path = fetch_file(repo, f"priors/{name}.yaml", commit, "dataset", limit=_MAX_POINTER_BYTES)
    try:
        raw: Any = parse_yaml(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raw = error
    if not isinstance(raw, dict) or set(raw) != {"repo", "revision"}:
        raise RegistryError(
            f"the index {repo} has a malformed entry for {name!r}", expected="repo and revision", got=str(raw)[:200],
            fix="tell the owner of the index; name the prior by its address hf://org/name@<commit>",
        )  # fmt: skip
    place = parse_address(f"hf://{raw['repo']}@{raw['revision']}")
    return place.repo, place.revision
