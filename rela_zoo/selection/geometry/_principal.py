"""The prior's principal space: where every sample of a data set lies, in few dimensions and true distances."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from rela_zoo.embeddings import EmbeddingTable
from rela_zoo.errors import EmbeddingsError
from rela_zoo.transport import TargetTransport, check_target_fits

_CHUNK = 8192


@torch.no_grad()
def principal_points(
    rows: EmbeddingTable | Tensor | np.ndarray,
    positions: np.ndarray | None,
    transport: TargetTransport,
    dims: int,
    *,
    device: str | torch.device | None = None,
    chunk: int = _CHUNK,
) -> np.ndarray:
    """Rows of a data set, centred and turned onto their leading principal components.

    As a target of the student, but *not* divided by the deviations: a distance between two points is the distance
    between the two rows, less what lies in the directions left out. Memory is O(N·d) for the points and O(chunk·D)
    besides; rows are read in the order of the table, whatever the order of the data set.

    Args:
        rows: a table of M rows; or (M, D) as a tensor or an array, of any floating dtype, raw.
        positions: (N,) integers in [0, M), the row of each index of the data set; None for all rows in order.
        transport: fitted on these rows: its mean and components are used.
        dims: at most this many components are kept, ≥ 1.
        device: where products are made; None takes the CPU.
        chunk: rows at once.

    Returns:
        (N, d) float32, d = min(dims, K of the transport), in the order of the data set, in C order.

    Raises:
        EmbeddingsError: rows of another width than the transport's, a value that is not finite, dims below 1.
        TransportError: a table by another prior than the transport's.
    """
    if isinstance(rows, EmbeddingTable):
        check_target_fits(transport, rows, "the transport that spans the space of a selection")
    if dims < 1:
        raise EmbeddingsError("no principal component is asked for", expected="at least 1 dimension", got=dims)
    total, width = rows.shape
    if width != transport.dim:
        raise EmbeddingsError(
            "the transport is not for these rows",
            expected=f"rows of {transport.dim} values",
            got=f"{width}",
            fix="give the transport that was fitted on them",
        )
    wanted = np.arange(total, dtype=np.int64) if positions is None else np.asarray(positions, np.int64)
    order = np.argsort(wanted, kind="stable")
    mean = transport.mean.to(device)
    axes = transport.components[:, :dims].to(device)
    read = _reader(rows)
    points = np.empty((len(wanted), axes.shape[1]), np.float32)
    for start in range(0, len(order), chunk):
        here = order[start : start + chunk]
        piece = read(wanted[here]).to(mean.device, torch.float32)
        # Centred before the product: a mean that is large beside the deviations would cost their digits.
        found = (piece - mean) @ axes
        if not torch.isfinite(found).all():
            raise EmbeddingsError(
                "a row has values that are not finite, or too large for float32",
                expected="finite numbers",
                got=f"NaN or infinity among rows {int(wanted[here[0]])} to {int(wanted[here[-1]])}",
                fix="compute the embeddings again, and check the prior's weights",
            )
        points[here] = found.cpu().numpy()
    return points


def _reader(rows: EmbeddingTable | Tensor | np.ndarray) -> Callable[[np.ndarray], Tensor]:
    """A function from row numbers (n,) to rows (n, D)."""
    if isinstance(rows, Tensor):
        return lambda numbers: rows[torch.from_numpy(numbers).to(rows.device)]
    if isinstance(rows, np.ndarray):
        return lambda numbers: torch.from_numpy(rows[numbers])
    return rows.rows_once
