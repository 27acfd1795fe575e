"""What a zoo will cost: cells, seconds, bytes. Seconds are those of this machine, tried out on a few images."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import torch

from rela_zoo.analysis.zoo._build import Zoo
from rela_zoo.analysis.zoo._cells import ZooPrior
from rela_zoo.analysis.zoo._data import ZooData
from rela_zoo.prior import load_prior

_TRIED = 16
# A fit of float64 moments, and measures on top of it: how many times the bare product.
_OVERHEAD = 3.0


@dataclass(frozen=True)
class CellEstimate:
    """What one cell costs.

    Attributes:
        name: of the cell.
        finished: it is there already, and costs nothing.
        seconds: of wall time, roughly.
        bytes: of its files.
    """

    name: str
    finished: bool
    seconds: float
    bytes: int


def estimate(zoo: Zoo, *, device: str | None = None) -> list[CellEstimate]:
    """What the chosen cells cost. Runs each prior that is to be run on a few images; writes nothing.

    Args:
        zoo: as planned.
        device: as for `build_zoo`.
    """
    here = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    speed = _product_speed(here)
    rates: dict[str, tuple[float, int]] = {}
    found = []
    for cell in zoo.chosen:
        for prior in cell.priors:
            if prior.id not in rates:
                rates[prior.id] = _rate(prior, cell.data, here)
        dims = [rates[prior.id][1] for prior in cell.priors]
        images, rows = cell.data.images, len(cell.data.train)
        if len(dims) == 1:
            size = images * dims[0] * 2 + 4 * dims[0] ** 2
            seconds = images / rates[cell.priors[0].id][0] + _OVERHEAD * _fit(rows, dims[0]) / speed
        else:
            size = 2 * 4 * dims[0] * dims[1]
            seconds = _OVERHEAD * _fit(rows, sum(dims)) / speed
        finished = zoo.is_finished(cell)
        found.append(CellEstimate(cell.name, finished, 0.0 if finished else seconds, size))
    return found


def _fit(rows: int, dim: int) -> float:
    """Operations of moments and of an eigendecomposition."""
    return 2.0 * rows * dim**2 + 25.0 * dim**3


def _product_speed(device: torch.device) -> float:
    """Operations a second of a product in float64."""
    one = torch.rand(512, 512, dtype=torch.float64, device=device)
    _ = float((one @ one)[0, 0])
    started = time.perf_counter()
    _ = float((one @ one)[0, 0])
    return float(2 * 512**3 / max(time.perf_counter() - started, 1e-6))


@torch.inference_mode()
def _rate(prior: ZooPrior, data: ZooData, device: torch.device) -> tuple[float, int]:
    """Images a second of decoding and the network, one process, after a first batch; and the width of the rows."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = load_prior(prior.name, device=device)
    seconds = 0.0
    for _ in range(2):  # the first time warms up
        started = time.perf_counter()
        batch = torch.stack([network.transform(data.train.image(i)) for i in range(min(_TRIED, len(data.train)))])
        _ = float(network(batch.to(device)).sum())
        seconds = time.perf_counter() - started
    return len(batch) / max(seconds, 1e-6), network.dim
