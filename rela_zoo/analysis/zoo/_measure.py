"""Make one cell: embed, fit, measure. What does it is elsewhere; here it is put together."""

from __future__ import annotations

import math
import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from rela_zoo._io.digest import sample_order
from rela_zoo.analysis import similarity
from rela_zoo.analysis.evaluate import few_label_probe, knn_accuracy, linear_probe
from rela_zoo.analysis.zoo._cells import Cell, Places, ZooPrior, kept_transport
from rela_zoo.analysis.zoo._data import ZooData, seen
from rela_zoo.data.held_out import LabelledImages, labelled_parts
from rela_zoo.embeddings import EmbeddingTable, embed, open_embeddings
from rela_zoo.prior import load_prior
from rela_zoo.registry import Settings
from rela_zoo.transport import PriorTransport, TargetTransport, fit_both_ways, fit_transport

_NEIGHBOURS = 10  # of mutual nearest neighbours, as `compare` has it


def make_prior_cell(
    places: Places, cell: Cell, settings: Settings, *, device: str | None, small_bytes: int,
    progress: bool | Literal["always"] = True,
) -> tuple[dict[str, Any], list[Path]]:  # fmt: skip
    """Embed a data set with a prior, fit the target transport, measure; what was found, and the files it lies in."""
    data, (prior,) = cell.data, cell.priors
    with warnings.catch_warnings():
        # Of an entry whose weights have no known hash: it is said once, when the zoo is planned.
        warnings.filterwarnings("ignore", message=".*has no known hash.*")
        network = load_prior(prior.name)
    tables = {
        part: embed(network, source, places.rows(data, prior, part), device=device, progress=progress)
        for part, source in data.parts.items()
    }
    table = tables["train"]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*directions only.*")  # the number of components is in the results
        transport = fit_transport(table, device=device)
    path = places.transport(data, prior)
    transport.save(path)
    small = _small_target(places, data, prior, transport, small_bytes)
    rows = _sample(table, settings.sample)
    found = {
        "identity": dict(table.info.identity),
        "dim": transport.dim,
        "seen": seen(prior.spec, data.about.seen_as),
        "rows_digest": table.digest,
        "rank_me": _number(similarity.effective_rank(rows)),
        "participation_ratio": _number(similarity.participation_ratio(rows)),
        "intrinsic_dimension": _number(similarity.two_nn_dimension(rows)),
        "spectrum": _spectrum(transport),
        **_accuracies(data, tables, settings),
        "transport": small,
    }
    return found, [path, *([] if small is None else [places.results / small["file"]])]


def make_pair_cell(
    places: Places, cell: Cell, settings: Settings, *, device: str | None, small_bytes: int
) -> tuple[list[dict[str, Any]], list[Path]]:
    """Fit the transports between two priors, both ways; what was found, and the files it lies in."""
    data, (one, other) = cell.data, cell.priors
    a, b = (open_embeddings(places.rows(data, prior, "train")) for prior in (one, other))
    x, y = _sample(a, settings.sample), _sample(b, settings.sample)
    alike = {
        "linear_cka": round(similarity.linear_cka(x, y), 5),
        "mutual_knn": round(similarity.mutual_knn(x, y, k=_NEIGHBOURS), 5),
    }
    found, files = [], []
    for transport, ends in zip(fit_both_ways(a, b, device=device), ((one, other), (other, one)), strict=True):
        path = places.transport(data, *ends)
        transport.save(path)
        files.append(path)
        small = _small_between(places, data, ends, transport, small_bytes)
        if small is not None:
            files.append(places.results / small["file"])
        quality = transport.quality
        assert quality is not None  # every fit measures it
        found.append(
            {
                "source": ends[0].id,
                "target": ends[1].id,
                "r2": round(quality.r2, 5),
                "cosine": round(quality.cosine, 5),
                "retrieval_at_1": round(quality.retrieval_at_1, 5),
                "retrieval_at_5": round(quality.retrieval_at_5, 5),
                "retrieval_among": quality.retrieval_among,
                "rows_held_out": quality.rows_held_out,
                "strength": transport.strength,
                **alike,
                "transport": small,
            }
        )
    return found, files


def forget(places: Places, cell: Cell) -> None:
    """Clear a finished cell away, so that it is made anew; of a prior its embeddings, too."""
    places.record(cell).unlink(missing_ok=True)
    for path in places.transports_of(cell):
        path.unlink(missing_ok=True)
    if len(cell.priors) == 1:
        shutil.rmtree(places.rows(cell.data, cell.priors[0], "train").parent, ignore_errors=True)


def _small_target(
    places: Places, data: ZooData, prior: ZooPrior, transport: TargetTransport, small_bytes: int
) -> dict[str, Any] | None:
    """As many leading components in half precision as fit into the bytes; None if not a single one does."""
    count = min(transport.max_dim, small_bytes // (2 * transport.dim))
    if count < 1:
        return None
    path = places.results / data.about.name / f"{prior.id}.safetensors"
    transport.leading(count).save(path, half=True)
    return kept_transport(places, path, count)


def _small_between(
    places: Places, data: ZooData, ends: tuple[ZooPrior, ZooPrior], transport: PriorTransport, small_bytes: int
) -> dict[str, Any] | None:
    if 2 * transport.weight.numel() > small_bytes:
        return None
    path = places.results / data.about.name / f"{ends[0].id}--{ends[1].id}.safetensors"
    transport.save(path, half=True)
    return kept_transport(places, path)


def _sample(table: EmbeddingTable, count: int) -> torch.Tensor:
    """(n, D) float64 rows of the samples that a hash of their ids puts first: the same samples for every prior."""
    chosen = sorted(sorted(table.ids, key=sample_order)[:count])
    return table.rows(table.positions(chosen)).to(torch.float64)


def _spectrum(transport: TargetTransport) -> dict[str, float]:
    shares = np.cumsum(transport.stats.explained_variance_ratio)
    counts = [1 << power for power in range(16) if 1 << power < len(shares)]
    return {str(count): round(min(float(shares[count - 1]), 1.0), 5) for count in (*counts, len(shares))}


def _accuracies(data: ZooData, tables: dict[str, EmbeddingTable], settings: Settings) -> dict[str, float]:
    """Of probes on the rows; empty for data without labels."""
    parts = _labelled(data)
    if parts is None:
        return {}
    learn, judge = parts
    train_x, train_y = _rows_of(tables["train"], learn, settings.labelled)
    test_x, test_y = _rows_of(tables.get("test", tables["train"]), judge, settings.labelled)
    features = train_x, train_y, test_x, test_y
    found = {"knn": knn_accuracy(*features, k=settings.neighbours), "probe": linear_probe(*features)}
    if min(np.unique(train_y, return_counts=True)[1]) >= settings.per_class:
        few = few_label_probe(*features, per_class=settings.per_class, draws=settings.draws, seed=settings.seed)
        found["few_label"] = few.mean
    return {name: round(value, 5) for name, value in found.items()}


def _labelled(data: ZooData) -> tuple[LabelledImages, LabelledImages] | None:
    labels = data.train.labels
    if labels is None or len({int(one) for one in labels if one >= 0}) < 2:
        return None
    if data.test is not None:
        return None if data.test.labels is None else labelled_parts(data.train, data.test)
    every, judged = np.asarray(labels, np.int64), data.judged()
    learn, judge = np.where(judged, -1, every), np.where(judged, every, -1)
    return tuple(LabelledImages(data.train, one, data.train.classes) for one in (learn, judge))  # type: ignore[return-value]


def _rows_of(table: EmbeddingTable, part: LabelledImages, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (n, D) float32 and labels (n,) of labelled images, of the first `most` by a hash of their ids."""
    order = sorted(range(len(part)), key=lambda i: sample_order(part.ids[i]))[:most]
    rows = table.rows(table.positions([part.ids[i] for i in order]))
    return rows.float().numpy(), part.labels[order]


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 4)
