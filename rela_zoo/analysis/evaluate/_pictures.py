"""Pictures of an evaluation: which classes are taken for which, and the features in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rela_zoo._io.files import atomic_write

if TYPE_CHECKING:
    from rela_zoo.analysis.evaluate._judge import Evaluation

# More images than this make the map slow and say no more; they are drawn by chance.
_SHOWN = 2000
_PERPLEXITY = 30
# More classes than this have no figures in the cells, nor a legend.
_NAMED = 20


def in_two_dimensions(features: np.ndarray, seed: int = 0) -> np.ndarray:
    """t-SNE of features (N, D) float → (N, 2), after standardising each dimension; N ≥ 4.

    The perplexity is 30, or a third of the other samples where that is less.
    """
    from sklearn.manifold import TSNE
    from sklearn.preprocessing import StandardScaler

    scaled = StandardScaler().fit_transform(features)
    perplexity = min(_PERPLEXITY, (len(features) - 1) / 3)
    return TSNE(n_components=2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(scaled)


def scatter(axes: Any, points: np.ndarray, labels: np.ndarray, names: Sequence[str]) -> list[Any]:
    """Draw points coloured by class.

    Args:
        axes: matplotlib's.
        points: (N, 2) float.
        labels: (N,) int, positions in `names`.
        names: of the classes.

    Returns:
        A handle a class for a legend.
    """
    from matplotlib import colormaps

    colours = colormaps["tab10" if len(names) <= 10 else "tab20" if len(names) <= _NAMED else "gist_rainbow"]
    picked = [colours(i if len(names) <= _NAMED else i / max(1, len(names) - 1)) for i in range(len(names))]
    axes.set_axis_off()
    return [
        axes.scatter(*points[labels == i].T, color=picked[i], s=8, linewidths=0, label=name)
        for i, name in enumerate(names)
    ]


def save_pictures(found: Evaluation, folder: Path, names: Sequence[str], subject: str) -> list[Path]:
    """Write `confusion.png` and `map.png`.

    Args:
        found: what they show.
        folder: where to put them.
        names: of the classes, in the order of `found.classes`.
        subject: what was judged, for the titles.

    Returns:
        The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made = {"confusion.png": _confusion(found, names, subject)}
    if len(found.features) > 3:
        made["map.png"] = _map(found, names, subject)
    for name, data in made.items():
        atomic_write(folder / name, data)
    return [folder / name for name in made]


def _figure(width: float, height: float) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _png(figure: Any) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    figure.savefig(stream, format="png", dpi=130)
    return stream.getvalue()


def _confusion(found: Evaluation, names: Sequence[str], subject: str) -> bytes:
    count = len(names)
    side = min(14.0, max(4.2, 0.42 * count + 2.2))
    figure = _figure(side + 0.6, side)
    axes = figure.subplots()
    totals = found.confusion.sum(axis=1, keepdims=True)
    shares = found.confusion / np.maximum(totals, 1)
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    step = max(1, -(-count // 60))
    ticks = range(0, count, step)
    size = 8 if count <= _NAMED else 5
    axes.set_xticks(ticks, [names[i] for i in ticks], rotation=45, ha="right", rotation_mode="anchor", fontsize=size)
    axes.set_yticks(ticks, [f"{names[i]} ({totals[i, 0]})" for i in ticks], fontsize=size)
    if count <= _NAMED:
        for i, j in zip(*np.nonzero(found.confusion), strict=True):
            colour = "white" if shares[i, j] > 0.55 else "#222"
            axes.text(j, i, found.confusion[i, j], ha="center", va="center", fontsize=8, color=colour)
    axes.set_xlabel("taken for, by the linear probe")
    axes.set_ylabel("class (held-out images)")
    axes.set_title(f"{subject}\nlinear probe, {100 * found.probe:.1f} % right", fontsize=9.5)
    figure.colorbar(image, ax=axes, shrink=0.8, label="share of the class")
    return _png(figure)


def _map(found: Evaluation, names: Sequence[str], subject: str) -> bytes:
    picks = np.arange(len(found.features))
    if len(picks) > _SHOWN:
        picks = np.sort(np.random.default_rng(0).permutation(picks)[:_SHOWN])
    figure = _figure(7.4, 5.6)
    axes = figure.subplots()
    where = np.searchsorted(found.classes, found.labels[picks])
    handles = scatter(axes, in_two_dimensions(found.features[picks]), where, names)
    perplexity = min(_PERPLEXITY, (len(picks) - 1) / 3)
    axes.set_title(
        f"{subject}\nt-SNE (perplexity {perplexity:.0f}, seed 0) of the features of {len(picks):,} held-out images",
        fontsize=9.5,
    )
    if len(names) <= _NAMED:
        figure.legend(handles=handles, loc="outside right center", frameon=False, fontsize=8, markerscale=2)
    return _png(figure)
