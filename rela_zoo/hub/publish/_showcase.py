"""The figure of a published prior: how much of its embeddings' variance the leading components hold."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np


def spectrum_figure(title: str, spectra: Mapping[str, tuple[int, tuple[float, ...]]]) -> bytes:
    """A PNG: for each data set the cumulative explained variance, and each component's own share.

    Args:
        title: name of the prior.
        spectra: data set → rows fitted, and fractions of the variance, falling; they add up to at most 1.

    Returns:
        the file's bytes, the same for the same input and version of matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.subplots(1, 2)
    left, right = axes
    colours = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
    for number, (name, (rows, ratio)) in enumerate(sorted(spectra.items())):
        share = np.asarray(ratio, dtype=np.float64)
        count = np.arange(1, len(share) + 1)
        colour = colours[number % len(colours)]
        total = np.minimum(np.cumsum(share), 1.0)
        half, most = (int(np.searchsorted(total, level)) + 1 for level in (0.5, 0.9))
        label = f"{name} ({rows:,} images): half in {half}, 90 % in {most if total[-1] >= 0.9 else f'> {len(share)}'}"
        left.plot(count, 100 * total, color=colour, lw=1.8, label=label)
        right.plot(count, 100 * share, color=colour, lw=1.8)
    left.axhline(90, color="0.6", ls=":", lw=1)
    left.set_ylim(0, 102)
    left.set_ylabel("variance explained, %")
    left.set_title("leading components together", fontsize=10)
    left.legend(frameon=False, fontsize=8, loc="lower right")
    right.set_yscale("log")
    right.set_ylabel("share of the variance, %")
    right.set_title("each component", fontsize=10)
    for panel in (left, right):
        panel.set_xscale("log")
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.set_xlabel("principal component")
        panel.grid(alpha=0.25)
    figure.suptitle(f"Spectrum of the embeddings by {title}", fontsize=11)
    out = io.BytesIO()
    # Without the version and the date that matplotlib writes: the same picture is the same file.
    figure.savefig(out, format="png", dpi=110, metadata={"Software": None})
    return out.getvalue()
