"""Every sample alike."""

from __future__ import annotations

import numpy as np

from rela_zoo.selection._scores import EpochScores, Scores, always
from rela_zoo.selection.policies._base import Context, Policy
from rela_zoo.selection.subset import EpochSubset, Subset


class Uniform(Policy):
    """A fresh uniform draw in each epoch: the dynamic data subset of ReLA (arXiv 2405.14669)."""

    name = "uniform"

    def scores(self, context: Context) -> EpochScores:
        return always(Scores(np.ones(context.n)))

    def subset(self, context: Context) -> Subset:
        return EpochSubset(context.n, context.ratio, context.seed)

    def banner(self) -> str:
        return ""
