"""A target transport fitted by many processes, each over a part of the rows: moments add up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from rela_zoo._io.lock import locked
from rela_zoo._io.log import logger
from rela_zoo.errors import TransportError
from rela_zoo.transport._moments import Moments, merge_moments
from rela_zoo.transport._target_fit import fit_facts, rows_moments, transport_from_moments
from rela_zoo.transport._target_transport import TargetTransport
from rela_zoo.transport._transport_file import FORMAT_VERSION, read_metadata, read_tensors, write

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

log = logger(__name__)

_FORMAT = "rela-zoo-moments"


def fit_transport_part(
    table: EmbeddingTable,
    out: str | os.PathLike[str],
    part: tuple[int, int],
    *,
    max_dim: int | None = None,
    chunk: int = 8192,
    device: str | torch.device | None = None,
    progress: bool | Literal["always"] = False,
) -> TargetTransport | None:
    """One of several parts of what `fit_transport` does, in processes or on machines that share a folder.

    Each part leaves the moments of its rows in a file beside `out`, `OUT.part-2-of-8`. Whoever sees that all of them
    are there adds them up in their order, so that the result does not depend on who that is, writes `out`, and removes
    them.
    A lost part is made by the same call again. The result is that of `fit_transport` up to rounding in float64.

    Args:
        table: the rows; the same for all parts.
        out: the transport to write.
        part: (i, n): the i-th of n, from 1, of the rows in their order.
        max_dim: as for `fit_transport`; the last part's counts.
        chunk: rows at once.
        device: where the sums are made; None takes CUDA if there is one.
        progress: as for `fit_transport`.

    Returns:
        The transport, written; None while parts are missing.

    Raises:
        TransportError: as for `fit_transport`; no such part; moments of another table beside `out`.

    Examples:
        >>> from rela_zoo import open_embeddings
        >>> from rela_zoo.transport import fit_transport_part
        >>> table = open_embeddings("embeddings")
        >>> [fit_transport_part(table, "by-parts.safetensors", (i, 3)) is None for i in (1, 3, 2)]
        [True, True, False]
    """
    number, of = part
    path = Path(out).expanduser()
    if not 1 <= number <= of or of > len(table):
        raise TransportError(
            "there is no such part", expected=f"i/n with i from 1 to n, and n at most {len(table)} rows",
            got=f"{number}/{of}",
        )  # fmt: skip
    start, stop = (number - 1) * len(table) // of, number * len(table) // of
    pieces = table.iter_rows(chunk, start=start, stop=stop)
    moments = rows_moments(pieces, device=device or _default_device(), total=stop - start, progress=progress)
    assert moments is not None  # a part has a row at least
    _keep(moments, _file(path, number, of), table.digest)
    # One at a time, so that the last part's reduction is not made twice, nor missed by two that end together.
    with locked(path.parent, wait=None, what="a transport", name=f".{path.name}.lock", about=path):
        files = [_file(path, one, of) for one in range(1, of + 1)]
        missing = [file.name for file in files if not file.is_file()]
        if missing:
            log.info(f"rela_zoo: part {number} of {of} is done; {len(missing)} are missing, such as {missing[0]}")
            return None
        whole = _read(files[0], table.digest)
        for file in files[1:]:
            whole = merge_moments(whole, _read(file, table.digest))
        transport = transport_from_moments(whole, max_dim, **fit_facts(table))
        transport.save(path)
        for file in files:
            file.unlink(missing_ok=True)
    return transport


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _file(path: Path, number: int, of: int) -> Path:
    return path.with_name(f"{path.name}.part-{number}-of-{of}")


def _keep(moments: Moments, path: Path, digest: str) -> None:
    facts = {"format": _FORMAT, "format_version": FORMAT_VERSION, "rows": moments.rows, "source_digest": digest}
    write(path, {"mean": moments.mean, "scatter": moments.scatter}, facts)


def _read(path: Path, digest: str) -> Moments:
    facts = read_metadata(path, _FORMAT)
    if facts.get("source_digest") != digest or not isinstance(facts.get("rows"), int):
        raise TransportError(
            f"{path} holds moments of another table", expected=f"rows of the table {digest}",
            got=facts.get("source_digest"), fix="remove it, and run that part again",
        )  # fmt: skip
    tensors = read_tensors(path, {"mean", "scatter"})
    return Moments(facts["rows"], tensors["mean"], tensors["scatter"])
