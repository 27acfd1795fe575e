"""The space of a prior as policies ask about it: computed when asked for, kept in files between runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from rela_zoo.selection.geometry._centres import MOST_CENTRES
from rela_zoo.selection.geometry._clusters import default_clusters
from rela_zoo.selection.geometry._geometry import (
    Geometry,
    KeyParts,
    Kind,
    compute,
    geometry,
    positions_digest,
    transport_digest,
)
from rela_zoo.selection.geometry._principal import principal_points
from rela_zoo.transport import TargetTransport, check_target_fits

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

# Cells say nothing about a run, so they have a seed of their own and serve every seed of the draws.
_SEED = 0


class _PriorSpace:
    """What policies ask, of n samples; a subclass finds the geometry."""

    _n: int

    @property
    def n(self) -> int:
        """N, the samples that every answer is of."""
        return self._n

    def clusters(self, count: int | None, dims: int) -> tuple[np.ndarray, np.ndarray]:
        """k-means: labels (N,) int32 and distances (N,) float32 to the own centroid; None takes √N clusters."""
        found = self._find("clusters", self._count(count), dims, None)
        return found.labels, found.distances

    def cells(self, count: int, dims: int) -> np.ndarray:
        """(N,) int32: the nearest of `count` centres, at most, that are spread evenly over the space."""
        return self._find("centres", min(count, self._n, MOST_CENTRES), dims, None).labels

    def duplicates(self, threshold: float, clusters: int | None, dims: int) -> np.ndarray:
        """(N,) int32: groups of near-duplicates; a sample without any is a group of its own."""
        groups = self._find("duplicates", self._count(clusters), dims, threshold).groups
        assert groups is not None
        return groups

    def _count(self, asked: int | None) -> int:
        return default_clusters(self._n) if asked is None else min(asked, self._n)

    def _find(self, kind: Kind, cells: int, dims: int, threshold: float | None) -> Geometry:
        raise NotImplementedError


class MemorySpace(_PriorSpace):
    """Clusters, cells and near-duplicates of points in memory: computed anew whenever asked for.

    Args:
        rows: (N, D) float, the prior's embeddings in the order of the data set.
        transport: fitted on them: mean and components span the space.
        device: where products are made.
    """

    def __init__(self, rows: Tensor, transport: TargetTransport, *, device: str | torch.device | None = None) -> None:
        self._rows, self._transport, self._device = rows, transport, device
        self._n = len(rows)

    def _find(self, kind: Kind, cells: int, dims: int, threshold: float | None) -> Geometry:
        points = principal_points(self._rows, None, self._transport, dims, device=self._device)
        return compute(kind, points, cells, _SEED, threshold, device=self._device)


class TableSpace(_PriorSpace):
    """Clusters, cells and near-duplicates of a data set among a prior's embeddings.

    Args:
        table: the raw rows.
        transport: fitted on them: mean and components span the space.
        positions: (N,) int64, the row of `table` for each sample of the data set.
        device: where products are made; the numbers may differ between devices, so files made on one serve all.
        cache: folder of the files; None takes `selection` among this machine's artefacts.

    Raises:
        TransportError: the transport is of another prior than the table.
    """

    def __init__(
        self,
        table: EmbeddingTable,
        transport: TargetTransport,
        positions: np.ndarray,
        *,
        device: str | torch.device | None = None,
        cache: Path | None = None,
    ) -> None:
        # Before a file is looked for: one of this pair may be there from a version that did not ask.
        check_target_fits(transport, table, "the transport that spans the space of a selection")
        self._table, self._transport, self._positions = table, transport, positions
        self._device, self._cache = device, cache
        self._n = len(positions)

    def _find(self, kind: Kind, cells: int, dims: int, threshold: float | None) -> Geometry:
        dims = min(dims, self._transport.max_dim)
        parts = KeyParts(
            table=self._table.digest,
            transport=transport_digest(self._transport, dims),
            positions=positions_digest(self._positions),
            rows=self._n,
            dims=dims,
            cells=cells,
            seed=_SEED,
            threshold=threshold,
        )

        def points() -> np.ndarray:
            return principal_points(self._table, self._positions, self._transport, dims, device=self._device)

        return geometry(kind, points=points, key_parts=parts, cache=self._cache, device=self._device)
