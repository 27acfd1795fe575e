"""One subset for the whole training."""

from __future__ import annotations

import numpy as np

from rela_zoo.selection._scores import EpochScores, Scores, always
from rela_zoo.selection.policies._base import Context, Policy


class Static(Policy):
    """The same samples in every epoch, drawn once by the seed: what dynamic subsets are compared with."""

    name = "static"

    def scores(self, context: Context) -> EpochScores:
        # All chance lies in the seed: the wanted samples have chance 1, all others none.
        chosen = np.random.default_rng([context.seed, 0]).permutation(context.n)[: context.largest]
        values = np.zeros(context.n)
        values[chosen] = 1.0
        return always(Scores(values))
