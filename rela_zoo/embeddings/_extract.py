"""Run a prior over every image of a data set and keep its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch

from rela_zoo._io.lock import locked
from rela_zoo._io.log import logger
from rela_zoo._io.memory import keep_freed_memory
from rela_zoo.data import ImageSource, Stamps, ids_sha256, image_source
from rela_zoo.embeddings._compiled import Compiled, pays
from rela_zoo.embeddings._format import (
    FORMAT,
    FORMAT_VERSION,
    MAX_ID_BYTES,
    EmbedPlan,
    SourceRecord,
    default_shard_rows,
)
from rela_zoo.embeddings._make_shards import Run, make_shards, shard_range
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._pictures import changed_pictures, digest_of, refuse_changed, write_record
from rela_zoo.embeddings._precision import PRECISIONS, Precision, check_precision
from rela_zoo.embeddings._profile import Profile
from rela_zoo.embeddings._samples import sample_records
from rela_zoo.embeddings._sizes import choose_batch_size
from rela_zoo.embeddings._store import (
    FinishedShard,
    begin,
    check_space,
    finish,
    finished,
    finished_shards,
    has_leftovers,
    shard_rows_in,
)
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.embeddings._transforms import input_side
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

log = logger(__name__)


def embed(
    prior: str | Prior,
    data: Any,
    out: str | Path,
    *,
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int | None = None,
    num_workers: int | None = None,
    device: str | torch.device | None = None,
    precision: Precision = "32",
    compile: bool | None = None,
    shard_rows: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Literal["always"] = True,
    profile: Profile | None = None,
) -> EmbeddingTable:
    """Embed every image of a data set by a prior, shard by shard, and go on where an earlier run stopped.

    Stopped at any moment and called again with the same arguments it gives the same bytes as an undisturbed run.
    Batches never cross a shard, so that a run that goes on computes the very batches that it would have computed.

    Args:
        prior: a name of the registry, or a `Prior`.
        data: whatever `image_source` accepts.
        out: the folder to write; new, empty, or of an earlier run for the same thing.
        dtype: of the stored rows. float16 holds magnitudes up to 65504.
        batch_size: images at once on the device, at least 1; None takes 32 on a CPU, whose caches hold no more, and on
            a GPU 256 of 224 px, more of smaller ones, fewer where memory is short.
        num_workers: processes that decode images; 0 decodes in this one; None takes as many as cores for a GPU, half as
            many for a CPU, and none for a handful of images.
        device: where the prior runs; None takes CUDA if there is one. The prior is put back afterwards.
        precision: `32`, or `bf16` or `16` for autocast, refused where the rows of 32 images are too far from those of
            float32. Which of these it was is recorded in the artefact, and rows of different ones are never mixed.
        compile: whether the prior goes through torch's compiler first; None does so on a CPU, with networks of
            convolutions in float32, for much work (1.1 to 1.5 times as fast, after half a minute). Where that fails, or
            moves a row by more than 0.00002 of its length (in lower precision: by more than that may), the prior goes
            on as it is.
        shard_rows: images a shard; part of what is made, so it must be the same when going on. None takes those of what
            lies in `out`; else 4096, or, of more than 262,144 images, so many that there are at most 64 shards: a
            power of two, up to 262,144.
        on_error: `raise` stops at an image that can't be decoded and names it; `skip` leaves it out and lists it.
        progress: True draws a bar on a terminal, and logs a line now and then elsewhere, "always" prints lines there,
            False is silent. Beside the rate stands how much it is of what the model could do.
        profile: takes measurements of where the time goes.

    Returns:
        The finished table, opened.

    Raises:
        EmbeddingsError: bad data; an image that can't be decoded; outputs that are not finite or too large for
            float16; a folder that holds something else, or that another process is writing; too little disk space; a
            precision that changes the rows.

    Examples:
        >>> from rela_zoo import embed
        >>> table = embed("cifar10-resnet20", "photos", "embeddings")
        >>> table.shape, table.ids[0]
        ((240, 64), 'cat/000.png')
    """
    out = Path(out).expanduser()
    job = prepare(
        prior, data, out, dtype=dtype, batch_size=batch_size, num_workers=num_workers, device=device,
        precision=precision, compile=compile, shard_rows=shard_rows, on_error=on_error, progress=progress,
        profile=profile,
    )  # fmt: skip
    index = finished(out, job.plan)  # looked for without the lock, which a folder that is only to be read may not allow
    if index is not None:
        refuse_changed(out, job.source)
    if index is None or has_leftovers(out):
        with locked(out):
            index = begin(out, job.plan)
            if index is None:
                _extract(job, out)
    if index is not None and index.skipped and on_error == "raise":
        raise was_skipped(index.skipped[0], len(index.skipped), out)
    return open_embeddings(out)


class Job(NamedTuple):
    """What is to be made, and how."""

    prior: Prior
    source: ImageSource
    plan: EmbedPlan
    run: Run


def prepare(
    prior: str | Prior,
    data: Any,
    out: Path,
    *,
    dtype: Literal["float16", "float32"],
    batch_size: int | None,
    num_workers: int | None,
    device: str | torch.device | None,
    precision: Precision,
    compile: bool | None,
    shard_rows: int | None,
    on_error: Literal["raise", "skip"],
    progress: bool | Literal["always"],
    profile: Profile | None,
) -> Job:
    """Check the arguments of `embed`, and work out what they ask for."""
    where = _device(device)
    _check_arguments(dtype, batch_size, num_workers, shard_rows, on_error, precision)
    keep_freed_memory()  # on a CPU for its own sake, for a GPU for that of the workers, whose pictures come and go
    source = image_source(data)
    prior = _loaded(prior)
    size = batch_size or choose_batch_size(where, input_side(prior.transform))
    if compile is None:  # in lower precision it moves rows, by as much as that does
        compile = precision == "32" and pays(prior, len(source), where)
    run = Run(where, size, num_workers, on_error, progress, precision, Compiled(size) if compile else None)
    if profile is not None:
        run.profile, run.measure = profile, True
    rows = shard_rows or shard_rows_in(out) or default_shard_rows(len(source))
    return Job(prior, source, _plan(prior, source, dtype, rows, precision), run)


def _check_arguments(
    dtype: str, batch_size: int | None, num_workers: int | None, shard_rows: int | None, on_error: str, precision: str
) -> None:
    wrong = [
        (name, expected, got)
        for name, expected, got, good in (
            ("dtype", "float16 or float32", dtype, dtype in ("float16", "float32")),
            ("batch_size", "at least 1", batch_size, batch_size is None or batch_size >= 1),
            ("num_workers", "0 or more", num_workers, num_workers is None or num_workers >= 0),
            ("shard_rows", "at least 1", shard_rows, shard_rows is None or shard_rows >= 1),
            ("on_error", "raise or skip", on_error, on_error in ("raise", "skip")),
            ("precision", "32, bf16 or 16", precision, precision in PRECISIONS),
        )
        if not good
    ]
    if wrong:
        raise EmbeddingsError(
            f"{' and '.join(name for name, _, _ in wrong)} can't be used",
            expected=", ".join(f"{name}: {expected}" for name, expected, _ in wrong),
            got=", ".join(f"{name}: {got!r}" for name, _, got in wrong),
        )


def _loaded(prior: str | Prior) -> Prior:
    if not isinstance(prior, str):
        return prior
    from rela_zoo.prior import load_prior

    return load_prior(prior)


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        raise EmbeddingsError(
            f"the device {device} can't be used", expected="a device that torch has here", got=error, fix="--device cpu"
        ) from error
    return found


def _plan(
    prior: Prior, source: ImageSource, dtype: Literal["float16", "float32"], shard_rows: int, precision: str
) -> EmbedPlan:
    ids = source.ids
    longest = max(map(len, ids))
    if longest * 12 + 3 > MAX_ID_BYTES:  # twelve characters is the longest escape of one
        raise EmbeddingsError(
            "a sample id is too long", expected=f"at most {MAX_ID_BYTES // 12 - 1} characters", got=longest
        )  # fmt: skip
    identity = prior.identity()
    if precision != "32":
        # Kept with the rows, and none are mixed; no other prior, for its rows are the same within a bound.
        identity = {**identity, "precision": precision}
    return EmbedPlan(
        format=FORMAT,
        format_version=FORMAT_VERSION,
        prior=identity,
        preprocessing=str(prior.preprocessing),
        layer=str(identity.get("layer", "")),
        dtype=dtype,
        dim=prior.dim,
        source=SourceRecord(
            rows=len(ids),
            ids_sha256=ids_sha256(ids),
            probe=source.probe(),
            shard_rows=shard_rows,
        ),
    )


def _extract(job: Job, out: Path) -> None:
    """Make the shards that are missing, then ids and index."""
    prior, source, plan, run = job
    check_precision(prior, source, run.device, run.precision)
    total = plan.source.rows
    # Asked for before the first picture is read: one that changes meanwhile is seen by the next run.
    stamps = source.stamps()
    if any(out.glob("shard-*")) and changed_pictures(out, source):
        log.warning("pictures have changed since %s was begun: its rows are made anew", out)
        for shard in out.glob("shard-*"):
            shard.unlink()
    write_record(out, source.ids, stamps)
    shards: dict[int, FinishedShard] = finished_shards(out, plan, shard_count(plan))
    refuse_skipped(shards, job, out)
    waiting = [number for number in range(shard_count(plan)) if number not in shards]
    to_do = sum(len(shard_range(plan, number)) for number in waiting)
    check_room(waiting, job, out)
    made = make_shards(prior, source, plan, out, waiting, run, digests=stamps is not None, done=total - to_do)
    conclude(job, out, shards | made.shards, stamps, made.digests)


def shard_count(plan: EmbedPlan) -> int:
    """Shards of the whole artefact."""
    return -(-plan.source.rows // plan.source.shard_rows)


def refuse_skipped(shards: Mapping[int, FinishedShard], job: Job, out: Path) -> None:
    """Refuse shards that leave images out where that was not asked for."""
    skipped = [job.source.ids[position] for shard in shards.values() for position in shard.skipped]
    if skipped and job.run.on_error == "raise":
        raise was_skipped(skipped[0], len(skipped), out)


def check_room(numbers: Sequence[int], job: Job, out: Path) -> None:
    """Refuse to start shards that the disk can't hold."""
    itemsize = 2 if job.plan.dtype == "float16" else 4
    rows = sum(len(shard_range(job.plan, number)) for number in numbers)
    ids = sum(map(len, job.source.ids))
    check_space(out, rows * job.plan.dim * itemsize + len(numbers) * 512 + ids + (1 << 20))


def conclude(
    job: Job, out: Path, shards: Mapping[int, FinishedShard], stamps: Stamps | None, digests: Mapping[int, bytes]
) -> None:
    """Write the record of the pictures, the ids and, last, the index of shards that are all there.

    Args:
        job, out: what is made, where.
        shards: all of them, by number.
        stamps: of the source, from before its first picture was read.
        digests: of pictures by position, as far as they are known; the others are read again.
    """
    source, plan, total = job.source, job.plan, job.plan.source.rows
    if not any(shard.record.rows for shard in shards.values()):
        raise EmbeddingsError(
            f"none of the {total} images of the {source.describe()} can be decoded", expected="at least one picture"
        )
    whole = [shards[number] for number in range(shard_count(plan))]
    if stamps is not None:
        write_record(out, source.ids, stamps, [digests.get(i) or digest_of(source, i) for i in range(total)])
    missing = {position for shard in whole for position in shard.skipped}
    kept = [i for i in range(total) if i not in missing] if missing else range(total)
    finish(out, plan, source.ids, whole, sample_records(source, kept))


def was_skipped(first: str, count: int, out: Path) -> EmbeddingsError:
    """The error for an artefact that leaves images out, where that was not asked for."""
    return EmbeddingsError(
        f"{out} leaves out {count} images that could not be decoded, and leaving out was not asked for",
        expected="a row for every image",
        got=f"none for {first!r}",
        fix="say on_error='skip' (--skip-undecodable), or repair the images and give another folder",
    )
