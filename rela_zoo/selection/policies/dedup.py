"""Near-duplicates count as one sample."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rela_zoo.selection._scores import EpochScores, equal_shares
from rela_zoo.selection.policies._base import Clusters, Context, Dims, Policy, PolicyOptions

Cosine = Annotated[int | float, Field(gt=0, le=1, description="a cosine in (0, 1]")]


class Dedup(Policy):
    """Equal shares of groups of near-duplicates by the prior's embeddings."""

    name = "dedup"
    needs_embeddings = True

    class Options(PolicyOptions):
        """What counts as a near-duplicate, and whether weights undo the bias."""

        threshold: Cosine = 0.95
        clusters: Clusters = None
        dims: Dims = 128
        weighted: bool = False

    options: Options

    def scores(self, context: Context) -> EpochScores:
        wanted = self.options
        groups = context.space.duplicates(float(wanted.threshold), wanted.clusters, wanted.dims)
        return equal_shares(groups, wanted.weighted)
