"""Fit a target transport in one pass over rows."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import TransportError
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
from rela_zoo.transport._target_transport import TargetTransport, TransportStats

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

# A direction whose deviation is below 1e-5 of the largest one is not kept: targets are computed in float32, whose
# rounding of the large directions would be what such a direction, blown up to deviation 1, is made of.
RELATIVE_TOLERANCE = 1e-10  # of variances
_EPS32 = float(np.finfo(np.float32).eps)


def fit_transport(
    rows: EmbeddingTable | Tensor | np.ndarray | Iterable[Tensor],
    *,
    max_dim: int | None = None,
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> TargetTransport:
    """Fit PCA and standardisation on embeddings, in one pass, in float64, with memory O(chunk·D + D²).

    Equal, up to rounding, to the reference's covariance, `eigh`, last k columns, division by the population standard
    deviation. Eigenvectors are known up to their sign only: here the entry of largest magnitude is positive.

    Args:
        rows: an `EmbeddingTable`; or (N, D) as a tensor or an array; or an iterable of pieces (n, D), each seen once.
        max_dim: keep at most this many components; None keeps every direction in which the rows vary.
        chunk: rows at once.
        device: where the sums are made; None takes the device of the rows, for a table CUDA if there is one.
        progress: as for `embed`; needs a table, a tensor or an array.

    Returns:
        The transport, on the CPU.

    Raises:
        TransportError: fewer than two rows, rows that don't vary, pieces of different widths, NaN or infinity.

    Warns:
        UserWarning: the rows vary in fewer directions than were asked for, and K is capped at that number.

    Examples:
        >>> from rela_zoo import fit_transport, open_embeddings
        >>> transport = fit_transport(open_embeddings("embeddings"), max_dim=32)
        >>> transport.dim, transport.max_dim
        (64, 32)
    """
    if max_dim is not None and max_dim < 1:
        raise TransportError("max_dim can't be used", expected="at least 1", got=max_dim)
    if chunk < 1:
        raise TransportError("chunk can't be used", expected="at least 1 row", got=chunk)
    total = len(rows) if isinstance(rows, Sized) and not isinstance(rows, list | tuple) else None
    moments = rows_moments(
        _pieces(rows, chunk), device=_own_device(rows) if device is None else device, total=total, progress=progress
    )
    if moments is None or moments.rows < 2:
        raise TransportError(
            "a transport can't be fitted on these rows",
            expected="at least 2 rows",
            got=moments.rows if moments else 0,
            fix="embed more images",
        )
    return transport_from_moments(moments, max_dim, **fit_facts(rows))


def rows_moments(
    pieces: Iterator[Tensor],
    *,
    device: str | torch.device,
    total: int | None = None,
    progress: bool | Literal["always"] = False,
) -> Moments | None:
    """Moments of rows in pieces (n, D), each seen once; None without rows.

    Raises:
        TransportError: pieces that are no rows, or of different widths, NaN or infinity.
    """
    pieces = _floating(pieces)
    if progress and total is not None:
        pieces = _watched(pieces, total, progress)
    moments: Moments | None = None
    for piece in pieces:
        if moments is not None and piece.shape[1] != len(moments.mean):
            raise TransportError(
                "pieces of rows have different widths", expected=f"{len(moments.mean)} values", got=piece.shape[1]
            )
        one = chunk_moments(piece.to(device))
        moments = one if moments is None else merge_moments(moments, one)
    return moments


def fit_facts(rows: object) -> dict[str, Any]:
    """What a transport keeps of the rows that it is fitted on: of a table whose and which they are, else nothing."""
    info = getattr(rows, "info", None)
    if info is None:
        return {}
    return {
        "source_digest": getattr(rows, "digest", None),
        "prior": str(info.prior.get("id", "")),
        "preprocessing": info.preprocessing,
        "identity": info.identity,
    }


def transport_from_moments(
    moments: Moments,
    max_dim: int | None = None,
    *,
    source_digest: str | None = None,
    prior: str | None = None,
    preprocessing: str | None = None,
    identity: Mapping[str, str | int] | None = None,
) -> TargetTransport:
    """PCA and standardisation from the moments of rows; see `fit_transport`.

    Args:
        moments: of at least two rows.
        max_dim: as for `fit_transport`.
        source_digest, prior, preprocessing, identity: kept in the statistics.
    """
    covariance = moments.covariance
    variances, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    variances, vectors = variances.flip(0).clamp_min(0).cpu(), vectors.flip(1).cpu()
    # A feature that is constant up to the rounding of float32 around its mean varies in no useful sense either.
    rounding = (_EPS32 * float(moments.mean.abs().max())) ** 2
    rank = int((variances > max(RELATIVE_TOLERANCE * float(variances[0]), rounding)).sum())
    if rank == 0:
        raise TransportError(
            "the rows do not vary, so there is nothing to make targets of",
            expected="different rows for different images",
            got=f"{moments.rows} rows with a largest deviation of {float(variances[0].sqrt()):.3g}",
            fix="check the weights and the preprocessing of the prior",
        )
    wanted = min(max_dim or len(variances), len(variances))
    kept = min(wanted, rank)
    if kept < wanted:
        warnings.warn(
            f"the rows ({moments.rows} of {len(variances)} values) vary in {rank} directions only: "
            f"the transport keeps {kept} components instead of {wanted}",
            stacklevel=3,
        )
    components = vectors[:, :kept]
    largest = components.gather(0, components.abs().argmax(0, keepdim=True))
    components = components * torch.where(largest < 0, -1.0, 1.0)
    stats = TransportStats(
        rows=moments.rows,
        explained_variance_ratio=tuple((variances[:kept] / variances.sum()).float().tolist()),
        source_digest=source_digest,
        prior=prior,
        preprocessing=preprocessing,
        identity=identity,
    )
    return TargetTransport(
        moments.mean.cpu().float(), components.float().contiguous(), variances[:kept].sqrt().float(), stats
    )


def _pieces(rows: EmbeddingTable | Tensor | np.ndarray | Iterable[Tensor], chunk: int) -> Iterator[Tensor]:
    """Rows of any accepted kind → pieces of at most `chunk` rows."""
    if isinstance(rows, Tensor):
        yield from rows.split(chunk)
    elif isinstance(rows, np.ndarray):
        for start in range(0, len(rows), chunk):
            yield torch.from_numpy(np.array(rows[start : start + chunk]))  # a copy: the array may be a read-only map
    elif hasattr(rows, "iter_rows"):
        yield from rows.iter_rows(chunk)
    else:
        for piece in rows:
            yield from piece.split(chunk)


def _floating(pieces: Iterator[Tensor]) -> Iterator[Tensor]:
    for piece in pieces:
        if piece.ndim != 2 or 0 in piece.shape[1:] or not piece.is_floating_point():
            raise TransportError(
                "these are no rows",
                expected="floating values of shape (n, D)",
                got=f"{piece.dtype} {tuple(piece.shape)}",
            )
        if len(piece):
            yield piece


def _watched(pieces: Iterator[Tensor], total: int, show: bool | Literal["always"]) -> Iterator[Tensor]:
    from rela_zoo._io.progress import Progress

    with Progress("fitting", total, show=show) as bar:
        for piece in pieces:
            yield piece
            bar.advance(len(piece))


def _own_device(rows: object) -> torch.device:
    if isinstance(rows, Tensor):
        return rows.device
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
