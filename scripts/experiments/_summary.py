"""From rows of results to cells: means and deviations over seeds, and the cost of reaching an accuracy."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from rela_zoo.hosts.builtin.config import run_identity

Row = dict[str, Any]
COSTS = ("samples_seen", "flops", "wall_seconds")
_METHODS = {"byol": "BYOL", "simclr": "SimCLR", "dino": "DINO"}
_PRIOR_COSTS = {"flops": "prior_flops", "wall_seconds": "prior_seconds"}
# What made a row: the product's own training, or the loop that this folder had before.
ENGINES = ("product", "standalone")
# What makes a cell of standalone rows; the seeds within it are averaged.
_STANDALONE = ("method", "backbone", "stem", "prior", "data_ratio", "selection", "head", "handover", "epochs")
_STANDALONE += ("batch_size", "lr", "tau", "images", "precision")


@dataclass
class Cell:
    """Runs that differ in their seed only, in the order of their seeds, and a name for tables and figures.

    Attributes:
        settings: `method` (`untrained` for the student as it begins), `prior`, `data_ratio`, `selection`, `head`,
            `handover`, `power`, `mix`, `rewarm`; the last six None where they don't apply.
        identity: dotted key → value, all that decides the runs but the seed.
    """

    settings: Row
    identity: Row
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
    """Group rows of one engine by all settings but the seed, in the order of their first row.

    Of a run made twice the last counts.
    """
    latest = {row["run"]: row for row in rows}
    found: dict[str, Cell] = {}
    for row in latest.values():
        settings, identity = _read(row)
        found.setdefault(json.dumps(identity, sort_keys=True), Cell(settings, identity)).rows.append(row)
    for cell in found.values():
        cell.rows.sort(key=seed)
    _name(list(found.values()))
    return list(found.values())


def seed(row: Row) -> int:
    """The seed of a run."""
    return row["seed"] if row["engine"] == "standalone" else row["config"]["seed"]


def _read(row: Row) -> tuple[Row, Row]:
    """A row's settings and identity, as in `Cell`."""
    if row["engine"] == "standalone":
        identity = {key: row.get(key) for key in _STANDALONE}
        return identity, identity
    config = row["config"]
    section = config.get("rela") or {"prior": None, "data_ratio": 1.0, "selection": "uniform"}
    prior = section["prior"]
    settings = {
        "method": "untrained" if row["untrained"] else config["method"],
        "prior": prior,
        "data_ratio": float(section["data_ratio"]),
        "selection": section["selection"],
        "head": section["head"] if prior else None,
        "handover": section["handover"] if prior else None,
        "power": section.get("power", 1.0) if prior else None,
        "mix": section.get("mix", 0.0) if prior else None,
        "rewarm": section.get("rewarm", False) if prior else None,
    }
    identity = _flat({**run_identity(config), "untrained": row["untrained"]})
    for key in ("seed", "name", *(() if prior else ("rela.head", "rela.handover"))):
        identity.pop(key, None)
    return settings, identity


def _flat(value: Any, prefix: str = "") -> Row:
    if not isinstance(value, dict):
        return {prefix: value}
    parts = (_flat(part, f"{prefix}.{key}".strip(".")) for key, part in value.items())
    return {key: one for part in parts for key, one in part.items()}


def _name(cells: list[Cell]) -> None:
    """Give names, and what tells cells apart that would be called the same."""
    plain = [plain_name(cell.settings) for cell in cells]
    for cell, name in zip(cells, plain, strict=True):
        namesakes = [other.identity for other, its in zip(cells, plain, strict=True) if its == name]
        keys = dict.fromkeys(key for identity in namesakes for key in identity)
        differing = [key for key in keys if len({str(identity.get(key)) for identity in namesakes}) > 1]
        cell.name = ", ".join([name, *(f"{key} {cell.identity.get(key)}" for key in differing)])


def plain_name(settings: Row) -> str:
    """`BYOL 100 %`, `ReLA(resnet56) + BYOL 20 %, trained head`: a run without what all runs of a grid share."""
    if settings["method"] == "untrained":
        return "untrained student"
    method = _METHODS.get(settings["method"], settings["method"])
    extras = [] if settings["selection"] == "uniform" else [selection_name(settings["selection"])]
    if settings["prior"] is None:
        return ", ".join([f"{method} {settings['data_ratio'] * 100:g} %", *extras])
    if settings["handover"] != "adaptive":
        extras.append(f"handover {settings['handover']:g}" if settings["handover"] != 1 else "never handed over")
    if settings.get("mix"):
        share = "from 1 to 0" if settings["mix"] == "linear" else f"of {settings['mix']:g}"
        extras.append(f"then a share {share}")
    if settings.get("rewarm"):
        extras.append("schedules anew")
    if settings.get("power", 1.0) != 1.0:
        extras.append(f"power {settings['power']:g}")
    if settings["head"] != "frozen":
        extras.append(f"{settings['head']} head")
    return ", ".join([f"ReLA({settings['prior']}) + {method} {settings['data_ratio'] * 100:g} %", *extras])


def selection_name(selection: Any) -> str:
    """`coverage`, or with options `coverage(clusters=20)`."""
    if isinstance(selection, str):
        return selection
    options = ", ".join(f"{key}={value}" for key, value in selection.items() if key != "name")
    return f"{selection['name']}({options})" if options else selection["name"]


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
