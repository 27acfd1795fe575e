"""Entries on the Hub: of a repository at a commit, and the index: priors by name, embeddings by who made them."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io import paths
from rela_zoo._io.files import atomic_write
from rela_zoo._io.log import logger
from rela_zoo.errors import HubError, RegistryError
from rela_zoo.registry._read import HUB_ENTRY_FILE, MAX_BYTES, parse_yaml
from rela_zoo.registry._spec import NAME_PATTERN, Artefacts
from rela_zoo.remote import client, fetch_file, fetch_unsigned, is_offline, parse_address, with_retries

log = logger(__name__)

# `org/name[@commit]` of a data set repository with `index.json`, or, as in an older layout, with files
# priors/<id>.yaml; empty or `none`: no index.
INDEX_VARIABLE = "RELA_ZOO_INDEX"
DEFAULT_INDEX = "rela-zoo/registry"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = 10.0
INDEX_FILE = "index.json"
_MAX_INDEX_BYTES = 64 << 20
_MAX_POINTER_BYTES = 4096
# Commits without `index.json`, which need not be asked again.
_without: set[tuple[str, str]] = set()
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
    whole = _whole(repo, commit)
    if whole is not None:
        return whole.place(name, repo)
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
    if found is None:
        return {}
    repo, commit = found
    whole = _whole(repo, commit)
    if whole is not None:
        return _good(list(whole.priors), lambda name: whole.place(name, repo))
    return {} if is_offline() else _pointers(repo, commit)


def _pointers(repo: str, commit: str) -> dict[str, tuple[str, str]]:
    """Of an index with a file an entry."""
    files = with_retries(
        lambda: client().list_repo_files(repo, revision=commit, repo_type="dataset"), f"the index {repo} can't be read"
    )
    names = [file[len("priors/") : -len(".yaml")] for file in files if re.fullmatch(r"priors/[^/]+\.yaml", file)]
    return _good(names, lambda name: _pointer(repo, commit, name))


def _good(names: list[str], place: Callable[[str], tuple[str, str] | None]) -> dict[str, tuple[str, str]]:
    """The places of names; one malformed entry hides no other."""
    found = {}
    for name in sorted(name for name in names if re.fullmatch(NAME_PATTERN, name)):
        try:
            at = place(name)
        except (RegistryError, HubError) as error:
            log.warning("%s (%s)", error.what, error.got)
            continue
        if at is not None:
            found[name] = at
    return found


def index_embeddings(identity: str) -> dict[str, Artefacts]:
    """Published embeddings and transports of a prior → by data set; empty where the index has none, or there is none.

    Args:
        identity: digest of what changes the prior's numbers; whoever publishes them and by which name plays no part.

    Raises:
        HubError: the index is out of reach and was never seen on this machine.
    """
    found = _index()
    whole = _whole(*found) if found is not None else None
    return whole.of_identity(identity) if whole is not None else {}


def index_document(repo: str, commit: str) -> dict[str, Any]:
    """What `index.json` of an index holds at a commit, malformed entries too; of an older layout, what it would hold.

    Raises:
        HubError: out of reach.
        RegistryError: malformed as a whole.
    """
    whole = _fetch_whole(repo, commit)
    if whole is not None:
        return whole.raw
    priors = {name: {"repo": place[0], "revision": place[1]} for name, place in _pointers(repo, commit).items()}
    return {"format": 1, "priors": priors, "embeddings": {}}


class _Whole:
    """The parsed `index.json`: each entry is checked when it is asked for, so that one bad one hides no other.

    `priors` is name → {repo, revision}; `embeddings` is digest of an identity → data set → `Artefacts`.
    """

    def __init__(self, raw: dict[str, Any]) -> None:
        self.raw = raw
        self.priors: dict[str, Any] = raw["priors"] if isinstance(raw.get("priors"), dict) else {}
        self._embeddings: dict[str, Any] = raw["embeddings"] if isinstance(raw.get("embeddings"), dict) else {}

    def place(self, name: str, repo: str) -> tuple[str, str] | None:
        return _read_pointer(self.priors[name], name, repo) if name in self.priors else None

    def of_identity(self, identity: str) -> dict[str, Artefacts]:
        listed = self._embeddings.get(identity)
        found = {}
        for name, raw in listed.items() if isinstance(listed, dict) else ():
            try:
                found[name] = Artefacts.model_validate(raw)
            except ValueError as error:
                log.warning("the index has malformed embeddings of %r: %s", name, str(error).splitlines()[0])
        return found


def _whole(repo: str, commit: str) -> _Whole | None:
    """The index in one file; None for one of the old layout, a file an entry, and where it is out of reach."""
    with suppress(HubError):
        return _fetch_whole(repo, commit)
    return None


def _fetch_whole(repo: str, commit: str) -> _Whole | None:
    if (repo, commit) in _without:
        return None
    try:
        # It only leads to repositories; these have to be signed where that is asked for.
        path = fetch_unsigned(repo, INDEX_FILE, commit, "dataset", limit=_MAX_INDEX_BYTES)
        raw = json.loads(path.read_bytes())
    except HubError as error:
        if error.status != 404:
            raise
        _without.add((repo, commit))
        return None
    except (ValueError, RecursionError) as error:
        raw = error
    if not isinstance(raw, dict) or raw.get("format") != 1:
        raise RegistryError(
            f"the index {repo} is malformed", expected=f'{INDEX_FILE} with "format": 1', got=str(raw)[:200],
            fix=f"tell its owner; {INDEX_VARIABLE}=none goes without",
        )  # fmt: skip
    return _Whole(raw)


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
            _asked[api.endpoint, repo] = time.monotonic(), seen
            return repo, seen
        if error.status in (401, 404):
            return None  # nobody has made this index (the Hub says 401 for what does not exist)
        raise
    commit = str(info.sha)
    if seen != commit:
        try:
            _fetch_whole(repo, commit)  # what is remembered is on this machine, and serves without a network
        except (HubError, RegistryError):
            if seen is None:
                raise
            commit = seen
    _asked[api.endpoint, repo] = time.monotonic(), commit
    if seen != commit:
        with suppress(OSError):
            note.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(note, commit.encode("ascii"))
    return repo, commit


def _pointer(repo: str, commit: str, name: str) -> tuple[str, str]:
    """Of an index with a file an entry; one that was seen is remembered by itself, for the index's head moves on."""
    note = paths.artefact_cache() / "index" / f"{repo.replace('/', '--')}.priors" / name
    file = f"priors/{name}.yaml"
    try:
        path = fetch_unsigned(repo, file, commit, "dataset", limit=_MAX_POINTER_BYTES)
    except HubError as error:
        if error.status == 404:
            raise
        with suppress(OSError, UnicodeDecodeError, HubError):
            place = parse_address(note.read_text(encoding="ascii").strip())
            return place.repo, place.revision
        raise
    try:
        raw: Any = parse_yaml(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raw = error
    found = _read_pointer(raw, name, repo)
    with suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(note, f"hf://{found[0]}@{found[1]}".encode("ascii"))
    return found


def _read_pointer(raw: Any, name: str, repo: str) -> tuple[str, str]:
    if not isinstance(raw, dict) or set(raw) != {"repo", "revision"}:
        raise RegistryError(
            f"the index {repo} has a malformed entry for {name!r}", expected="repo and revision", got=str(raw)[:200],
            fix="tell the owner of the index; name the prior by its address hf://org/name@<commit>",
        )  # fmt: skip
    try:
        place = parse_address(f"hf://{raw['repo']}@{raw['revision']}")
    except HubError as error:
        raise RegistryError(
            f"the index {repo} has a malformed entry for {name!r}", expected=error.expected, got=error.got,
            fix="tell the owner of the index",
        ) from error  # fmt: skip
    return place.repo, place.revision
