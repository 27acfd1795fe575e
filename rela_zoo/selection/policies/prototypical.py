"""Only samples near the centroid of their cluster."""

from __future__ import annotations

from typing import ClassVar

from rela_zoo.errors import Problem
from rela_zoo.selection._scores import EpochScores, nearest
from rela_zoo.selection.policies._base import (
    Clusters,
    Context,
    Dims,
    Policy,
    PolicyOptions,
    Pool,
    check_pool,
    pool_size,
)


class Prototypical(Policy):
    """Only samples near the centroid of their cluster.

    Source: Sorscher et al., arXiv 2206.14486, section 5.
    """

    name = "prototypical"
    needs_embeddings = True
    # The other end of the scale: what `hard` differs in.
    farthest: ClassVar[bool] = False

    class Options(PolicyOptions):
        """How much of the data to draw from, and how clusters are made."""

        pool: Pool = None
        clusters: Clusters = None
        dims: Dims = 128

    options: Options

    def check(self, ratio: float) -> list[Problem]:
        return check_pool(self.options.pool, ratio)

    def scores(self, context: Context) -> EpochScores:
        _, distances = context.space.clusters(self.options.clusters, self.options.dims)
        return nearest(distances, pool_size(self.options.pool, context), farthest=self.farthest)
