"""Fit, judge and chain prior-to-prior transports: one pass over two tables joined by sample id."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
import torch
from torch import Tensor

from rela_zoo.embeddings import check_same_pictures
from rela_zoo.errors import TransportError
from rela_zoo.prior import check_same_prior
from rela_zoo.transport._linear import Affine, apply, compose
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
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
RETRIEVAL_AMONG = 1000
# Of every ten samples one is held out for the reported quality, and one chooses the ridge's strength; the map is then
# fitted on both of the other parts.
_PARTS = 10
_FIT, _CHOOSE, _HELD_OUT, _BOTH = 0, 1, 2, 3


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
    _check_method(method)
    return _fitted(_gathered(source, target, chunk, device, progress), source, target, method)


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
    found = _gathered(source, target, chunk, device, progress)
    back = _Gathered({part: one.swapped() for part, one in found.moments.items()}, found.y, found.x)
    return _fitted(found, source, target, method), _fitted(back, target, source, method)


class _Gathered(NamedTuple):
    """What one pass over two joined tables leaves behind.

    Attributes:
        moments: of each part.
        x: (kept, D) float64, held-out rows of the source.
        y: (kept, E) float64, those of the target.
    """

    moments: dict[int, PairMoments]
    x: Tensor
    y: Tensor


def _gathered(
    source: EmbeddingTable,
    target: EmbeddingTable,
    chunk: int,
    device: str | torch.device | None,
    progress: bool | Literal["always"],
) -> _Gathered:
    here = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pairs, parts = _joined(source, target)
    kept = _Kept(_bank(parts), source.shape[1], target.shape[1], here)
    moments: dict[int, Moments] = {}
    for at, x, y in _chunks(source, target, pairs, chunk, progress):
        x, y, part = x.to(here), y.to(here), parts[at]
        for number in (_FIT, _CHOOSE, _HELD_OUT):
            mine = torch.from_numpy(np.flatnonzero(part == number)).to(here)
            if len(mine):
                one = chunk_moments(torch.cat([x[mine].float(), y[mine].float()], 1))
                moments[number] = merge_moments(moments[number], one) if number in moments else one
        kept.take(at, x, y)
    both = merge_moments(moments[_FIT], moments[_CHOOSE])
    split = {number: split_moments(one, source.shape[1]) for number, one in {**moments, _BOTH: both}.items()}
    return _Gathered(split, kept.x, kept.y)


def _check_method(method: str) -> None:
    if method not in get_args(FitMethod):
        raise TransportError("no such method", expected=", ".join(get_args(FitMethod)), got=method)


def _fitted(found: _Gathered, source: EmbeddingTable, target: EmbeddingTable, method: FitMethod) -> PriorTransport:
    _check_method(method)
    both = found.moments[_BOTH]
    mapping, strength = _solve(method, found.moments[_FIT], found.moments[_CHOOSE], both)
    # What is judged is what is kept: rounded to float32.
    weight, bias = mapping.weight.float(), mapping.bias.float()
    quality = _quality(Affine(weight.double(), bias.double()), found.moments[_HELD_OUT], found.x, found.y)
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
    pairs, parts = _joined(source, target)
    held = np.flatnonzero(parts == _HELD_OUT)
    bank = _bank(parts[held])
    moments: Moments | None = None
    kept = _Kept(bank, source.shape[1], target.shape[1], torch.device("cpu"))
    for at, x, y in _chunks(source, target, pairs[held], chunk, False):
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


def _joined(source: EmbeddingTable, target: EmbeddingTable) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (n, 2) of the samples that both tables have, in the source's order, and the part (n,) of each."""
    check_same_pictures(source, target)
    rows_of = {one: row for row, one in enumerate(target.ids)}
    # Through arrays of integers: a million pairs as a list of tuples take as much memory as the rest of the fit.
    there = np.fromiter((rows_of.get(one, -1) for one in source.ids), np.int64, len(source))
    del rows_of
    here = np.flatnonzero(there >= 0)
    pairs = np.stack([here, there[here]], 1)
    parts = np.fromiter((_part(source.ids[int(row)]) for row in here), np.int8, len(here))
    counts = np.bincount(parts, minlength=3)
    if counts.min() < 2:
        raise TransportError(
            "these embeddings have too few samples in common",
            expected="at least a few dozen sample ids that both have",
            got=f"{len(pairs)}; ids such as {', '.join(map(repr, source.ids[:2]))} "
            f"against {', '.join(map(repr, target.ids[:2]))}",
            fix="embed the same data set with both priors",
        )
    return pairs, parts


def _part(sample: str) -> int:
    share = int.from_bytes(hashlib.blake2b(sample.encode(), digest_size=4).digest(), "big") % _PARTS
    return {0: _HELD_OUT, 1: _CHOOSE}.get(share, _FIT)


def _bank(parts: np.ndarray) -> np.ndarray:
    """Which samples (n,) bool serve retrieval: at most 1,000 of the held-out ones, evenly over them."""
    held = np.flatnonzero(parts == _HELD_OUT)
    picks = np.unique(np.linspace(0, len(held) - 1, min(RETRIEVAL_AMONG, len(held))).round().astype(np.int64))
    bank = np.zeros(len(parts), bool)
    bank[held[picks]] = True
    return bank


class _Kept:
    """The rows that serve retrieval, put aside during the pass.

    Args:
        bank: (n,) bool, as from `_bank`.
        source_dim: D.
        target_dim: E.
        device: where the rows arrive.

    Attributes:
        x: (kept, D) float64.
        y: (kept, E) float64.
    """

    def __init__(self, bank: np.ndarray, source_dim: int, target_dim: int, device: torch.device) -> None:
        # In one piece from the start: small pieces kept from every chunk pin the heap between its large ones.
        self.x = torch.empty(int(bank.sum()), source_dim, dtype=torch.float64, device=device)
        self.y = torch.empty(int(bank.sum()), target_dim, dtype=torch.float64, device=device)
        self._bank, self._filled = bank, 0

    def take(self, at: slice, x: Tensor, y: Tensor) -> None:
        """Keep what the bank wants of the rows (B, D) and (B, E) at these places."""
        chosen = torch.from_numpy(np.flatnonzero(self._bank[at])).to(x.device)
        places = slice(self._filled, self._filled + len(chosen))
        self.x[places], self.y[places] = x[chosen].double(), y[chosen].double()
        self._filled += len(chosen)


def _chunks(
    source: EmbeddingTable, target: EmbeddingTable, pairs: np.ndarray, chunk: int, progress: bool | Literal["always"]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    from rela_zoo._io.progress import Progress

    with Progress("fitting", len(pairs), show=progress) as bar:
        for start in range(0, len(pairs), chunk):
            piece = pairs[start : start + chunk]
            yield slice(start, start + len(piece)), source.rows_once(piece[:, 0]), target.rows_once(piece[:, 1])
            bar.advance(len(piece))


def _side(table: EmbeddingTable) -> Side:
    return Side(str(table.info.prior.get("id", "")), table.info.preprocessing, table.digest, table.info.identity)
