"""Fetch what was published of a prior: embeddings, transports, weights; at its commit, checked by hash."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rela_zoo._io.log import logger
from rela_zoo.errors import HubError, RelaZooError
from rela_zoo.hub._newest import at_commit
from rela_zoo.hub._rows import WORKERS, Rows, fetch_index, join, pinned, pull_rows
from rela_zoo.registry import PriorSpec, prior_spec
from rela_zoo.remote import (
    fetch_file,
    fetch_manifest,
    parse_address,
    signer_of,
)
from rela_zoo.remote import require_signature as _require_signature

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable
    from rela_zoo.registry import Artefacts, HubFolder

log = logger(__name__)

What = Literal["embeddings", "transport", "weights"]
Kind = Literal[What, "between"]


@dataclass(frozen=True)
class Artefact:
    """One thing that a run used: exactly which.

    Attributes:
        kind: `embeddings`, `transport`, `weights`, or `between` (a transport from one prior to another).
        repo: repository on the Hub; None for something made on this machine.
        repo_type: `model` or `dataset`; None for something made on this machine.
        revision: full commit there.
        path: folder or file in the repository; empty for its root.
        sha256: of the file; for embeddings of their index, which holds the hashes of all other files; for something
            made on this machine, its digest.
        signed_by: the public key by which its repository was found signed; None where no signature was asked for, and
            for weights that an entry vouches for by their hash.
    """

    kind: Kind
    repo: str | None
    repo_type: str | None
    revision: str | None
    path: str
    sha256: str
    signed_by: str | None = None


@dataclass(frozen=True)
class Pulled:
    """What `pull` fetched.

    Attributes:
        spec: the prior's entry.
        dataset: name of the data set, or None.
        embeddings: folder for `open_embeddings`; None if not asked for.
        transport: file for `TargetTransport.load`, or None.
        weights: weight file, or None.
        artefacts: what these are, for a lock file.
        bytes: size of all files.
        name: what a run writes as `rela.prior`: an address at its commit, or a name.
        shards: numbers of the shards that were fetched, where these are not all: the folder is opened by
            `open_embeddings(folder, partial=True)`. None for all.
    """

    spec: PriorSpec
    dataset: str | None
    embeddings: Path | None
    transport: Path | None
    weights: Path | None
    artefacts: tuple[Artefact, ...]
    bytes: int
    name: str = ""
    shards: tuple[int, ...] | None = None


def pull(
    prior: str | os.PathLike[str] | PriorSpec,
    dataset: str | None = None,
    *,
    what: Iterable[What] = ("embeddings", "transport"),
    shards: Sequence[int] | None = None,
    ids: Sequence[str] | None = None,
    workers: int = WORKERS,
    progress: bool | Literal["always"] = True,
    require_signature: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] | None = None,
) -> Pulled:
    """Fetch published artefacts of a prior into the Hub's ordinary cache, each at its commit and checked by sha256.

    What the cache has is neither fetched nor asked for again. Stopped at any moment and called again, it goes on with
    the files that are missing.

    Args:
        prior: a name, an address `hf://org/name@<commit>`, or an entry. Of `hf://org/name`, `hf://org/name@<tag>` and a
            repository's page the commit is asked for and said.
        dataset: whose embeddings and transport; may be left out where only one is published, or for weights alone.
        what: what to fetch, of `embeddings`, `transport`, `weights`; a transport that was not published is left out;
            where nothing is published but weights are asked for, only these are fetched.
        shards: only these shards of the embeddings, by number; None fetches all.
        ids: only the shards that hold these samples, such as those of ImageNet-100 out of ImageNet.
        workers: downloads at once.
        progress: as for `embed`.
        require_signature: public keys `rela-ed25519:…`, or files of them: every repository must be signed by one of
            them, or nothing of it is used. None asks for what `RELA_ZOO_TRUSTED` says.

    Raises:
        SignatureError: a repository is not signed by whom is trusted.
        HubError: nothing was published, or it is out of reach, refused, or damaged.
        EmbeddingsError: some of `ids` have no row there.
        WeightsError: the weights can't be had.
        RegistryError: no such prior.

    Examples:
        >>> from rela_zoo import open_embeddings, pull
        >>> pulled = pull(published, "photos")  # a prior's name, or hf://org/name@<40-hex commit>
        >>> open_embeddings(pulled.embeddings).shape
        (240, 64)
    """
    if shards is not None and ids is not None:
        raise ValueError("expected shards or ids, got both")
    with nullcontext() if require_signature is None else _require_signature(require_signature):
        return _pull(prior, dataset, set(what), Rows(shards, ids), workers, progress)


def _pull(
    prior: str | os.PathLike[str] | PriorSpec,
    dataset: str | None,
    wanted: set[What],
    rows: Rows,
    workers: int,
    progress: bool | Literal["always"],
) -> Pulled:
    address = prior.id if isinstance(prior, PriorSpec) else at_commit(os.fspath(prior))
    spec = prior if isinstance(prior, PriorSpec) else prior_spec(address)
    published_of = _of_rows(spec.artefacts)
    if wanted != {"weights"} and (not published_of or (dataset is not None and dataset not in published_of)):
        published_of = published_artefacts(spec)  # not asked for what the entry names itself
    if "weights" in wanted and dataset is None and not published_of:
        wanted = {"weights"}
    artefacts: list[Artefact] = []
    embeddings = transport = weights = shards = None
    size = 0
    name = dataset
    if wanted & {"embeddings", "transport"}:
        name, published = _published(spec, published_of, dataset)
        if "embeddings" in wanted and published.embeddings is not None:
            embeddings, size, shards = pull_rows(published.embeddings, rows, workers, progress)
            artefacts.append(_artefact("embeddings", published.embeddings, "dataset"))
        if "transport" in wanted and published.transport is not None:
            transport = _pull_file(published.transport)
            size += transport.stat().st_size
            artefacts.append(_artefact("transport", published.transport, "model"))
    if "weights" in wanted:
        from rela_zoo.prior import find_weights, verify_sha256

        found = find_weights(spec)
        digest = verify_sha256(spec, found.path)
        weights = found.path
        size += weights.stat().st_size
        artefacts.append(weights_artefact(spec, found.revision, digest))
    return Pulled(spec, name, embeddings, transport, weights, tuple(artefacts), size, address, shards)


def weights_artefact(spec: PriorSpec, revision: str | None, sha256: str) -> Artefact:
    """Weights as a lock file names them."""
    kind = "model" if spec.repo else None
    signer = signer_of(spec.repo, revision, kind)
    return Artefact("weights", spec.repo, kind, revision, spec.file or spec.id, sha256, signer)


def open_address(
    address: str, *, ids: Sequence[str] | None = None, progress: bool | Literal["always"] = True
) -> tuple[EmbeddingTable, Artefact]:
    """Embeddings by address: `hf://org/name@<commit>/folder` of a data set repository, vouched for by its manifest.

    Args:
        address: of the embeddings.
        ids: as for `pull`.
        progress: as for `pull`.

    Raises:
        HubError: as `pull`; or the repository has no manifest at this commit.
        EmbeddingsError: some of `ids` have no row there.
    """
    from rela_zoo.embeddings import open_embeddings

    whole = _vouched_for(address)
    folder, _, shards = pull_rows(whole, Rows(ids=ids), WORKERS, progress)
    return open_embeddings(folder, partial=shards is not None), _artefact("embeddings", whole, "dataset")


def pull_index(address: str) -> Path:
    """Only the index of embeddings, by address; the folder for `rela_zoo.embeddings.read_index`.

    Raises:
        HubError: as `open_address`.
    """
    return fetch_index(_vouched_for(address))


def _vouched_for(address: str) -> HubFolder:
    """Embeddings by address, with the hash of their index from the repository's manifest."""
    from rela_zoo.registry import HubFolder

    place = parse_address(address)
    manifest = fetch_manifest(place.repo, place.revision, "dataset")
    record = manifest.record(join(place.path, "index.json"), place.repo)
    return HubFolder(repo=place.repo, revision=place.revision, path=place.path, sha256=record.sha256)


def pull_transport_address(address: str) -> tuple[Path, Artefact]:
    """A transport by address: `hf://org/name@<commit>/file.safetensors` of a model repository, with its manifest.

    Raises:
        HubError: as `pull`; or the repository has no manifest at this commit.
    """
    from rela_zoo.registry import HubFolder

    place = parse_address(address)
    record = fetch_manifest(place.repo, place.revision, "model").record(place.path, place.repo)
    whole = HubFolder(repo=place.repo, revision=place.revision, path=place.path, sha256=record.sha256)
    return pull_placed(whole, "transport")


def pull_placed(place: HubFolder, kind: Literal["transport", "between"]) -> tuple[Path, Artefact]:
    """One file of a model repository, or of the one that its place names.

    Raises:
        HubError: as `pull`.
    """
    return _pull_file(place), _artefact(kind, place, "model")


def _published(spec: PriorSpec, found: Mapping[str, Artefacts], dataset: str | None) -> tuple[str, Artefacts]:
    names = sorted(found)
    if dataset is None and len(names) == 1:
        dataset = names[0]
    if dataset in found:
        assert dataset is not None
        return dataset, found[dataset]
    raise HubError(
        f"nothing is published of {spec.id!r}" + (f" for {dataset!r}" if dataset else ""),
        expected=f"one of: {', '.join(names)}" if names else "an entry with artefacts",
        got=dataset or ("no --dataset" if names else "an entry without any"),
        fix="name one of them with --dataset" if names else f"compute them: `rela-zoo embed {spec.id} DATA --out DIR`, "
        "and share them with `rela-zoo publish`",
    )  # fmt: skip


def published_artefacts(spec: PriorSpec, preprocessing: str = "upstream") -> dict[str, Artefacts]:
    """What is published of a prior, by data set: what its entry names, and what the index has of the same prior.

    The index is asked by the prior's identity: others may publish embeddings of a prior that is not theirs. Where it
    is out of reach, the entry's own are all.

    Args:
        spec: the entry.
        preprocessing: `upstream` or `rela-reference`.
    """
    from rela_zoo.prior import identity_digest, prior_identity
    from rela_zoo.registry import index_embeddings

    found = dict(spec.artefacts)
    identity = prior_identity(spec, preprocessing)
    if identity is None:
        return _of_rows(found)
    try:
        listed = index_embeddings(identity_digest(identity))
    except RelaZooError as error:
        log.info(f"rela_zoo: the index can't be asked for embeddings by {spec.id}: {error.what} ({error.got})")
        return found
    for name, one in sorted(listed.items()):
        known = found.get(name)
        if known is None:
            found[name] = one
        elif one.embeddings is not None and not _alike(known, one):
            found[f"{name} of {one.embeddings.repo}"] = one
    return _of_rows(found)


def _alike(one: Artefacts, other: Artefacts) -> bool:
    """Whether both name the same files, whatever they say of their sizes."""
    embeddings, transports = ([getattr(side, name) for side in (one, other)] for name in ("embeddings", "transport"))
    same = all((a is None) == (b is None) and (a is None or a.place == b.place) for a, b in (embeddings, transports))
    return same and one.to == other.to


def _of_rows(found: Mapping[str, Artefacts]) -> dict[str, Artefacts]:
    """Without data sets of which only transports to other priors are published."""
    return {name: one for name, one in found.items() if one.embeddings is not None or one.transport is not None}


def _artefact(kind: Kind, place: HubFolder, repo_type: str) -> Artefact:
    repo_type = place.kind or repo_type
    signer = signer_of(place.repo, place.revision, repo_type)
    return Artefact(kind, place.repo, repo_type, place.revision, place.path, pinned(place), signer)


def _pull_file(place: HubFolder) -> Path:
    return fetch_file(place.repo, place.path, place.revision, place.kind or "model", sha256=pinned(place))
