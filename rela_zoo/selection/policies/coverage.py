"""Spread evenly over the prior's space."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rela_zoo.selection._scores import EpochScores, equal_shares
from rela_zoo.selection.policies._base import Context, Dims, Policy, PolicyOptions

Centres = Annotated[int, Field(ge=2, description="a number of centres ≥ 2, or null")] | None


class Coverage(Policy):
    """Equal shares of cells around farthest-point centres."""

    name = "coverage"
    needs_embeddings = True

    class Options(PolicyOptions):
        """How centres are found, and whether weights undo the bias."""

        centres: Centres = None
        dims: Dims = 128
        weighted: bool = False

    options: Options

    def scores(self, context: Context) -> EpochScores:
        count = self.options.centres or max(2, context.largest)
        return equal_shares(context.space.cells(count, self.options.dims), self.options.weighted)
