"""The subsets of a folder, in place of a draw."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from rela_zoo._io.fields import Fix, PathText
from rela_zoo.errors import Problem, SelectionError
from rela_zoo.selection.policies._base import Context, Policy, PolicyOptions
from rela_zoo.selection.subset import Subset


class Replay(Policy):
    """The subsets written by `rela-zoo subset export`, or by another run."""

    name = "replay"
    needs_ids = True
    is_phase = False

    class Options(PolicyOptions):
        """The folder."""

        path: Annotated[
            PathText,
            Field(description="a folder written by `rela-zoo subset export`"),
            Fix("set {parent}={name: replay, path: FOLDER}"),
        ]

    options: Options

    def preflight(self, ratio: float) -> list[Problem]:
        from rela_zoo.selection.record import read_info

        place = self.options.path
        try:
            recorded = read_info(place)["ratio"]
        except SelectionError as error:
            return [Problem("selection.path", str(error.expected), error.what, str(error.fix))]
        if abs(recorded - ratio) > 1e-9:
            expected, fix = f"{recorded:g}, as recorded in {place}", f"set {{key}}={recorded:g}"
            return [Problem("data_ratio", expected, f"{ratio:g}", fix)]
        return []

    def subset(self, context: Context) -> Subset:
        from rela_zoo.selection.record import ReplayedSubset

        place, epochs = self.options.path, context.epochs
        subset = ReplayedSubset(place, context.ids)
        if abs(subset.ratio - context.ratio) > 1e-9:
            raise SelectionError(
                f"{place} holds subsets of another size",
                expected=f"data_ratio {context.ratio:g}",
                got=f"{subset.ratio:g}",
                fix=f"set rela.data_ratio={subset.ratio:g}",
            )
        if epochs is not None and epochs > subset.epochs:
            raise SelectionError(
                f"{place} holds too few epochs",
                expected=f"{epochs}",
                got=f"{subset.epochs}",
                fix=f"set max_epochs={subset.epochs}, or export more with `rela-zoo subset export --epochs {epochs}`",
            )
        return subset
