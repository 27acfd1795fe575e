"""What a comparison looks like: a figure of heat maps and spectra, and one self-contained HTML page.

The page has no script and needs no other file.
"""

from __future__ import annotations

import base64
from html import escape
from io import BytesIO
from typing import Any

import numpy as np

from rela_zoo.analysis.compare._measure import PAIR_MEASURES, Comparison

_SHOWN = ("linear_cka", "mutual_knn", "transport_r2")


def render_figure(found: Comparison) -> bytes:
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


_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; max-width: 72rem; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem }
.wide { overflow-x: auto } table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap }
th:first-child { text-align: left } img { max-width: 100%; height: auto } p.note { color: #555 }
"""


def render_page(found: Comparison, figure: bytes, dataset: str) -> str:
    """The comparison as an HTML page.

    Args:
        found: the comparison.
        figure: its PNG, which is put inside the page.
        dataset: what the samples are, for the title.
    """
    title = f"{len(found.names)} priors on {escape(dataset)}"
    image = base64.b64encode(figure).decode("ascii")
    sections = "\n".join(_matrix(found, key) for key in PAIR_MEASURES)
    return f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head>
<body>
<h1>{title}</h1>
<p class="note">{found.samples:,} samples in common; similarities on {found.sampled:,} of them. Transports are fitted by
ridge regression, and judged on a tenth of the samples that had no part in the fit. In every matrix the row is the
source. Similarities in representation are no promise of accuracy: an untrained network belongs among the rows.
{escape(found.caution)}</p>
<img alt="Heat maps of linear CKA, shared neighbours and transports, and spectra" src="data:image/png;base64,{image}">
<h2>Spaces</h2>
{_spaces(found)}
{sections}
</body>
</html>
"""


def _spaces(found: Comparison) -> str:
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{space.dim}</td><td>{space.effective_rank:.1f}</td>"
        f"<td>{space.participation_ratio:.1f}</td><td>{space.intrinsic_dimension:.1f}</td></tr>"
        for name, space in zip(found.names, found.spaces, strict=True)
    )
    head = "<tr><th>prior</th><th>dim</th><th>RankMe</th><th>participation ratio</th><th>TwoNN dimension</th></tr>"
    return f'<div class="wide"><table id="spaces">{head}{rows}</table></div>'


def _matrix(found: Comparison, key: str) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in found.names)
    rows = "".join(
        f"<tr><th>{escape(name)}</th>" + "".join(f"<td>{_number(value)}</td>" for value in values) + "</tr>"
        for name, values in zip(found.names, found.pairs[key], strict=True)
    )
    title = escape(PAIR_MEASURES[key])
    return f'<h2>{title}</h2><div class="wide"><table id="{key}"><tr><th></th>{head}</tr>{rows}</table></div>'


def _number(value: float) -> str:
    return "–" if value != value else f"{value:.3f}"
