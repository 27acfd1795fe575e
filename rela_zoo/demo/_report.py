"""The demo's table and its `results.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rela_zoo._io.files import atomic_write
from rela_zoo.demo._student import Scores


@dataclass(frozen=True)
class Row:
    """One run: accuracies are fractions of the held-out images; `curve` is (samples seen, few-label accuracy)."""

    name: str
    title: str
    prior: str | None
    data_ratio: float
    probe_accuracy: float
    few_label_accuracy: float
    few_label_draws: tuple[float, ...]
    knn_accuracy: float
    seed: int
    samples_seen: int = 0
    wall_seconds: float = 0.0
    handover_step: int | None = None
    curve: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of_json(cls, kept: dict[str, Any]) -> Row:
        """A row as it was before it was written: JSON knows lists only."""
        draws, curve = tuple(kept["few_label_draws"]), tuple((n, accuracy) for n, accuracy in kept["curve"])
        return cls(**{**kept, "few_label_draws": draws, "curve": curve})

    @classmethod
    def of_scores(
        cls, name: str, title: str, prior: str | None, ratio: float, scores: Scores, seed: int, **rest: Any
    ) -> Row:
        """A row from scores."""
        return cls(
            name=name,
            title=title,
            prior=prior,
            data_ratio=ratio,
            probe_accuracy=round(scores.probe, 4),
            few_label_accuracy=round(scores.few_label, 4),
            few_label_draws=tuple(round(x, 4) for x in scores.few_label_draws),
            knn_accuracy=round(scores.knn, 4),
            seed=seed,
            **rest,
        )


def write_results(
    path: Path, rows: Sequence[Row], priors: dict[str, Scores], env: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Write everything measured, with the settings and the environment it was measured in."""
    runs = [{key: value for key, value in vars(row).items() if key != "title"} for row in rows]
    measured = {
        name: {
            "probe_accuracy": round(scores.probe, 4),
            "few_label_accuracy": round(scores.few_label, 4),
            "knn_accuracy": round(scores.knn, 4),
        }
        for name, scores in priors.items()
    }
    content = {"runs": runs, "priors": measured, "settings": settings, "environment": env}
    atomic_write(path, (json.dumps(content, indent=2) + "\n").encode("utf-8"))


def print_table(rows: Sequence[Row], prior: Scores, prior_name: str, draws: int) -> None:
    """Print one table of all runs, and of the prior itself."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    # Narrow enough for a terminal of 80 columns, where rich would otherwise cut words off.
    title = f"Held-out accuracy on digits, % (few labels: 10 a class, mean of {draws} draws)"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("\nrun")
    headers = ("few\nlabels", "all\nlabels", "\n20-NN", "samples\nseen", "wall\ntime", "hand-\nover")
    for header in headers:
        table.add_column(header, justify="right", no_wrap=True)
    for row in rows:
        accuracies = (row.few_label_accuracy, row.probe_accuracy, row.knn_accuracy)
        table.add_row(
            row.title,
            *(f"{100 * x:.1f}" for x in accuracies),
            f"{row.samples_seen:,}",
            f"{row.wall_seconds:.0f} s" if row.samples_seen else "",
            "" if row.prior is None else "none" if row.handover_step is None else str(row.handover_step),
        )
    table.add_section()
    accuracies = (prior.few_label, prior.probe, prior.knn)
    table.add_row(f"{prior_name} itself", *(f"{100 * x:.1f}" for x in accuracies), "", "", "")
    Console().print(table)
