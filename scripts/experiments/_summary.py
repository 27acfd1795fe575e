"""From rows of results to cells: means and deviations over seeds, and the cost of reaching an accuracy."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from experiments._grid import selection_name

Row = dict[str, Any]
_METHODS = {"byol": "BYOL", "simclr": "SimCLR", "dino": "DINO"}
COSTS = ("samples_seen", "flops", "wall_seconds")
_PRIOR_COSTS = {"flops": "prior_flops", "wall_seconds": "prior_seconds"}
# What makes a cell: everything a reader would name; the seeds within it are averaged.
_CELL = (
    "method",
    "backbone",
    "stem",
    "prior",
    "data_ratio",
    "selection",
    "head",
    "handover",
    "epochs",
    "batch_size",
    "lr",
)
_CELL += ("tau", "images", "precision")


@dataclass
class Cell:
    """Runs that differ in their seed only, in the order of their seeds, and a name for tables and figures."""

    settings: Row
    name: str = ""
    rows: list[Row] = field(default_factory=list)

    @property
    def is_reference(self) -> bool:
        """Whether this is plain BYOL on all of the data, what everything is measured against."""
        s = self.settings
        return s["method"] == "byol" and s["prior"] is None and s["data_ratio"] == 1.0

    def values(self, key: str) -> list[float]:
        """One number a seed."""
        return [row[key] for row in self.rows]


def cells(rows: Iterable[Row]) -> list[Cell]:
    """Group rows by all settings but the seed, in the order of their first row; of a run made twice the last counts."""
    latest = {row["run"]: row for row in rows}
    found: dict[str, Cell] = {}
    for row in latest.values():
        settings = {key: row.get(key) for key in _CELL}
        found.setdefault(json.dumps(settings), Cell(settings)).rows.append(row)
    for cell in found.values():
        cell.rows.sort(key=lambda row: row["seed"])
    _name(list(found.values()))
    return list(found.values())


def _name(cells: list[Cell]) -> None:
    """Give names, and what tells cells apart that would be called the same."""
    plain = [plain_name(cell.settings) for cell in cells]
    for cell, name in zip(cells, plain, strict=True):
        namesakes = [other.settings for other, its in zip(cells, plain, strict=True) if its == name]
        differing = [key for key in _CELL if len({str(settings[key]) for settings in namesakes}) > 1]
        cell.name = ", ".join([name, *(f"{key} {cell.settings[key]}" for key in differing)])


def plain_name(settings: Row) -> str:
    """`BYOL 100 %`, `ReLA(resnet56) + BYOL 20 %, trained head`: a run without what all runs of a grid share."""
    if settings["method"] == "untrained":
        return "untrained student"
    method = _METHODS[settings["method"]]
    extras = [] if settings["selection"] == "uniform" else [selection_name(settings["selection"])]
    if settings["prior"] is None:
        return ", ".join([f"{method} {settings['data_ratio'] * 100:g} %", *extras])
    if settings["handover"] != "adaptive":
        extras.append("never handed over" if settings["handover"] == 1 else f"handover {settings['handover']:g}")
    if settings["head"] != "frozen":
        extras.append(f"{settings['head']} head")
    return ", ".join([f"ReLA({settings['prior']}) + {method} {settings['data_ratio'] * 100:g} %", *extras])


def mean_sd(values: list[float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation; None as deviation of a single value."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None


def curve(rows: list[Row], cost: str, start: float | None) -> tuple[list[float], list[float]]:
    """Mean costs and mean linear accuracies of the runs of a cell, point by point.

    Args:
        rows: runs that were judged after the same epochs.
        cost: one of `COSTS`.
        start: accuracy of the untrained student, from which a curve begins at the cost of the prior; or None.
    """
    length = min(len(row["curve"]) for row in rows)
    xs = [statistics.fmean(row["curve"][i][cost] for row in rows) for i in range(length)]
    ys = [statistics.fmean(row["curve"][i]["linear_accuracy"] for row in rows) for i in range(length)]
    if start is None:
        return xs, ys
    prior = _PRIOR_COSTS.get(cost)
    return [statistics.fmean(row.get(prior, 0.0) for row in rows), *xs], [start, *ys]


def cost_to_reach(rows: list[Row], accuracy: float, cost: str, start: float | None) -> float | None:
    """What a cell's mean curve has cost where it first reaches an accuracy; None if it never does.

    Between two judgements a straight line is drawn. Of the mean curve, because a mean over those seeds alone that reach
    the accuracy would flatter a cell of which some don't.
    """
    xs, ys = curve(rows, cost, start)
    if ys[0] >= accuracy:
        return xs[0]
    for i in range(1, len(xs)):
        # The tolerance lets a cell reach its own mean, which was added up in another order.
        if ys[i] >= accuracy - 1e-9:
            return xs[i - 1] + (xs[i] - xs[i - 1]) * min(1.0, (accuracy - ys[i - 1]) / (ys[i] - ys[i - 1]))
    return None
