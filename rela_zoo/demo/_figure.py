"""The demo's figure: accuracy against samples seen, and what prior and students make of held-out images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo.analysis.evaluate import in_two_dimensions, scatter


def draw(
    path: Path,
    curves: Mapping[str, Sequence[tuple[int, float]]],
    untrained: float,
    clouds: Mapping[str, np.ndarray],
    labels: np.ndarray,
) -> None:
    """Save the figure as PNG.

    Args:
        path: file to write.
        curves: run → points (samples seen, few-label accuracy in [0, 1]).
        untrained: few-label accuracy of the untrained student, drawn as a line.
        clouds: title → features (N, D) of the held-out images; four at most.
        labels: (N,) int, their classes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    halves: Any = figure.subfigures(1, 2, width_ratios=(1.15, 1))
    left, right = halves
    axes = left.subplots()
    colours: list[Any] = ["#0072B2", "#56B4E9", "#D55E00", "#E69F00"]
    for (name, points), colour, marker in zip(curves.items(), colours, "osD^", strict=False):
        seen, accuracy = zip(*points, strict=True)
        axes.plot(seen, 100 * np.asarray(accuracy), marker=marker, ms=5, lw=1.8, color=colour, label=name)
    axes.axhline(100 * untrained, color="0.5", ls=":", lw=1.3, label="untrained student")
    axes.set_xlim(left=0)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_xlabel("samples seen in training")
    axes.set_ylabel("accuracy with 10 labels a class, %")
    axes.set_title("Held-out digits", fontsize=11)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8.5)
    panels = np.atleast_1d(right.subplots(2, 2)).ravel()
    for panel in panels:
        panel.set_axis_off()
    handles: list[Any] = []
    for panel, (title, features) in zip(panels, clouds.items(), strict=False):
        handles = scatter(panel, in_two_dimensions(features), labels, [str(digit) for digit in range(10)])
        panel.set_title(title, fontsize=9.5)
    right.suptitle(f"Features of {len(labels)} held-out digits, t-SNE (perplexity 30, seed 0)", fontsize=10)
    right.legend(
        handles=handles,
        loc="outside lower center",
        ncols=10,
        frameon=False,
        fontsize=8,
        columnspacing=0.8,
        handletextpad=0.0,
        markerscale=2,
    )
    figure.savefig(path, dpi=130)
