"""The folder of an artefact while it is being made: whole files only, and work that can be taken up again."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_path
from rela_zoo._io.lock import LOCK, locked
from rela_zoo._version import __version__
from rela_zoo.data import encoded_ids
from rela_zoo.embeddings._format import (
    FORMAT_VERSION,
    IDS,
    INDEX,
    PARTIAL,
    EmbedPlan,
    FileRecord,
    Index,
    SampleRecord,
    ShardRecord,
    pretty_json,
    read_index,
    read_json,
    read_shard_header,
    row_dtype,
    shard_header,
    shard_name,
)
from rela_zoo.errors import EmbeddingsError

_TEMPORARY = ".tmp"
CLAIM = ".claim-"  # the lock of a part on a shard
DIGESTS = ".digests-"  # of the pictures of a part's shard, until the index is written


@dataclass(frozen=True)
class FinishedShard:
    """A shard on disk: its record in the index, and the positions of its source range that were left out."""

    record: ShardRecord
    skipped: tuple[int, ...]


def begin(folder: Path, plan: EmbedPlan, *, alone: bool = True) -> Index | None:
    """Compare what lies in the folder with what is to be made; write the plan if nothing does.

    Args:
        folder: of the artefact.
        plan: what is to be made.
        alone: whether nobody else writes shards, so that half-written ones are leftovers of a killed run.

    Returns:
        The index if the very same artefact is finished already, else None.

    Raises:
        EmbeddingsError: the folder holds other embeddings, or files of another kind.
    """
    if alone:
        for claim in folder.glob(f"{CLAIM}*"):
            with locked(folder, name=claim.name, what="a part of the embeddings"):
                pass  # of a killed part, and gone now; of one at work it is refused
        remove_leftovers(folder)
    index = finished(folder, plan)
    if index is not None:
        (folder / PARTIAL).unlink(missing_ok=True)
        return index
    if (folder / PARTIAL).is_file():
        if not alone or any(folder.glob("shard-*")):
            _compare(folder, _read_plan(folder / PARTIAL), plan)
            return None
        (folder / PARTIAL).unlink()  # stopped before it had anything to show: no reason to hold on to its plan
    foreign = sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))
    if foreign:
        raise EmbeddingsError(
            f"{folder} is not empty and holds no embeddings",
            expected="a new or empty folder, or one of an extraction to go on with",
            got=", ".join(foreign[:3]),
            fix="give another folder",
        )
    _write(folder / PARTIAL, [pretty_json(plan.model_dump())])
    return None


def remove_leftovers(folder: Path) -> None:
    """Remove what a killed run has half written."""
    for leftover in folder.glob(f"*{_TEMPORARY}"):
        if leftover.name.startswith(("shard-", INDEX, PARTIAL, IDS)):
            leftover.unlink()


def finished(folder: Path, plan: EmbedPlan) -> Index | None:
    """The index of a finished artefact for this very plan; None if the folder holds no finished one.

    Raises:
        EmbeddingsError: it holds other embeddings.
    """
    if not (folder / INDEX).is_file():
        return None
    index = read_index(folder)
    _compare(folder, index.plan, plan)
    return index


def shard_rows_in(folder: Path) -> int | None:
    """Rows a shard of what lies in the folder, finished or not; None where that is nothing that could be read."""
    for name in (INDEX, PARTIAL):
        try:
            return int(read_json(folder / name)["source"]["shard_rows"])
        except (OSError, EmbeddingsError, KeyError, TypeError, ValueError):
            continue  # what is wrong with it is said where it is opened
    return None


def has_leftovers(folder: Path) -> bool:
    """Whether a run was killed after it had written the index and before it had tidied up."""
    return (folder / PARTIAL).exists() or (folder / LOCK).exists()


def _read_plan(path: Path) -> EmbedPlan:
    try:
        return EmbedPlan.model_validate(read_json(path))
    except ValueError as error:
        raise EmbeddingsError(
            f"{path} is not the plan of an extraction by this rela-zoo",
            expected=f"format version {FORMAT_VERSION}",
            got=error,
            fix="remove the folder, or give another one",
        ) from error


def _compare(folder: Path, found: EmbedPlan, wanted: EmbedPlan) -> None:
    """Refuse to go on with work done for something else, saying what differs."""
    ours, theirs = _flat(wanted.model_dump()), _flat(found.model_dump())
    differing = [key for key in sorted(ours.keys() | theirs.keys()) if ours.get(key) != theirs.get(key)]
    # The probe covers the ids too: alone it means other pictures under the same ids.
    names = {"source.ids_sha256": "the sample ids", "source.probe": "the pictures", "source.rows": "number of images"}
    if differing:
        raise EmbeddingsError(
            f"{folder} holds {'embeddings' if (folder / INDEX).is_file() else 'an extraction'} of something else: "
            f"{', '.join(names.get(key, key) for key in differing)} differ{'s' * (len(differing) == 1)}",
            expected="; ".join(f"{key} {ours.get(key)!r}" for key in differing[:4]),
            got="; ".join(f"{key} {theirs.get(key)!r}" for key in differing[:4]),
            fix="give another folder, or remove this one to make it anew",
        )


def _flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, one in value.items():
        flat.update(_flat(one, f"{prefix}{key}.") if isinstance(one, dict) else {f"{prefix}{key}": one})
    return flat


def check_space(folder: Path, needed: int) -> None:
    """Refuse to start what the disk can't hold.

    Args:
        folder: where it goes.
        needed: bytes.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise EmbeddingsError(
            f"not enough free disk space at {folder}",
            expected=f"{needed / 1e9:.2f} GB for the embeddings",
            got=f"{free / 1e9:.2f} GB available",
            fix="free some space, give a folder on another disk, or store float16",
        )


def finished_shards(folder: Path, plan: EmbedPlan, count: int) -> dict[int, FinishedShard]:
    """The shards of this plan that an earlier run completed, by number. A shard that is not whole is left out."""
    finished = {}
    for number in range(count):
        path = folder / shard_name(number)
        if not path.is_file():
            continue
        try:
            _, rows, metadata = read_shard_header(path, None, plan.dim, plan.dtype)
            skipped = tuple(int(one) for one in metadata["skipped"])
        except (EmbeddingsError, KeyError, TypeError, ValueError):
            continue  # damaged from outside: it is made again
        length = min(plan.source.shard_rows, plan.source.rows - number * plan.source.shard_rows)
        if (
            metadata.get("plan") != plan.plan_digest()
            or metadata.get("shard") != number
            or rows + len(skipped) != length
        ):
            continue
        record = ShardRecord(file=path.name, rows=rows, bytes=path.stat().st_size, sha256=file_sha256(path))
        finished[number] = FinishedShard(record, skipped)
    return finished


def write_shard(folder: Path, plan: EmbedPlan, number: int, rows: np.ndarray, skipped: Sequence[int]) -> FinishedShard:
    """Write one shard so that it is either whole or not there.

    Args:
        rows: (n, D) in the dtype of the plan.
        skipped: positions in the source, of this shard's range, that have no row.
    """
    metadata = {"plan": plan.plan_digest(), "shard": number, "skipped": list(skipped)}
    header = shard_header(len(rows), plan.dim, plan.dtype, metadata)
    body = np.ascontiguousarray(rows, row_dtype(plan.dtype)).data.cast("B") if rows.size else b""
    digest = hashlib.sha256(header)
    digest.update(body)
    path = folder / shard_name(number)
    _write(path, [header, body])
    size = len(header) + len(body)
    return FinishedShard(
        ShardRecord(file=path.name, rows=len(rows), bytes=size, sha256=digest.hexdigest()), tuple(skipped)
    )


def finish(
    folder: Path,
    plan: EmbedPlan,
    ids: Sequence[str],
    shards: Sequence[FinishedShard],
    samples: Mapping[str, SampleRecord] | None = None,
) -> None:
    """Write the ids and, last, the index: from then on the folder is an artefact."""
    skipped = [position for shard in shards for position in shard.skipped]
    left_out = set(skipped)
    listed = _write_ids(folder, (one for position, one in enumerate(ids) if position not in left_out))
    index = Index(
        **plan.model_dump(exclude={"source"}),
        source=plan.source,
        made_by=f"rela-zoo {__version__}",
        rows=len(ids) - len(skipped),
        ids=listed,
        shards=tuple(shard.record for shard in shards),
        skipped=tuple(ids[position] for position in skipped),
        digest="0" * 64,
        samples=dict(samples) if samples else None,
    )
    index = index.model_copy(update={"digest": index.content_digest()})
    _write(folder / INDEX, [pretty_json(index.model_dump(mode="json", exclude=None if samples else {"samples"}))])
    (folder / PARTIAL).unlink(missing_ok=True)
    for leftover in folder.glob(f"{DIGESTS}*"):
        leftover.unlink(missing_ok=True)


def _write_ids(folder: Path, ids: Iterable[str]) -> FileRecord:
    """Write the id list, piece by piece."""
    digest, size = hashlib.sha256(), 0

    def pieces() -> Iterator[bytes]:
        nonlocal size
        for piece in encoded_ids(ids):
            digest.update(piece)
            size += len(piece)
            yield piece

    _write(folder / IDS, pieces())
    return FileRecord(file=IDS, bytes=size, sha256=digest.hexdigest())


def _write(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    try:
        with atomic_path(path, suffix=_TEMPORARY) as temporary, temporary.open("wb") as file:
            file.writelines(pieces)
    except OSError as error:
        raise EmbeddingsError(
            f"{path} can't be written", expected="a folder with room for it", got=error,
            fix="free some space or correct the permissions, and run the same command again: it goes on from here",
        ) from error  # fmt: skip
