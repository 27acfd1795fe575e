"""What a selection knows of the prior's space: computed once for a data set, and kept by content.

The file: safetensors, with `labels` I32 (N), `distances` F32 (N), `centroids` F32 (k, d) and, for duplicates, `groups`
I32 (N); metadata `rela_zoo` is JSON with format, format_version, made_by, kind and the fields of `KeyParts`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache as once
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch

from rela_zoo._io.log import logger
from rela_zoo._io.once import made_once
from rela_zoo._io.paths import artefact_cache
from rela_zoo._version import __version__
from rela_zoo.errors import EmbeddingsError
from rela_zoo.selection.geometry._assign import nearest_labels
from rela_zoo.selection.geometry._centres import k_centres
from rela_zoo.selection.geometry._clusters import k_means
from rela_zoo.selection.geometry._duplicates import near_duplicates
from rela_zoo.selection.geometry._file import read_file, write_file

if TYPE_CHECKING:
    from rela_zoo.transport import TargetTransport

log = logger(__name__)

FORMAT = "rela-zoo-selection-geometry"
FORMAT_VERSION = 1  # raised, too, when the same key would give other numbers
FIX = "delete this file: it is computed again"
# Near-duplicates are sought in the two nearest clusters of each sample: in one, k-means parts a tenth of the pairs.
_CLUSTERS_EACH = 2

Kind = Literal["clusters", "centres", "duplicates"]


@dataclass(frozen=True)
class KeyParts:
    """Everything that changes the numbers of a geometry, besides its kind.

    Attributes:
        table: digest of the embedding table.
        transport: `transport_digest`.
        positions: `positions_digest`.
        rows: N, the samples of the data set.
        dims: d, the width of the points.
        cells: clusters or centres asked for.
        seed: of the computation, ≥ 0.
        threshold: cosine of near-duplicates; None for the other kinds.
    """

    table: str
    transport: str
    positions: str
    rows: int
    dims: int
    cells: int
    seed: int
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class Geometry:
    """A data set in the prior's space, as a selection needs it.

    Attributes:
        kind: what was computed.
        labels: (N,) int32 in [0, k), the cell of each sample; none is empty.
        distances: (N,) float32, Euclidean, to the centroid of the cell.
        centroids: (k, d) float32: means of k-means, or the samples that are centres. k may be less than was asked for.
        groups: (N,) int32, near-duplicates share one, numbered from 0; None for other kinds than `duplicates`.
    """

    kind: Kind
    labels: np.ndarray
    distances: np.ndarray
    centroids: np.ndarray
    groups: np.ndarray | None = None


def positions_digest(positions: np.ndarray) -> str:
    """sha256, hex, of the rows (N,) that a data set takes from a table, in its order."""
    return hashlib.sha256(np.ascontiguousarray(positions, "<i8").tobytes()).hexdigest()


def transport_digest(transport: TargetTransport, dims: int) -> str:
    """sha256, hex, of what `principal_points` takes from a transport: mean and leading components, not the scale."""
    parts = transport.mean, transport.components[:, :dims].contiguous()
    return hashlib.sha256(b"".join(part.cpu().numpy().astype("<f4").tobytes() for part in parts)).hexdigest()


def geometry_path(kind: Kind, key_parts: KeyParts, cache: Path | None = None) -> Path:
    """The file of a geometry: named by the sha256 of everything that changes its numbers."""
    text = json.dumps(_identity(kind, key_parts), sort_keys=True, separators=(",", ":"))
    folder = artefact_cache() / "selection" if cache is None else cache
    return folder / f"{hashlib.sha256(text.encode()).hexdigest()}.safetensors"


def geometry(
    kind: Kind,
    *,
    points: Callable[[], np.ndarray],
    key_parts: KeyParts,
    cache: Path | None = None,
    device: str | torch.device | None = None,
) -> Geometry:
    """The geometry from its file, computed and written when missing; a second process waits for the first.

    Duplicates are sought within the clusters of the same key parts, whose own file is used or written, too; each
    sample in the two nearest, so that a group may lie in several cells.

    Args:
        kind: what is wanted.
        points: gives (N, d) float32, see `principal_points`; called once, or not at all when the file is there.
        key_parts: what the numbers depend on.
        cache: the folder of the files; None takes `selection` among this machine's artefacts.
        device: where products are made; None takes the CPU. Not part of the key.

    Returns:
        The geometry.

    Raises:
        EmbeddingsError: a file that is damaged or another's, parts that are out of range, or points of another shape.
    """
    if kind not in get_args(Kind) or (key_parts.threshold is not None) != (kind == "duplicates"):
        raise EmbeddingsError(
            "this geometry can't be made",
            expected="clusters or centres without a threshold, duplicates with one",
            got=f"{kind}, threshold {key_parts.threshold}",
        )
    path = geometry_path(kind, key_parts, cache)
    made: list[Geometry] = []

    def make() -> None:
        made.append(_compute(kind, once(points), key_parts, cache, device))
        save_geometry(path, made[0], key_parts)

    made_once(path, make, what="clusters")
    return made[0] if made else load_geometry(path, kind, key_parts)


def save_geometry(path: Path, found: Geometry, key_parts: KeyParts) -> None:
    """Write one file; equal geometries give equal bytes.

    Raises:
        EmbeddingsError: the path can't be written.
    """
    arrays = {name: getattr(found, name) for name in _names(found.kind)}
    write_file(path, arrays, {**_identity(found.kind, key_parts), "made_by": f"rela-zoo {__version__}"})


def load_geometry(path: Path, kind: Kind, key_parts: KeyParts) -> Geometry:
    """Read a file written by `save_geometry`, and check that it is the one that is wanted.

    Raises:
        EmbeddingsError: missing, damaged, of another kind, version or data set, or with values that can't be.
    """
    arrays, metadata = read_file(path, FIX)
    wanted = _identity(kind, key_parts)
    if wrong := [name for name, value in wanted.items() if metadata.get(name) != value]:
        raise EmbeddingsError(
            f"{path} is not the geometry that is wanted",
            expected={name: wanted[name] for name in wrong},
            got={name: metadata.get(name) for name in wrong},
            fix=FIX,
        )
    if not _plausible(arrays, kind, key_parts):
        raise EmbeddingsError(
            f"{path} has arrays that can't be",
            expected=f"{', '.join(_names(kind))} for {key_parts.rows} samples in {key_parts.dims} dimensions, in range",
            got={name: f"{array.dtype} {array.shape}" for name, array in arrays.items()},
            fix=FIX,
        )
    return Geometry(kind, **arrays)


def _identity(kind: Kind, key_parts: KeyParts) -> dict[str, Any]:
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind, **asdict(key_parts)}


def _names(kind: Kind) -> list[str]:
    return ["labels", "distances", "centroids", *(["groups"] if kind == "duplicates" else [])]


def _plausible(arrays: dict[str, np.ndarray], kind: Kind, parts: KeyParts) -> bool:
    if set(arrays) != set(_names(kind)) or arrays["centroids"].ndim != 2:
        return False
    cells = len(arrays["centroids"])
    shapes = {"centroids": (cells, parts.dims)}
    limits = {"labels": cells, "groups": parts.rows}
    return 1 <= cells <= parts.cells and all(
        array.shape == shapes.get(name, (parts.rows,))
        and array.dtype == (np.int32 if name in limits else np.float32)
        and bool((array >= 0).all() and (array < limits[name]).all() if name in limits else np.isfinite(array).all())
        for name, array in arrays.items()
    )


def compute(
    kind: Kind,
    points: np.ndarray,
    cells: int,
    seed: int,
    threshold: float | None = None,
    *,
    clusters: Geometry | None = None,
    device: str | torch.device | None = None,
) -> Geometry:
    """The geometry of points in memory, see `geometry`.

    Args:
        kind: what is wanted.
        points: (N, d) float32.
        cells: clusters or centres, in [1, N].
        seed: ≥ 0.
        threshold: cosine of near-duplicates; None for the other kinds.
        clusters: those of the same points, cells and seed, where they are known.
        device: where products are made; None takes the CPU.
    """
    if kind == "centres":
        cover = k_centres(points, cells, seed, device=device)
        return Geometry(kind, cover.labels, cover.distances, points[cover.centres])
    if clusters is None:
        found = k_means(points, cells, seed, device=device)
        clusters = Geometry("clusters", found.labels, found.distances, found.centroids)
    if kind == "clusters":
        return clusters
    assert threshold is not None
    near = nearest_labels(points, clusters.centroids, min(_CLUSTERS_EACH, len(clusters.centroids)), device)
    return replace(clusters, kind=kind, groups=near_duplicates(points, near, threshold, device=device))


_SAID = {
    "clusters": "clustering {rows} samples around {cells} means",
    "centres": "covering {rows} samples from {cells} centres",
    "duplicates": "looking for near-duplicates among {rows} samples",
}


def _compute(
    kind: Kind,
    points: Callable[[], np.ndarray],
    parts: KeyParts,
    cache: Path | None,
    device: str | torch.device | None,
) -> Geometry:
    clusters = None
    if kind == "duplicates":
        key_parts = replace(parts, threshold=None)
        clusters = geometry("clusters", points=points, key_parts=key_parts, cache=cache, device=device)
    where = _checked(points(), parts)
    log.info("rela_zoo: " + _SAID[kind].format(rows=parts.rows, cells=parts.cells))
    return compute(kind, where, parts.cells, parts.seed, parts.threshold, clusters=clusters, device=device)


def _checked(points: np.ndarray, parts: KeyParts) -> np.ndarray:
    if points.shape != (parts.rows, parts.dims) or points.dtype != np.float32:
        raise EmbeddingsError(
            "the points are not those of the key",
            expected=f"float32 of shape ({parts.rows}, {parts.dims})",
            got=f"{points.dtype} of shape {points.shape}",
        )
    return points
