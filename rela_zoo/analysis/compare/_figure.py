"""The figure of a comparison: heat maps of three measures, and the spectra."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np

from rela_zoo.analysis.compare._measure import PAIR_MEASURES, Comparison

_SHOWN = ("linear_cka", "mutual_knn", "transport_r2")


def draw(found: Comparison) -> bytes:
    """A PNG of the comparison."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(found.names)
    side = max(3.4, 0.62 * count + 2.2)
    figure = Figure(figsize=(2 * side + 1, 2 * side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2).ravel()
    for ax, key in zip(axes, _SHOWN, strict=False):
        _heat_map(ax, np.array(found.pairs[key]), found.names, PAIR_MEASURES[key])
    last = axes[-1]
    for name, space in zip(found.names, found.spaces, strict=True):
        shares = np.cumsum(space.explained_variance)
        last.plot(np.arange(1, len(shares) + 1), 100 * shares, label=f"{name} ({space.dim})", lw=1.6)
    last.set_xscale("log")
    last.set_xlabel("principal directions")
    last.set_ylabel("variance explained, %")
    last.set_title("Spectra", fontsize=10)
    last.grid(alpha=0.25)
    last.legend(fontsize=7, frameon=False, loc="lower right")
    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()


def _heat_map(ax: Any, matrix: np.ndarray, names: tuple[str, ...], title: str) -> None:
    ax.imshow(np.ma.masked_invalid(matrix), vmin=0, vmax=1, cmap="viridis")
    ticks = np.arange(len(names))
    ax.set_xticks(ticks, names, rotation=40, ha="right", fontsize=7)
    ax.set_yticks(ticks, names, fontsize=7)
    for i in ticks:
        for j in ticks:
            value = matrix[i, j]
            # Dark cells need light figures; viridis turns bright above about 0.6.
            colour = "black" if value > 0.6 else "white"
            ax.text(
                j, i, "–" if np.isnan(value) else f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour
            )
    ax.set_title(title, fontsize=10)
