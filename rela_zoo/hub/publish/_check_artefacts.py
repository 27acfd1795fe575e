"""Embeddings and transports to be published: only files of their formats, whole, and of this very prior."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from rela_zoo._io.digest import file_sha256
from rela_zoo.embeddings import INDEX, EmbeddingTable, Index, open_embeddings, refuse_other_content
from rela_zoo.errors import EmbeddingsError, TransportError
from rela_zoo.hub.cards import DatasetFacts, ParquetFacts
from rela_zoo.hub.publish._prior_forms import LocalPrior
from rela_zoo.prior import UPSTREAM, check_same_prior, entry_identity
from rela_zoo.registry import NAME_PATTERN
from rela_zoo.transport import PriorTransport, TargetTransport, transport_kind

# By data set, with the file; those to other priors by data set and the name of the other.
Targets = dict[str, tuple[TargetTransport, Path]]
Betweens = dict[tuple[str, str], tuple[PriorTransport, Path]]


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


def dataset_facts(name: str, info: Index, parquet: ParquetFacts | None) -> DatasetFacts:
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
        parquet=parquet,
    )


def check_transport(name: str, path: Path, source: LocalPrior, table: EmbeddingTable | None) -> TargetTransport:
    """Read a target transport and make sure that it belongs to this prior, and to these embeddings.

    Raises:
        TransportError: damaged, of another kind, width or source.
    """
    found = TargetTransport.load(path)
    theirs = {**found.stats.known, "dim": found.dim}
    check_same_prior(
        _identity(source, found.stats.preprocessing or UPSTREAM, str(theirs.get("weights_sha256", ""))),
        theirs,
        f"{path} is for another prior",
        error=TransportError,
    )
    _check_fitted_on(name, path, found.stats.source_digest, table, f"rela-zoo transport fit {table and table.path}")
    return found


def check_between(name: str, path: Path, source: LocalPrior, table: EmbeddingTable | None) -> PriorTransport:
    """Read a transport from this prior to another, and make sure that it begins here and says where it leads.

    Raises:
        TransportError: damaged, from another prior, fitted on other rows, or to a prior whose weights it does not know.
    """
    found = PriorTransport.load(path)
    theirs = {**found.source.known, "dim": found.weight.shape[0]}
    check_same_prior(
        _identity(source, found.source.preprocessing or UPSTREAM, str(theirs.get("weights_sha256", ""))),
        theirs,
        f"{path} does not begin at the prior that is published",
        error=TransportError,
        fix="publish it with the prior that it begins at, or fit it the other way round",
    )
    known = found.target.known
    missing = [one for one in ("weights_sha256", "layer", "preprocessing_digest") if not known.get(one)]
    if missing:
        raise TransportError(
            f"{path} does not say which prior it leads to: {', '.join(missing)} missing",
            expected="a transport fitted on embeddings that `rela-zoo embed` made", got=found.target.prior,
            fix="embed with that prior, and fit it again: `rela-zoo transport fit`",
        )  # fmt: skip
    target = found.target.prior or ""
    if not re.fullmatch(NAME_PATTERN, target) or len(target) > 96:
        raise TransportError(f"{path} leads to a prior without a proper name", expected="an id", got=repr(target))
    if known.get("dim", found.weight.shape[1]) != found.weight.shape[1]:
        raise TransportError(
            f"{path} is not as wide as the prior that it leads to", expected=f"{known['dim']} features",
            got=found.weight.shape[1], fix="fit it again: `rela-zoo transport fit`",
        )  # fmt: skip
    again = f"rela-zoo transport fit {table and table.path} THE-OTHER"
    _check_fitted_on(name, path, found.source.digest, table, again)
    return found


def _check_fitted_on(name: str, path: Path, digest: str | None, table: EmbeddingTable | None, again: str) -> None:
    if table is not None and digest != table.digest:
        raise TransportError(
            f"{path} was not fitted on the embeddings of {name!r}", expected=f"digest {table.digest}", got=digest,
            fix=f"{again} --out {path}",
        )  # fmt: skip
    if os.path.getsize(path) == 0 or path.is_symlink():
        raise TransportError(f"{path} is a link", expected="a file")


def check_transports(
    pairs: Iterable[str] | Mapping[str, str | os.PathLike[str]], source: LocalPrior, embedded: Mapping[str, Embedded]
) -> tuple[Targets, Betweens]:
    """Read all transports that are given: target transports, and those to other priors.

    Args:
        pairs: data set and file; of each data set one target transport, and one to each other prior.
        source: the prior.
        embedded: embeddings that are given, by data set.

    Raises:
        TransportError: as `check_transport` and `check_between`; or two of the same.
    """
    targets: Targets = {}
    betweens: Betweens = {}
    for name, path in named_pairs(pairs):
        check_name(name)
        table = embedded[name].table if name in embedded else None
        if transport_kind(path) == "target":
            twice = name in targets
            targets[name] = check_transport(name, path, source, table), path
        else:
            found = check_between(name, path, source, table)
            key = name, str(found.target.prior)
            twice = key in betweens
            betweens[key] = found, path
        if twice:
            raise TransportError(
                f"{name!r} is given two transports of the same kind", expected="one, and one to each other prior",
                got=path, fix="leave one out",
            )  # fmt: skip
    return targets, betweens


def parse_named(pairs: Iterable[str] | Mapping[str, str | os.PathLike[str]]) -> dict[str, Path]:
    """`NAME=PATH` of the command line → a mapping.

    Raises:
        EmbeddingsError: no name, or one twice.
    """
    named = named_pairs(pairs)
    found = dict(named)
    if len(found) < len(named):
        raise EmbeddingsError(
            "an artefact is given with the name of its data set, each once", expected="NAME=PATH",
            got=", ".join(f"{name}={path}" for name, path in named),
        )  # fmt: skip
    return found


def named_pairs(pairs: Iterable[str] | Mapping[str, str | os.PathLike[str]]) -> list[tuple[str, Path]]:
    """`NAME=PATH` of the command line, or a mapping → pairs, in which a name may come twice.

    Raises:
        EmbeddingsError: without a name, or without a path.
    """
    if isinstance(pairs, Mapping):
        return [(name, Path(path).expanduser()) for name, path in pairs.items()]
    found = []
    for pair in pairs:
        name, _, path = pair.partition("=")
        if not path:
            raise EmbeddingsError("an artefact is given with the name of its data set", expected="NAME=PATH", got=pair)
        found.append((name, Path(path).expanduser()))
    return found
