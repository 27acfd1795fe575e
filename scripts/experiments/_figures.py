"""Figures of the report."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from experiments._compare import MEASURES, price
from experiments._summary import Cell, cost_to_reach, curve

_AXES = {
    "samples_seen": ("samples seen (thousands)", 1e-3),
    "flops": ("operations (TFLOP), with the prior's", 1e-12),
    "wall_seconds": ("seconds, with the prior's", 1.0),
}
# Lines that can be told apart.
_MOST_PRICES = 8


def draw_curves(cells: list[Cell], cost: str, start: float | None, target: float | None, path: Path) -> None:
    """Accuracy against a cost: one line a cell, the mean over seeds, the range of the seeds shaded.

    The axis is logarithmic where the judgements are spread so.
    """
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8.5, 4.8), layout="constrained")
    title, scale = _AXES[cost]
    logarithmic = all(row["engine"] == "product" for cell in cells for row in cell.rows)
    for number, cell in enumerate(cells):
        xs, ys = curve(cell.rows, cost, start)
        style = {"color": _colour(number), "linestyle": "-" if cell.settings["prior"] else "--"}
        # What has cost nothing has no place on a logarithmic axis.
        shown = slice(int(logarithmic and xs[0] == 0), None)
        places = np.array(xs[shown]) * scale
        axes.plot(places, np.array(ys[shown]) * 100, label=cell.name, marker="o", markersize=3, linewidth=1.6, **style)
        each = np.array([curve([row], cost, start)[1][: len(ys)][shown] for row in cell.rows]) * 100
        axes.fill_between(places, each.min(0), each.max(0), alpha=0.15, color=style["color"], linewidth=0)
    if logarithmic:
        axes.set_xscale("log", subs=(2, 5))
        axes.tick_params(which="both", labelsize=9)
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis("{x:g}")
    for value, text in ((target, "BYOL on all data"), (start, "untrained student")):
        if value is not None:
            axes.axhline(value * 100, color="0.5", linewidth=0.8, linestyle=":")
            axes.annotate(
                text,
                (1, value * 100),
                xycoords=("axes fraction", "data"),
                ha="right",
                va="bottom",
                fontsize=8,
                color="0.4",
            )
    axes.set(xlabel=title, ylabel="linear probe, %")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_accuracies(cells: list[Cell], path: Path) -> None:
    """Final linear accuracies: a dot for each seed, a bar at the mean."""
    plt = _pyplot()
    figure, axes = plt.subplots(figsize=(8.5, 0.9 + 0.26 * len(cells)), layout="constrained")
    for row, cell in enumerate(cells):
        values = np.array(cell.values("linear_accuracy")) * 100
        colour = _colour(0 if cell.settings["prior"] else 7)
        axes.plot(values, np.full(len(values), row), "o", markersize=4, alpha=0.6, color=colour, markeredgewidth=0)
        axes.plot([values.mean()], [row], "|", markersize=12, markeredgewidth=2, color=colour)
    axes.set_yticks(range(len(cells)), [cell.name for cell in cells], fontsize=8)
    axes.set_ylim(len(cells) - 0.5, -0.5)
    axes.grid(axis="x", linewidth=0.4, alpha=0.6)
    axes.set_xlabel("linear probe, %: dots are seeds, bars their mean")
    axes.spines[["top", "right", "left"]].set_visible(False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_costs(cells: list[Cell], start: float | None, target: float, path: Path) -> None:
    """Bars: cost of reaching the target, as a multiple of what full-data BYOL needs; cells that never do are named."""
    plt = _pyplot()
    reference = next(cell for cell in cells if cell.is_reference)
    shown = [cell for cell in cells if _ratio(cell, reference, "flops", start, target) is not None]
    figure, axes = plt.subplots(figsize=(8.5, 0.8 + 0.42 * max(1, len(shown))), layout="constrained")
    height = 0.26
    for offset, (cost, text) in enumerate(
        (("samples_seen", "samples"), ("flops", "operations"), ("wall_seconds", "seconds"))
    ):
        ratios = [_ratio(cell, reference, cost, start, target) for cell in shown]
        places = [row + (offset - 1) * height for row in range(len(shown))]
        axes.barh(places, ratios, height, label=text, color=_colour(offset))
        for place, ratio in zip(places, ratios, strict=True):
            axes.annotate(
                f"{ratio:.2f}", (ratio, place), xytext=(3, 0), textcoords="offset points", va="center", fontsize=7
            )
    axes.axvline(1, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(shown)), [cell.name for cell in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel(f"cost of reaching {target * 100:.1f} %, as a multiple of what BYOL on all data needs")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


def draw_prices(found: list[Cell], untrained: Cell | None, path: Path) -> None:
    """Both measures against CPU-seconds with the embedding, on a logarithmic axis: a line a cell, a dot a judgement.

    Where there are too many cells for one picture, those with the most seeds.
    """
    plt = _pyplot()
    shown = [one for one in found if one is not untrained]
    if len(shown) > _MOST_PRICES:
        seeds = max(len(cell.rows) for cell in shown)
        shown = [cell for cell in shown if len(cell.rows) == seeds][:_MOST_PRICES]
    figure, both = plt.subplots(1, 2, figsize=(11, 4 + 0.19 * len(shown)), layout="constrained")
    titles = ("linear probe, %", "20 nearest neighbours, %")
    for axes, measure, title in zip(both, MEASURES, titles, strict=True):
        for number, cell in enumerate(shown):
            points = range(min(len(row["curve"]) for row in cell.rows))
            xs = [price(cell.rows, point, "cpu") for point in points]
            each = np.array([[row["curve"][point][measure] for point in points] for row in cell.rows]) * 100
            style = {"color": _colour(number), "linestyle": "-" if cell.settings["prior"] else "--"}
            axes.plot(xs, each.mean(0), marker="o", markersize=3, linewidth=1.5, label=cell.name, **style)
            axes.fill_between(xs, each.min(0), each.max(0), alpha=0.12, color=style["color"], linewidth=0)
        if untrained is not None:
            start = float(np.mean(untrained.values(measure))) * 100
            axes.axhline(start, color="0.5", linewidth=0.8, linestyle=":", label=untrained.name)
        axes.set_xscale("log", subs=(2, 5))
        for axis in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
            axis("{x:g}")
        axes.set(xlabel="CPU-seconds, with the embedding by the prior", ylabel=title)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = both[0].get_legend_handles_labels()
    columns = 1 if max(map(len, labels)) > 50 else 2  # two of long names would not fit side by side
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=columns)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _ratio(cell: Cell, reference: Cell, cost: str, start: float | None, target: float) -> float | None:
    """The cost of reaching the target over the reference's; None where it is not reached."""
    own, base = (cost_to_reach(each.rows, target, cost, start) for each in (cell, reference))
    return None if own is None or base is None else own / base


def _colour(number: int) -> str:
    return f"C{number % 10}"


def _pyplot():
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt
