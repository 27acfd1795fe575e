"""Cells against each other: paired differences over seeds, which baseline counts, and what reaching it costs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from experiments._summary import Cell, Row, seed

# A student is as good as another if it is so by both.
MEASURES = ("linear_accuracy", "knn_accuracy")
# Column → what of a judgement it is, and what of the row the embedding by the prior adds to it.
PAID = {"samples": ("samples_seen", None), "flops": ("flops", None), "cpu": ("cpu_seconds", "prior_cpu_seconds")}


@dataclass(frozen=True)
class Difference:
    """Of two cells, over the seeds that both have.

    Attributes:
        mean: of the differences, as a fraction.
        half: half the width of the 95 % confidence interval (Student's t); None for a single seed.
        seeds: how many.
    """

    mean: float
    half: float | None
    seeds: int

    @property
    def above(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.half is not None and self.mean - self.half > 0


def difference(cell: Cell, other: Cell, measure: str) -> Difference | None:
    """Of a cell over another; None without a seed in common."""
    own, others = ({seed(row): row[measure] for row in one.rows} for one in (cell, other))
    each = [own[number] - others[number] for number in own if number in others]
    if not each:
        return None
    return Difference(statistics.fmean(each), _half(each), len(each))


def _half(values: list[float]) -> float | None:
    from scipy.stats import t

    if len(values) < 2:
        return None
    return float(t.ppf(0.975, len(values) - 1)) * _standard_error(values)


def _standard_error(values: list[float]) -> float:
    return statistics.stdev(values) / math.sqrt(len(values))


def has_learnt(cell: Cell, untrained: Cell) -> bool:
    """Whether a cell beats the untrained student by two standard errors of the paired differences, by both measures."""
    for measure in MEASURES:
        own, start = ({seed(row): row[measure] for row in one.rows} for one in (cell, untrained))
        each = [own[number] - start[number] for number in own if number in start]
        if len(each) < 2 or statistics.fmean(each) <= 2 * _standard_error(each):
            return False
    return True


def best_baseline(found: Iterable[Cell]) -> Cell | None:
    """Of the self-supervised cells without a prior, on all of the data, that have learnt: the best by linear probe."""
    found = list(found)
    untrained = next((cell for cell in found if cell.settings["method"] == "untrained"), None)
    fitting = [
        cell
        for cell in found
        if cell.settings["prior"] is None
        and cell.settings["data_ratio"] == 1.0
        and cell.settings["method"] not in ("untrained", "supervised")
        and untrained is not None
        and has_learnt(cell, untrained)
    ]
    return max(fitting, key=lambda cell: statistics.fmean(cell.values(MEASURES[0])), default=None)


def price(rows: list[Row], point: int, column: str, *, embedding: bool = True) -> float:
    """Mean over runs of what had been paid at a judgement.

    Args:
        rows: of a cell.
        point: of the curve.
        column: of `PAID`.
        embedding: whether the embedding by the prior is paid here; else it was, for many runs, elsewhere. Operations
            have it in them.

    Returns:
        The mean; not a number where the embedding has not been measured.
    """
    key, prior = PAID[column]
    extra = [0.0 if prior is None or not embedding else _embedding(row, prior) for row in rows]
    return statistics.fmean(row["curve"][point][key] + more for row, more in zip(rows, extra, strict=True))


def _embedding(row: Row, prior: str) -> float:
    """What the embedding took; not a number where the row had one that was not measured."""
    return row.get(prior, math.nan if row.get("prior_flops") else 0.0)


def reached_at(cell: Cell, target: Mapping[str, float]) -> int | None:
    """The first judgement at which the cell's means are at least the target by every measure; None if none is."""
    length = min(len(row["curve"]) for row in cell.rows)
    for point in range(length):
        means = {key: statistics.fmean(row["curve"][point][key] for row in cell.rows) for key in target}
        if all(means[key] >= value - 1e-12 for key, value in target.items()):
            return point
    return None
