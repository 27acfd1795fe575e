"""Transports fitted by many processes, each over a share of the rows: moments add up."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from rela_zoo._io.lock import locked
from rela_zoo._io.log import logger
from rela_zoo.errors import TransportError
from rela_zoo.transport._moments import Moments, merge_moments
from rela_zoo.transport._pair_fit import FitMethod, check_method, fitted
from rela_zoo.transport._pair_gather import Gathered, gathered, share_of
from rela_zoo.transport._prior_transport import PriorTransport
from rela_zoo.transport._target_fit import fit_facts, rows_moments, transport_from_moments
from rela_zoo.transport._target_transport import TargetTransport
from rela_zoo.transport._transport_file import FORMAT_VERSION, read_metadata, read_tensors, write

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

log = logger(__name__)

_FORMAT = "rela-zoo-moments"
_Transport = TypeVar("_Transport", TargetTransport, PriorTransport)


def fit_transport_part(
    table: EmbeddingTable,
    out: str | os.PathLike[str],
    part: tuple[int, int],
    *,
    max_dim: int | None = None,
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> TargetTransport | None:
    """One of several parts of what `fit_transport` does, in processes or on machines that share a folder.

    Each part leaves the moments of its rows in a file beside `out`, `OUT.part-2-of-8`. Whoever sees that all of them
    are there adds them up in their order, so that the result does not depend on who that is, writes `out`, and removes
    them.
    A lost part is made by the same call again. The result is that of `fit_transport` up to rounding in float64.

    Args:
        table: the rows; the same for all parts.
        out: the transport to write.
        part: (i, n): the i-th of n, from 1, of the rows in their order.
        max_dim: as for `fit_transport`; the last part's counts.
        chunk: rows at once.
        device: where the sums are made; None takes CUDA if there is one.
        progress: as for `fit_transport`.

    Returns:
        The transport, written; None while parts are missing.

    Raises:
        TransportError: as for `fit_transport`; no such part; moments of another table beside `out`.

    Examples:
        >>> from rela_zoo import open_embeddings
        >>> from rela_zoo.transport import fit_transport_part
        >>> table = open_embeddings("embeddings")
        >>> [fit_transport_part(table, "by-parts.safetensors", (i, 3)) is None for i in (1, 3, 2)]
        [True, True, False]
    """
    path = _place(out)
    mine = share_of(len(table), part)
    pieces = table.iter_rows(chunk, start=mine.start, stop=mine.stop)
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")
    moments = rows_moments(pieces, device=where, total=mine.stop - mine.start, progress=progress)
    assert moments is not None  # a part has a row at least

    def reduce(pieces: list[_Piece]) -> TargetTransport:
        whole = pieces[0].moments("")
        for piece in pieces[1:]:
            whole = merge_moments(whole, piece.moments(""))
        return transport_from_moments(whole, max_dim, **fit_facts(table))

    return _shared(path, part, _Piece.of({"": moments}, table.digest), reduce)


def fit_prior_transport_part(
    source: EmbeddingTable,
    target: EmbeddingTable,
    out: str | os.PathLike[str],
    part: tuple[int, int],
    *,
    method: FitMethod = "ridge",
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> PriorTransport | None:
    """One of several parts of what `fit_prior_transport` does; else as `fit_transport_part`.

    Args:
        source: rows (N, D); the same for all parts.
        target: rows (M, E); the same for all parts.
        out: the transport to write.
        part: (i, n): the i-th of n, from 1, of the samples that both have, in the order of `source`.
        method: as for `fit_prior_transport`; the last part's counts.
        chunk: rows at once.
        device: where the sums are made; None takes CUDA if there is one.
        progress: as for `embed`.

    Returns:
        The transport, written; None while parts are missing. Weights and quality are those of one process up to
        rounding in float64.

    Raises:
        TransportError: as for `fit_prior_transport`; no such part; moments of other tables beside `out`.
        EmbeddingsError: the same sample ids for different pictures.

    Examples:
        >>> from rela_zoo import open_embeddings
        >>> from rela_zoo.transport import fit_prior_transport_part
        >>> table = open_embeddings("embeddings")
        >>> [fit_prior_transport_part(table, table, "pair.safetensors", (i, 3)) is None for i in (1, 3, 2)]
        [True, True, False]
    """
    check_method(method)
    path = _place(out)
    found = gathered(source, target, chunk, device, progress, share=part)
    own = {str(role): moments for role, moments in found.moments.items()}
    piece = _Piece.of(own, f"{source.digest} {target.digest}", x=found.x, y=found.y)

    def reduce(pieces: list[_Piece]) -> PriorTransport:
        whole, *others = (
            Gathered({int(role): one.moments(role) for role in one.rows}, one.tensors["x"], one.tensors["y"])
            for one in pieces
        )
        for one in others:
            whole = whole + one
        return fitted(whole, source, target, method)

    return _shared(path, part, piece, reduce)


def _place(out: str | os.PathLike[str]) -> Path:
    path = Path(out).expanduser()
    if path.is_dir():
        raise TransportError(f"{path} is a folder", expected="a file to write", fix=f"--out {path}/NAME.safetensors")
    return path


class _Piece(NamedTuple):
    """What one part leaves for the others.

    Attributes:
        rows: of each set of moments, by name.
        tensors: their means and scatters, and what else is kept; float64.
        digest: of the tables.
    """

    rows: dict[str, int]
    tensors: dict[str, Tensor]
    digest: str

    @classmethod
    def of(cls, moments: dict[str, Moments], digest: str, **more: Tensor) -> _Piece:
        tensors = {f"mean{name}": one.mean for name, one in moments.items()}
        tensors |= {f"scatter{name}": one.scatter for name, one in moments.items()}
        return cls({name: one.rows for name, one in moments.items()}, {**tensors, **more}, digest)

    def moments(self, name: str) -> Moments:
        return Moments(self.rows[name], self.tensors[f"mean{name}"], self.tensors[f"scatter{name}"])

    def save(self, path: Path, part: tuple[int, int]) -> None:
        facts = {
            "format": _FORMAT, "format_version": FORMAT_VERSION, "rows": self.rows, "source_digest": self.digest,
            "part": list(part),
        }  # fmt: skip
        write(path, self.tensors, facts)

    def like_me(self, path: Path, part: tuple[int, int]) -> _Piece:
        """That of another part of the same work."""
        again = "remove it, and run that part again"
        try:
            facts = read_metadata(path, _FORMAT)
        except TransportError as error:
            raise TransportError(error.what, expected=error.expected, got=error.got, fix=again) from error
        if facts.get("part") != list(part):
            raise TransportError(f"{path} is another part", expected=part, got=facts.get("part"), fix=again)
        rows: Any = facts.get("rows")
        good = isinstance(rows, dict) and all(isinstance(one, int) and one > 0 for one in rows.values())
        if not good or facts.get("source_digest") != self.digest:
            raise TransportError(
                f"{path} holds moments of another table", expected=f"rows of the table {self.digest}",
                got=facts.get("source_digest"), fix=again,
            )  # fmt: skip
        names = {f"{kind}{name}" for kind in ("mean", "scatter") for name in rows}
        more = {name for name in self.tensors if not name.startswith(("mean", "scatter"))}
        return _Piece(rows, read_tensors(path, names | more), self.digest)


def _shared(
    path: Path, part: tuple[int, int], mine: _Piece, reduce: Callable[[list[_Piece]], _Transport]
) -> _Transport | None:
    """Leave a part's piece beside `path`; the transport, written, if all are there."""
    number, of = part
    files = [path.with_name(f"{path.name}.part-{one}-of-{of}") for one in range(1, of + 1)]
    mine.save(files[number - 1], part)
    # One at a time, so that the last part's reduction is not made twice, nor missed by two that end together.
    with locked(path.parent, wait=None, what="a transport", name=f".{path.name}.lock", about=path):
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            log.info(f"rela_zoo: part {number} of {of} is done; {len(missing)} are missing, such as {missing[0]}")
            return None
        transport = reduce([mine.like_me(file, (one, of)) for one, file in enumerate(files, 1)])
        transport.save(path)
        for file in files:
            file.unlink(missing_ok=True)
    return transport
