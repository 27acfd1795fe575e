"""Samples with a large running loss more often."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field

from rela_zoo.selection._losses import RunningLosses
from rela_zoo.selection._scores import EpochScores, Scores
from rela_zoo.selection.policies._base import Context, Fraction, Policy, PolicyOptions

Momentum = Annotated[int | float, Field(ge=0, lt=1, description="a number in [0, 1)")]


class Loss(Policy):
    """Samples with a large running loss of the accelerated stage more often; weighted, so that nothing is biased.

    The chance of a sample is a mixture: `uniform_share` of it is the same for all, which bounds every weight by
    1 / uniform_share; the rest is proportional to its loss. Samples not seen yet count as average ones.

    Source: importance sampling by loss, Katharopoulos and Fleuret, arXiv 1803.00942, with the loss in the place of the
    gradient's norm.
    """

    name = "loss"
    needs_losses = True

    class Options(PolicyOptions):
        """Of the running average, and of the mixture."""

        momentum: Momentum = 0.5
        uniform_share: Fraction = 0.25
        weighted: bool = True

    options: Options

    def running_losses(self, n: int) -> RunningLosses:
        return RunningLosses(n, float(self.options.momentum))

    def scores(self, context: Context) -> EpochScores:
        running, share, weighted = context.losses, float(self.options.uniform_share), self.options.weighted

        def wanted(epoch: int) -> Scores:
            values = running.values.double().numpy()
            seen = ~np.isnan(values)
            mean = float(values[seen].mean()) if seen.any() else 0.0
            if mean <= 0.0:
                return Scores(np.ones(len(values)), None, weighted)
            relative = np.where(seen, values, mean) / mean
            # A discrepancy is never negative but for rounding.
            return Scores(share + (1.0 - share) * np.maximum(relative, 0.0), None, weighted)

        return wanted
