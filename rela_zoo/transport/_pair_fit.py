"""Fit, judge and chain prior-to-prior transports: one pass over two tables joined by sample id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from rela_zoo.errors import TransportError
from rela_zoo.prior import check_same_prior
from rela_zoo.transport._linear import Affine, apply, compose
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
from rela_zoo.transport._pair_gather import (
    BOTH,
    CHOOSE,
    FIT,
    HELD_OUT,
    Gathered,
    Kept,
    gathered,
    joined,
    joined_chunks,
    retrieval_bank,
)
from rela_zoo.transport._pair_maps import (
    PairMoments,
    RidgePath,
    procrustes_map,
    r_squared,
    split_moments,
    whitened_map,
)
from rela_zoo.transport._prior_transport import PriorTransport, Quality, Side

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

FitMethod = Literal["ridge", "procrustes", "whitened"]


def fit_prior_transport(
    source: EmbeddingTable,
    target: EmbeddingTable,
    *,
    method: FitMethod = "ridge",
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> PriorTransport:
    """Fit the map from one prior's space to another's on the samples that both tables have.

    A tenth of the samples, chosen by a hash of their ids and so the same for every pair of priors, is held out and
    gives the quality. For ridge regression another tenth chooses the strength; the map is then fitted on both parts.
    Rows are read once. Memory is O(chunk·(D + E) + (D + E)²).

    Args:
        source: rows (N, D).
        target: rows (M, E), of at least ten of the same samples, in any order.
        method: `ridge` (least squares), `procrustes` (rotation and scale), `whitened` (canonical correlations).
        chunk: rows at once.
        device: where the sums are made; None takes CUDA if there is one.
        progress: as for `embed`.

    Returns:
        The transport, on the CPU, with its held-out quality.

    Raises:
        TransportError: too few samples in common, rows that don't vary.
        EmbeddingsError: the same sample ids for different pictures.
    """
    check_method(method)
    return fitted(gathered(source, target, chunk, device, progress), source, target, method)


def fit_both_ways(
    source: EmbeddingTable,
    target: EmbeddingTable,
    *,
    method: FitMethod = "ridge",
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> tuple[PriorTransport, PriorTransport]:
    """The transports from the first table to the second and back, from one pass over both; else `fit_prior_transport`.

    Both are judged on the same samples.
    """
    check_method(method)
    found = gathered(source, target, chunk, device, progress)
    moments = found.of_pairs()
    back = {role: one.swapped() for role, one in moments.items()}
    return (
        _fitted(moments, found.x, found.y, source, target, method),
        _fitted(back, found.y, found.x, target, source, method),
    )


def check_method(method: str) -> None:
    """Refuse a method that there isn't."""
    if method not in get_args(FitMethod):
        raise TransportError("no such method", expected=", ".join(get_args(FitMethod)), got=method)


def fitted(found: Gathered, source: EmbeddingTable, target: EmbeddingTable, method: FitMethod) -> PriorTransport:
    """The transport from what has been gathered of all joined rows."""
    return _fitted(found.of_pairs(), found.x, found.y, source, target, method)


def _fitted(
    moments: dict[int, PairMoments],
    x: Tensor,
    y: Tensor,
    source: EmbeddingTable,
    target: EmbeddingTable,
    method: FitMethod,
) -> PriorTransport:
    both = moments[BOTH]
    mapping, strength = _solve(method, moments[FIT], moments[CHOOSE], both)
    # What is judged is what is kept: rounded to float32.
    weight, bias = mapping.weight.float(), mapping.bias.float()
    quality = _quality(Affine(weight.double(), bias.double()), moments[HELD_OUT], x, y)
    return PriorTransport(
        weight.cpu().contiguous(), bias.cpu(), _side(source), _side(target), method, strength, both.rows, quality
    )


def chain(
    first: PriorTransport, second: PriorTransport, source: EmbeddingTable, target: EmbeddingTable, chunk: int = 8192
) -> PriorTransport:
    """Two transports a → b → c as one a → c, judged on the samples held out from both.

    Args:
        first: from a to b.
        second: from b to c.
        source: rows of a.
        target: rows of c, for the same samples.
        chunk: rows at once.

    Returns:
        The composed transport. Its loss is the quality of a direct fit less its own.

    Raises:
        TransportError: transports that can't follow each other, or tables of other priors.
    """
    for ours, theirs, what in (
        (first.target, second.source, "the second transport does not begin where the first ends"),
        (first.source, _side(source), "the source table is not of the first transport's prior"),
        (second.target, _side(target), "the target table is not of the second transport's prior"),
    ):
        check_same_prior(ours.known, theirs.known, f"these do not form a chain: {what}", error=TransportError)
    weight, bias = compose(first.affine, second.affine)
    quality = _judged(Affine(weight, bias), source, target, chunk)
    rows = min(first.rows_fitted, second.rows_fitted)
    return PriorTransport(weight, bias, first.source, second.target, "composed", None, rows, quality)


def judge(transport: PriorTransport, source: EmbeddingTable, target: EmbeddingTable, chunk: int = 8192) -> Quality:
    """How well a transport that was made elsewhere does on the held-out samples of these tables.

    Where it was fitted on the same data set, these samples had no part in that fit either.

    Args:
        transport: of these two priors.
        source: rows (N, D).
        target: rows (M, E) of the same samples.
        chunk: rows at once.

    Raises:
        TransportError: tables of other priors, or too few samples in common.
    """
    ends = (transport.source, source, "from"), (transport.target, target, "to")
    for (side, table, which), dim in zip(ends, transport.weight.shape, strict=True):
        check_same_prior(
            table.info.identity,
            {**side.known, "dim": dim},
            f"the transport does not lead {which} the prior of {table.path}",
            error=TransportError,
        )
    return _judged(transport.affine, source, target, chunk)


def _judged(mapping: Affine, source: EmbeddingTable, target: EmbeddingTable, chunk: int) -> Quality:
    pairs, parts = joined(source, target)
    held = np.flatnonzero(parts == HELD_OUT)
    bank = retrieval_bank(parts[held])
    moments: Moments | None = None
    kept = Kept(bank, source.shape[1], target.shape[1], torch.device("cpu"))
    for at, x, y in joined_chunks(source, target, pairs[held], chunk, False):
        one = chunk_moments(torch.cat([x.float(), y.float()], 1))
        moments = one if moments is None else merge_moments(moments, one)
        kept.take(at, x, y)
    assert moments is not None
    exact = Affine(mapping.weight.double(), mapping.bias.double())
    return _quality(exact, split_moments(moments, source.shape[1]), kept.x, kept.y)


def _solve(method: FitMethod, fit: PairMoments, choose: PairMoments, both: PairMoments) -> tuple[Affine, float | None]:
    if method == "procrustes":
        return procrustes_map(both), None
    if method == "whitened":
        return whitened_map(both), None
    strength = RidgePath(fit).best(choose)
    return RidgePath(both).at(strength), strength


def _quality(mapping: Affine, held_out: PairMoments, x: Tensor, y: Tensor) -> Quality:
    """Judge a float64 map by the moments of all held-out rows and by some of the rows themselves."""
    centre = y.mean(0)
    mapped = torch.nn.functional.normalize(apply(mapping, x) - centre, dim=1)
    true = torch.nn.functional.normalize(y - centre, dim=1)
    cosines = mapped @ true.T
    # A tie counts against the true row: a map to one point must not look like a perfect one.
    rank = (cosines >= cosines.diagonal()[:, None]).sum(1)
    return Quality(
        r2=r_squared(mapping, held_out),
        cosine=float(cosines.diagonal().mean()),
        retrieval_at_1=float((rank <= 1).double().mean()),
        retrieval_at_5=float((rank <= 5).double().mean()),
        retrieval_among=len(y),
        rows_held_out=held_out.rows,
    )


def _side(table: EmbeddingTable) -> Side:
    return Side(str(table.info.prior.get("id", "")), table.info.preprocessing, table.digest, table.info.identity)
