"""One pass over two tables joined by sample id: moments and the rows that serve retrieval, of all or of a share."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from rela_zoo.embeddings import check_same_pictures
from rela_zoo.errors import TransportError
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
from rela_zoo.transport._pair_maps import PairMoments, split_moments

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

RETRIEVAL_AMONG = 1000
# Of every ten samples one is held out for the reported quality, and one chooses the ridge's strength; the map is then
# fitted on both of the other parts.
_OUT_OF = 10
FIT, CHOOSE, HELD_OUT, BOTH = 0, 1, 2, 3


class Gathered(NamedTuple):
    """What a pass over two joined tables, or over some of their rows, leaves behind; adds up.

    Attributes:
        moments: of rows [x, y], D and E values, of each role that a sample can have; roles nobody had are missing.
        x: (kept, D) float64, held-out rows of the source.
        y: (kept, E) float64, those of the target.
    """

    moments: dict[int, Moments]
    x: Tensor
    y: Tensor

    def __add__(self, more: Gathered) -> Gathered:  # type: ignore[override]
        """Those of both; the rows of `more` come after."""
        moments = dict(self.moments)
        for role, one in more.moments.items():
            moments[role] = merge_moments(moments[role], one) if role in moments else one
        return Gathered(moments, torch.cat([self.x, more.x]), torch.cat([self.y, more.y]))

    def of_pairs(self) -> dict[int, PairMoments]:
        """By role, and of the two that the map is fitted on together."""
        both = merge_moments(self.moments[FIT], self.moments[CHOOSE])
        return {role: split_moments(one, self.x.shape[1]) for role, one in {**self.moments, BOTH: both}.items()}


def gathered(
    source: EmbeddingTable,
    target: EmbeddingTable,
    chunk: int,
    device: str | torch.device | None,
    progress: bool | Literal["always"],
    share: tuple[int, int] = (1, 1),
) -> Gathered:
    """One pass over the joined rows, or over the i-th of n shares of them.

    Raises:
        TransportError: too few samples in common, no such share.
        EmbeddingsError: the same sample ids for different pictures.
    """
    here = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pairs, parts = joined(source, target)
    within, bank = share_of(len(pairs), share), retrieval_bank(parts)
    pairs, parts, bank = pairs[within], parts[within], bank[within]
    kept = Kept(bank, source.shape[1], target.shape[1], here)
    moments: dict[int, Moments] = {}
    for at, x, y in joined_chunks(source, target, pairs, chunk, progress):
        x, y, part = x.to(here), y.to(here), parts[at]
        for number in (FIT, CHOOSE, HELD_OUT):
            mine = torch.from_numpy(np.flatnonzero(part == number)).to(here)
            if len(mine):
                one = chunk_moments(torch.cat([x[mine].float(), y[mine].float()], 1))
                moments[number] = merge_moments(moments[number], one) if number in moments else one
        kept.take(at, x, y)
    return Gathered(moments, kept.x, kept.y)


def share_of(rows: int, share: tuple[int, int]) -> slice:
    """Which of so many rows, in their order, are the i-th of n shares.

    Raises:
        TransportError: there is no such share.
    """
    number, of = share
    if not 1 <= number <= of or of > rows:
        raise TransportError(
            "there is no such part", expected=f"i/n with i from 1 to n, and n at most {rows} rows", got=f"{number}/{of}"
        )
    return slice((number - 1) * rows // of, number * rows // of)


def joined(source: EmbeddingTable, target: EmbeddingTable) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers (n, 2) of the samples that both tables have, in the source's order, and the part (n,) of each."""
    check_same_pictures(source, target)
    rows_of = {one: row for row, one in enumerate(target.ids)}
    # Through arrays of integers: a million pairs as a list of tuples take as much memory as the rest of the fit.
    there = np.fromiter((rows_of.get(one, -1) for one in source.ids), np.int64, len(source))
    del rows_of
    here = np.flatnonzero(there >= 0)
    pairs = np.stack([here, there[here]], 1)
    parts = np.fromiter((role_of(source.ids[int(row)]) for row in here), np.int8, len(here))
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


def role_of(sample: str) -> int:
    share = int.from_bytes(hashlib.blake2b(sample.encode(), digest_size=4).digest(), "big") % _OUT_OF
    return {0: HELD_OUT, 1: CHOOSE}.get(share, FIT)


def retrieval_bank(parts: np.ndarray) -> np.ndarray:
    """Which samples (n,) bool serve retrieval: at most 1,000 of the held-out ones, evenly over them."""
    held = np.flatnonzero(parts == HELD_OUT)
    picks = np.unique(np.linspace(0, len(held) - 1, min(RETRIEVAL_AMONG, len(held))).round().astype(np.int64))
    bank = np.zeros(len(parts), bool)
    bank[held[picks]] = True
    return bank


class Kept:
    """The rows that serve retrieval, put aside during the pass.

    Args:
        bank: (n,) bool, as from `retrieval_bank`.
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


def joined_chunks(
    source: EmbeddingTable, target: EmbeddingTable, pairs: np.ndarray, chunk: int, progress: bool | Literal["always"]
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    from rela_zoo._io.progress import Progress

    with Progress("fitting", len(pairs), show=progress) as bar:
        for start in range(0, len(pairs), chunk):
            piece = pairs[start : start + chunk]
            yield slice(start, start + len(piece)), source.rows_once(piece[:, 0]), target.rows_once(piece[:, 1])
            bar.advance(len(piece))
