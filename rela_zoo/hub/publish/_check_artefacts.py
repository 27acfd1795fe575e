"""Embeddings and transports to be published: only files of their formats, whole, and of this very prior."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rela_zoo._io.digest import file_sha256
from rela_zoo.embeddings import INDEX, EmbeddingTable, Index, open_embeddings, refuse_other_content
from rela_zoo.errors import EmbeddingsError, TransportError
from rela_zoo.hub.cards import DatasetFacts
from rela_zoo.hub.publish._prior_forms import LocalPrior
from rela_zoo.prior import UPSTREAM, check_same_prior, entry_identity
from rela_zoo.transport import TargetTransport, transport_kind


@dataclass(frozen=True)
class Embedded:
    """One data set's embeddings, ready to be sent.

    Attributes:
        name: of the data set, a folder of the repository.
        table: open.
        files: names in that folder.
        index_sha256: of `index.json`.
    """

    name: str
    table: EmbeddingTable
    files: tuple[str, ...]
    index_sha256: str


def check_embeddings(name: str, folder: Path, source: LocalPrior) -> Embedded:
    """Open an embedding folder and make sure that nothing but embeddings of this prior would be published.

    Every byte is read once.

    Raises:
        EmbeddingsError: another file in the folder, a damaged artefact, or rows of another prior.
    """
    check_name(name)
    table = open_embeddings(folder, verify="full")
    refuse_other_content(table)
    _check_prior(name, table.info, source)
    return Embedded(name, table, table.files, file_sha256(folder / INDEX))


def check_name(name: str) -> None:
    """A data set's name is a folder's name.

    Raises:
        EmbeddingsError: it is not.
    """
    safe = name.replace("-", "").replace("_", "").replace(".", "")
    if not (safe.isascii() and safe.isalnum() and name[:1].isalnum() and len(name) <= 96):
        raise EmbeddingsError(
            f"{name!r} can't name a data set", expected="letters, digits, '.', '-', '_', beginning with a letter",
            fix="--embeddings NAME=FOLDER with another name",
        )  # fmt: skip


def _check_prior(name: str, info: Index, source: LocalPrior) -> None:
    """The rows were made by these weights, at this layer, width and preprocessing; each must be known."""
    unknown = {"preprocessing_digest": "unknown", **({"weights_sha256": "unknown"} if source.digests else {})}
    check_same_prior(
        _identity(source, info.preprocessing, str(info.prior.get("weights_sha256", ""))),
        {**unknown, **info.identity},
        f"the embeddings of {name!r} are not by the prior that is published with them",
        error=EmbeddingsError,
        fix="embed the data set with this very prior: `rela-zoo publish … --prepare DIR` writes an entry to give to "
        "`rela-zoo embed`",
    )


def _identity(source: LocalPrior, preprocessing: str, weights: str) -> dict[str, str | int]:
    """Of the prior that is published; of several digests of its weights the one that came, if it is among them."""
    found = entry_identity(source.spec, preprocessing)
    if source.digests:
        found["weights_sha256"] = weights if weights in source.digests else " or ".join(sorted(source.digests))
    return found


def dataset_facts(name: str, info: Index) -> DatasetFacts:
    """What the data-set card says about embeddings, from their index."""
    return DatasetFacts(
        name=name,
        rows=info.rows,
        dim=info.dim,
        dtype=info.dtype,
        bytes=sum(shard.bytes for shard in info.shards) + info.ids.bytes,
        digest=info.digest,
        preprocessing=info.preprocessing,
        skipped=len(info.skipped),
    )


def check_transport(name: str, path: Path, source: LocalPrior, table: EmbeddingTable | None) -> TargetTransport:
    """Read a target transport and make sure that it belongs to this prior, and to these embeddings.

    Raises:
        TransportError: damaged, of another kind, width or source.
    """
    check_name(name)
    if transport_kind(path) != "target":
        raise TransportError(
            f"{path} is a map between two priors", expected="a target transport of this prior's embeddings",
            fix="rela-zoo transport fit EMBEDDINGS --out FILE",
        )  # fmt: skip
    found = TargetTransport.load(path)
    theirs = {**found.stats.known, "dim": found.dim}
    check_same_prior(
        _identity(source, found.stats.preprocessing or UPSTREAM, str(theirs.get("weights_sha256", ""))),
        theirs,
        f"{path} is for another prior",
        error=TransportError,
    )
    if table is not None and found.stats.source_digest != table.digest:
        raise TransportError(
            f"{path} was not fitted on the embeddings of {name!r}", expected=f"digest {table.digest}",
            got=found.stats.source_digest, fix=f"rela-zoo transport fit {table.path} --out {path}",
        )  # fmt: skip
    if os.path.getsize(path) == 0 or path.is_symlink():
        raise TransportError(f"{path} is a link", expected="a file")
    return found


def parse_named(pairs: Iterable[str] | Mapping[str, str | os.PathLike[str]]) -> dict[str, Path]:
    """`NAME=PATH` of the command line → a mapping.

    Raises:
        EmbeddingsError: no name, or one twice.
    """
    if isinstance(pairs, Mapping):
        return {name: Path(path).expanduser() for name, path in pairs.items()}
    found: dict[str, Path] = {}
    for pair in pairs:
        name, equals, path = pair.partition("=")
        if not equals or not path or name in found:
            raise EmbeddingsError(
                "an artefact is given with the name of its data set, each once", expected="NAME=PATH", got=pair
            )
        found[name] = Path(path).expanduser()
    return found
