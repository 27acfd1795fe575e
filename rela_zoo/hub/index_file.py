"""`index.json`, by which others find what was published: made of a folder of entries, edited one entry at a time.

`{"format": 1, "priors": {name: {repo, revision}}, "embeddings": {identity: {data set: artefacts}}}`. What is malformed
in it is named and left alone: it hides nothing else, and only its owner knows what was meant.
"""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import Any

import yaml

from rela_zoo._io.files import atomic_write
from rela_zoo.errors import HubError, RegistryError
from rela_zoo.registry import (
    NAME_PATTERN,
    SUFFIXES,
    Artefacts,
    packaged_priors,
    parse_yaml,
    prior_spec,
)
from rela_zoo.remote import parse_address

Document = dict[str, Any]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_MAX_BYTES = 64 << 20
_MAX_ENTRY_BYTES = 1 << 20


def empty() -> Document:
    """An index of nothing."""
    return {"format": 1, "priors": {}, "embeddings": {}}


def read(path: Path) -> Document:
    """The index in a file.

    Raises:
        RegistryError: missing, or malformed as a whole.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError("too large")
        raw = json.loads(path.read_bytes())
        if not isinstance(raw, dict) or raw.get("format") != 1:
            raise ValueError(f"format {raw.get('format') if isinstance(raw, dict) else 'unknown'}")
    except (OSError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"{path} is no index", expected='JSON with "format": 1, as `rela-zoo index` writes it', got=error,
            fix="correct the path, or make one: `rela-zoo index build FOLDER --file FILE`",
        ) from error  # fmt: skip
    return raw


def to_bytes(document: Document) -> bytes:
    """The file's bytes, the same for the same entries in any order."""
    return (json.dumps(document, indent=1, sort_keys=True) + "\n").encode()


def write(path: Path, document: Document) -> None:
    """Write the file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(path, to_bytes(document))


def problems(document: Document) -> list[str]:
    """What in an index nobody can read, entry by entry; empty for a good one."""
    parts = ("priors", "embeddings")
    found = [f"{part}: expected a mapping" for part in parts if not isinstance(document.get(part, {}), dict)]
    for name, raw in mapping(document, "priors").items():
        if wrong := _wrong_pointer(name, raw):
            found.append(f"priors.{name}: {wrong}")
    for identity, listed in mapping(document, "embeddings").items():
        if not _DIGEST.fullmatch(identity) or not isinstance(listed, dict):
            found.append(f"embeddings.{identity[:80]}: expected the sha256 of an identity, and a mapping by data set")
            continue
        for dataset, raw in listed.items():
            if wrong := _wrong_artefacts(raw):
                found.append(f"embeddings.{identity[:12]}….{dataset}: {wrong}")
    return found


def add_prior(document: Document, address: str) -> tuple[Document, str]:
    """The index with a published prior, in place of an earlier version of it; and the prior's name.

    Args:
        document: the index.
        address: `hf://org/name@<commit>`; its entry is read there.

    Raises:
        RegistryError: no entry there, or one whose name is taken by a packaged prior.
        HubError: out of reach.
    """
    if not address.startswith("hf://"):
        raise RegistryError(
            "an index leads to priors on the Hub", expected="hf://org/name@<40-hex commit>", got=address,
            fix="`rela-zoo publish` prints it",
        )  # fmt: skip
    place, spec = parse_address(address), prior_spec(address)
    changed = copy.deepcopy(document)
    changed["priors"] = {**mapping(document, "priors"), spec.id: {"repo": place.repo, "revision": place.revision}}
    return changed, spec.id


def add_listing(document: Document, listing: Any) -> tuple[Document, list[str]]:
    """The index with embeddings and transports of priors, told by identity; and what was added, in words.

    Args:
        document: the index.
        listing: identity → data set → artefacts, as `rela-zoo publish` prints it; or all that `publish --json` prints.

    Raises:
        RegistryError: malformed, or not by the prior that it is listed under.
        HubError: out of reach.
    """
    listing = _unwrapped(listing)
    wrong = problems({"embeddings": listing})
    if wrong or not listing:
        raise RegistryError(
            "this is no listing of embeddings", expected="identity → data set → artefacts",
            got="; ".join(wrong[:3]) or "nothing", fix="give what `rela-zoo publish` printed, unchanged",
        )  # fmt: skip
    changed, said = copy.deepcopy(document), []
    embeddings = changed["embeddings"] = mapping(changed, "embeddings")
    for identity, sets in sorted(listing.items()):
        held = embeddings.get(identity)
        kept = embeddings[identity] = held if isinstance(held, dict) else {}
        for dataset, raw in sorted(sets.items()):
            _check_identity(identity, dataset, Artefacts.model_validate(raw))
            kept[dataset] = raw
            said.append(f"{dataset} by {identity[:12]}…")
    return changed, said


def remove(document: Document, name: str, dataset: str | None = None) -> Document:
    """The index without an entry, a malformed one too.

    Args:
        document: the index.
        name: of a prior, or the digest of an identity.
        dataset: of what is listed under the identity; None removes all of it.

    Raises:
        RegistryError: there is no such entry.
    """
    changed = copy.deepcopy(document)
    priors, embeddings = mapping(changed, "priors"), mapping(changed, "embeddings")
    if dataset is None and name in priors:
        del priors[name]
    elif dataset is None and name in embeddings:
        del embeddings[name]
    elif dataset is not None and isinstance(embeddings.get(name), dict) and dataset in embeddings[name]:
        del embeddings[name][dataset]
        if not embeddings[name]:
            del embeddings[name]
    else:
        raise RegistryError(
            f"the index has no {f'{dataset!r} of ' if dataset else ''}{name!r}",
            expected=", ".join([*sorted(priors)[:10], *(f"{one[:12]}…" for one in sorted(embeddings)[:5])])
            or "an entry",
            fix="`rela-zoo index check` lists what is in it; an identity is written in full",
        )
    return changed


def build(folder: Path) -> tuple[Document, list[str]]:
    """An index of a folder's entries, and what was left out of it, and why.

    Args:
        folder: with a file `<name>.yaml` for each prior (`repo` and `revision`; in the folder, or in `priors/` as an
            older layout has it), and files `*.json` with listings of embeddings.

    Raises:
        RegistryError: no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise RegistryError(f"there is no folder {folder}", expected="a folder of entries", fix="correct the path")
    found, left = empty(), []
    places = [folder, folder / "priors", folder / "embeddings"]
    files = [path for place in places if place.is_dir() for path in sorted(place.iterdir())]
    for path in files:
        if path.name.startswith(".") or not path.is_file() or path.suffix not in (*SUFFIXES, ".json"):
            continue
        try:
            raw = _load(path)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            left.append(f"{path}: {' '.join(str(error).split())[:200]}")
            continue
        if path.suffix in SUFFIXES:
            wrong = _wrong_pointer(path.stem, raw) or ("a second file" if path.stem in found["priors"] else "")
            if not wrong:
                found["priors"][path.stem] = raw
        else:
            wrong = _merge(found["embeddings"], raw)
        if wrong:
            left.append(f"{path}: {wrong}")
    if not found["priors"] and not found["embeddings"] and not left:
        raise RegistryError(
            f"there are no entries in {folder}", expected="<name>.yaml with `repo` and `revision`, or listings *.json",
        )  # fmt: skip
    return found, left


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        data = file.read(_MAX_ENTRY_BYTES + 1)
    if len(data) > _MAX_ENTRY_BYTES:
        raise ValueError(f"expected at most {_MAX_ENTRY_BYTES} bytes")
    return parse_yaml(data.decode("utf-8")) if path.suffix in SUFFIXES else json.loads(data)


def _unwrapped(raw: Any) -> Any:
    """A listing, also where it is a part of all that `publish --json` prints."""
    return raw["listing"] if isinstance(raw, dict) and isinstance(raw.get("listing"), dict) else raw


def _merge(embeddings: Document, raw: Any) -> str:
    """Take a listing in; what is wrong with it."""
    raw = _unwrapped(raw)
    if not isinstance(raw, dict) or (wrong := problems({"embeddings": raw})):
        return "; ".join(wrong[:3]) if isinstance(raw, dict) else "expected identity → data set → artefacts"
    for identity, sets in raw.items():
        twice = sorted(set(sets) & set(embeddings.get(identity, {})))
        if twice:
            return f"{', '.join(twice)} of {identity[:12]}… is in another file already"
    for identity, sets in raw.items():
        embeddings.setdefault(identity, {}).update(sets)
    return ""


def mapping(document: Document, part: str) -> Document:
    """`priors` or `embeddings` of an index; empty where that part is malformed."""
    found = document.get(part)
    return found if isinstance(found, dict) else {}


def _wrong_pointer(name: str, raw: Any) -> str:
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > 96:
        return "not a name that a prior can have"
    if any(name in (one.id, *one.aliases) for one in packaged_priors()):
        return "the name of a prior that comes with rela-zoo: nobody would be led here"
    if not isinstance(raw, dict) or set(raw) != {"repo", "revision"}:
        return f"expected repo and revision, got {str(raw)[:120]}"
    try:
        place = parse_address(f"hf://{raw['repo']}@{raw['revision']}")
    except HubError as error:
        return f"expected {error.expected}, got {error.got}"
    return "expected no path in the repository" if place.path else ""


def _wrong_artefacts(raw: Any) -> str:
    try:
        found = Artefacts.model_validate(raw)
    except ValueError as error:
        return " ".join(str(error).split("\n")[:3])[:200]
    places = [one for one in (found.embeddings, found.transport, *found.to.values()) if one is not None]
    if not places:
        return "expected embeddings or a transport, got neither"
    return "" if all(one.sha256 for one in places) else "expected a sha256 of everything: nothing is pulled without it"


def _check_identity(identity: str, dataset: str, artefacts: Artefacts) -> None:
    """The rows must be by the prior under whose identity they are listed."""
    from rela_zoo.hub._rows import pull_ids
    from rela_zoo.prior import identity_digest

    if artefacts.embeddings is None:
        return
    own = identity_digest(pull_ids(artefacts.embeddings).info.identity)
    if own != identity:
        raise RegistryError(
            f"embeddings of {dataset!r} in {artefacts.embeddings.repo} are by another prior than they are listed under",
            expected=f"identity {identity}", got=own, fix="give what `rela-zoo publish` printed, unchanged",
        )  # fmt: skip
