"""Rows for the benchmark of selections: a mixture with planted near-duplicates, as a true artefact on disk."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rela_zoo.embeddings import open_embeddings, write_rows
from rela_zoo.selection.geometry import default_clusters, principal_points
from rela_zoo.transport import TargetTransport, fit_transport

ROWS, DIM, CLASSES, DUPLICATES = 1_281_167, 512, 1000, 0.02
DIMS, THRESHOLD, SEED = 128, 0.95, 0
BLOCK = 8192
DEVICE = "cuda" if torch.cuda.is_available() else None


def make(folder: Path, rows: int) -> None:
    """The artefact, its transport, and what is true of it: class of each row, (copy, original) pairs."""
    draws = torch.Generator().manual_seed(0)
    spectrum = torch.arange(1, DIM + 1).rsqrt()
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=draws))[0] * 3
    classes = torch.randn(CLASSES, DIM, generator=draws) * spectrum
    mean = torch.randn(DIM, generator=draws) * 2
    labels, pairs = [], []

    def blocks() -> Iterator[Tensor]:
        for start in range(0, rows, BLOCK):
            count = min(BLOCK, rows - start)
            label = torch.randint(CLASSES, (count,), generator=draws)
            block = classes[label] + torch.randn(count, DIM, generator=draws) * spectrum
            copies, originals = torch.randperm(count, generator=draws)[: 2 * int(DUPLICATES * count)].view(2, -1)
            noise = torch.randn(len(copies), DIM, generator=draws) * spectrum
            part = 0.05 + 0.35 * torch.rand(len(copies), 1, generator=draws)
            noise *= part * block[originals].norm(dim=1, keepdim=True) / noise.norm(dim=1, keepdim=True)
            block[copies], label[copies] = block[originals] + noise, label[originals]
            labels.append(label)
            pairs.append(torch.stack([copies, originals]) + start)
            yield block @ turn + mean

    ids = [f"n{i % 1000:08d}/n{i % 1000:08d}_{i}.JPEG" for i in range(rows)]
    table = write_rows(folder / "table", blocks(), ids, prior={"id": "random-mixture"})
    fit_transport(table).save(folder / "transport")
    positions = np.random.default_rng(1).permutation(rows)
    index_of = np.argsort(positions)
    np.savez(
        folder / "truth.npz",
        positions=positions,
        labels=torch.cat(labels).numpy()[positions],
        pairs=index_of[torch.cat(pairs, 1).numpy()],
    )


class Inputs:
    """What a run has when it begins: the table, the transport, the join; and the points when asked for."""

    def __init__(self, folder: Path) -> None:
        truth = np.load(folder / "truth.npz")
        self.positions, self.labels, self.pairs = truth["positions"], truth["labels"], truth["pairs"]
        self.table, self.transport = open_embeddings(folder / "table"), TargetTransport.load(folder / "transport")
        self.cells = default_clusters(len(self.table))
        self.points_seconds = 0.0

    def points(self, dims: int = DIMS) -> np.ndarray:
        started = time.perf_counter()
        found = principal_points(self.table, self.positions, self.transport, dims, device=DEVICE)
        self.points_seconds = time.perf_counter() - started
        return found
