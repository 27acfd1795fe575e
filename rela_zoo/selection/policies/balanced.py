"""Equal shares of the clusters of the prior's space."""

from __future__ import annotations

from rela_zoo.selection._scores import EpochScores, equal_shares
from rela_zoo.selection.policies._base import Clusters, Context, Dims, Policy, PolicyOptions


class Balanced(Policy):
    """As many samples from each k-means cluster as from any other; a smaller cluster gives all it has."""

    name = "balanced"
    needs_embeddings = True

    class Options(PolicyOptions):
        """How clusters are made, and whether weights undo the bias."""

        clusters: Clusters = None
        dims: Dims = 128
        weighted: bool = False

    options: Options

    def scores(self, context: Context) -> EpochScores:
        labels, _ = context.space.clusters(self.options.clusters, self.options.dims)
        return equal_shares(labels, self.options.weighted)
