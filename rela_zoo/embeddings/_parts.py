"""One artefact made by many processes that know nothing of each other but the folder: each claims shards."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from rela_zoo._io.files import atomic_write
from rela_zoo._io.lock import locked
from rela_zoo._io.log import logger
from rela_zoo._io.ranks import local_rank
from rela_zoo.data import Stamps, image_source
from rela_zoo.embeddings._extract import (
    Job,
    check_room,
    conclude,
    prepare,
    refuse_skipped,
    shard_count,
    was_skipped,
)
from rela_zoo.embeddings._format import Index, default_shard_rows, shard_name
from rela_zoo.embeddings._make_shards import make_shards, shard_range
from rela_zoo.embeddings._open import open_embeddings
from rela_zoo.embeddings._pictures import changed_pictures, refuse_changed, write_record
from rela_zoo.embeddings._precision import Precision, check_precision
from rela_zoo.embeddings._store import (
    CLAIM,
    DIGESTS,
    begin,
    finished,
    finished_shards,
    remove_leftovers,
    shard_rows_in,
)
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.errors import EmbeddingsError

if TYPE_CHECKING:
    from rela_zoo.prior import Prior

log = logger(__name__)

# Shards claimed at once: of one's own part, and of what others have left, which somebody else may want to help with.
_OWN, _OTHERS = 32, 4
_DIGEST_BYTES = 8


def embed_part(
    prior: str | Prior,
    data: Any,
    out: str | Path,
    part: tuple[int, int],
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
) -> EmbeddingTable | None:
    """Make one of several parts of what `embed` makes, in a folder that all of them share.

    Any number of processes, on any machines that share the folder and its locks, give the bytes that one would. A part
    makes its own shards, then those that nobody is at work on; whoever sees that all are there writes the index. What a
    killed part leaves is made by any other, or by the same call again. An `embed` of the same folder is refused while
    parts are at work, and goes on with what they have left.

    Args:
        prior: a name of the registry, or a `Prior`.
        data: whatever `image_source` accepts; the same for all parts.
        out: the folder, as for `embed`.
        part: (i, n): the i-th of n, from 1.
        dtype: of the stored rows, as for `embed`.
        batch_size: images at once on the device.
        num_workers: processes that decode images.
        device: where the prior runs.
        precision: what it computes in.
        compile: whether it is compiled, as for `embed`.
        shard_rows: images a shard, as for `embed`.
        on_error: `raise` or `skip`, where an image can't be decoded.
        progress: whether a bar is drawn.

    Returns:
        The finished table; None while other parts are still at work.

    Raises:
        EmbeddingsError: as for `embed`; pictures that have changed since the first part began; no such part.

    Examples:
        >>> from rela_zoo import embed_part
        >>> embed_part("cifar10-resnet20", "photos", "parts", (1, 2), shard_rows=64).shape  # nobody else is at work
        (240, 64)
    """
    number, of = part
    if not 1 <= number <= of:
        raise EmbeddingsError("there is no such part", expected="i/n with i from 1 to n", got=f"{number}/{of}")
    out = Path(out).expanduser()
    job = _job(
        prior, data, out, dtype=dtype, batch_size=batch_size, num_workers=num_workers, device=device,
        precision=precision, compile=compile, shard_rows=shard_rows, on_error=on_error, progress=progress,
    )  # fmt: skip
    count = shard_count(job.plan)
    # Each begins elsewhere: parts that have nothing left don't all try the same shards.
    begin_at = number * count // of
    others = [*range(begin_at, count), *range(begin_at)]
    return _share(job, out, range(number - 1, count, of), others, f"part {number} of {of}")


def embed_shard(
    prior: str | Prior,
    data: Any,
    out: str | Path,
    shards: int | Sequence[int],
    *,
    dtype: Literal["float16", "float32"] = "float16",
    batch_size: int | None = None,
    num_workers: int | None = 0,
    device: str | torch.device | None = None,
    precision: Precision = "32",
    compile: bool | None = False,
    shard_rows: int | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | Literal["always"] = False,
) -> EmbeddingTable | None:
    """Make some shards of what `embed` makes: for schedulers that hand out work themselves, such as Ray or Spark.

    As `embed_part`, but for the choice of the shards: those that another process is at work on are left to it, and
    whoever sees that all are there writes the index. How many there are says `count_shards`.

    Args:
        prior: a name of the registry, or a `Prior`.
        data: whatever `image_source` accepts; the same for all calls.
        out: the folder that all calls share.
        shards: their numbers, from 0.
        dtype: of the stored rows, as for `embed`.
        batch_size: images at once on the device.
        num_workers: processes that decode images; none, for the scheduler has processes of its own.
        device: where the prior runs.
        precision: what it computes in.
        compile: whether it is compiled, as for `embed`; not by itself, for each process would do so anew.
        shard_rows: images a shard, as for `embed`.
        on_error: `raise` or `skip`, where an image can't be decoded.
        progress: whether a bar is drawn.

    Returns:
        The finished table; None while shards are missing.

    Raises:
        EmbeddingsError: as for `embed_part`; no such shard.

    Examples:
        >>> from rela_zoo import count_shards, embed_shard
        >>> work = "cifar10-resnet20", "photos", "shards"
        >>> [embed_shard(*work, i, shard_rows=100) is None for i in range(count_shards("photos", shard_rows=100))]
        [True, True, False]
    """
    out = Path(out).expanduser()
    job = _job(
        prior, data, out, dtype=dtype, batch_size=batch_size, num_workers=num_workers, device=device,
        precision=precision, compile=compile, shard_rows=shard_rows, on_error=on_error, progress=progress,
    )  # fmt: skip
    mine = [int(shards)] if isinstance(shards, int) else [int(one) for one in shards]
    count = shard_count(job.plan)
    wrong = [one for one in mine if not 0 <= one < count]
    if wrong or not mine:
        raise EmbeddingsError(
            "there are no such shards", expected=f"numbers from 0 to {count - 1}", got=wrong or "none",
            fix="count them by `count_shards`, with the same shard_rows",
        )  # fmt: skip
    return _share(job, out, mine, [], f"shard {', '.join(map(str, mine))}")


def count_shards(data: Any, *, shard_rows: int | None = None, out: str | Path | None = None) -> int:
    """How many shards the embeddings of a data set have.

    Args:
        data: whatever `image_source` accepts.
        shard_rows: images a shard, as for `embed`.
        out: the folder, where it may have been begun with another size of shards.

    Examples:
        >>> from rela_zoo import count_shards
        >>> count_shards("photos", shard_rows=100)
        3
    """
    total = len(image_source(data))
    begun = None if out is None else shard_rows_in(Path(out).expanduser())
    return -(-total // (shard_rows or begun or default_shard_rows(total)))


def _job(prior: str | Prior, data: Any, out: Path, device: str | torch.device | None, **options: Any) -> Job:
    if device is None and torch.cuda.is_available():
        device = f"cuda:{local_rank() % torch.cuda.device_count()}"
    return prepare(prior, data, out, device=device, profile=None, **options)


def _share(job: Job, out: Path, own: Sequence[int], others: Sequence[int], who: str) -> EmbeddingTable | None:
    """Make these shards, then those that others have left, and the index if that was all; else None."""
    index, stamps = _enter(job, out)
    if index is None:
        check_precision(job.prior, job.source, job.run.device, job.run.precision)
        count = shard_count(job.plan)
        check_room(own, job, out)
        while index is None:
            _make(job, out, own, stamps, _OWN)
            _make(job, out, others, stamps, _OTHERS)
            left = _left_to_others(out, count)
            if left:
                log.info(f"rela_zoo: {who} is done; {left} of {count} shards are others'")
                return None
            index = _leave(job, out, stamps)
            if index is None and not others:
                return None  # a shard was not whole, and has to be made again by whoever is asked to
    if index.skipped and job.run.on_error == "raise":
        raise was_skipped(index.skipped[0], len(index.skipped), out)
    return open_embeddings(out)


def _enter(job: Job, out: Path) -> tuple[Index | None, Stamps | None]:
    """The finished index, if there is one; and the stamps of the pictures, from before any of them is read here."""
    index = finished(out, job.plan)
    if index is not None:
        refuse_changed(out, job.source)
        return index, None
    with locked(out, wait=None):
        index = begin(out, job.plan, alone=False)
        stamps = job.source.stamps()
        if index is None and not any(out.glob("shard-*")):
            write_record(out, job.source.ids, stamps)
        elif index is None and (changed := changed_pictures(out, job.source)):
            raise EmbeddingsError(
                f"pictures have changed since {out} was begun, and other parts may be at work on it",
                expected="the pictures that it was begun with",
                got=f"{len(changed)} others, such as {changed[0]!r}",
                fix="stop all parts, and run `rela-zoo embed` without --part, which makes the rows anew",
            )
    return index, stamps


def _is_there(out: Path, number: int) -> bool:
    return (out / shard_name(number)).is_file()


def _left_to_others(out: Path, count: int) -> int:
    """How many shards are missing, or are there while somebody still writes what belongs to them.

    Whoever gives up a claim last sees none of either kind, and writes the index.
    """
    with locked(out, wait=None):  # two that try each other's claims would both find them held
        missing = sum(not _is_there(out, one) for one in range(count))
        return missing or sum(not _released(out, claim.name) for claim in out.glob(f"{CLAIM}*"))


def _released(out: Path, claim: str) -> bool:
    try:
        with locked(out, name=claim):
            return True  # of a killed part, and gone now
    except EmbeddingsError:
        return False


@contextmanager
def _claimed(out: Path, numbers: Iterator[int], most: int) -> Iterator[list[int]]:
    """The next of these shards, up to `most`, that are neither there nor claimed, for this process alone."""
    with ExitStack() as held:
        mine: list[int] = []
        while len(mine) < most and (number := next(numbers, None)) is not None:
            if _is_there(out, number):
                continue
            try:
                held.enter_context(locked(out, name=f"{CLAIM}{number:05d}", what=f"shard {number}"))
            except EmbeddingsError:
                continue  # another's
            if not _is_there(out, number):  # or it has been finished in between
                mine.append(number)
        yield mine


def _make(job: Job, out: Path, numbers: Sequence[int], stamps: Stamps | None, most: int) -> None:
    """Make those of these shards that nobody else is at work on; each is looked at once."""
    ahead = iter(numbers)
    while True:
        with _claimed(out, ahead, most) as mine:
            if not mine:
                return
            made = make_shards(job.prior, job.source, job.plan, out, mine, job.run, digests=stamps is not None)
            refuse_skipped(made.shards, job, out)
            for number in mine if stamps is not None else ():
                images = shard_range(job.plan, number)
                atomic_write(_digests(out, number), b"".join(made.digests[position] for position in images))


def _digests(out: Path, number: int) -> Path:
    """Digests of the pictures of a shard, until the index is written."""
    return out / f"{DIGESTS}{number:05d}"


def _leave(job: Job, out: Path, stamps: Stamps | None) -> Index | None:
    """Write the index, or read the one that somebody else has written; None if a shard turns out not to be whole."""
    with locked(out, wait=None):
        index = begin(out, job.plan, alone=False)
        if index is None:
            shards = finished_shards(out, job.plan, shard_count(job.plan))
            broken = [number for number in range(shard_count(job.plan)) if number not in shards]
            for number in broken:
                (out / shard_name(number)).unlink(missing_ok=True)
            if broken:
                return None
            refuse_skipped(shards, job, out)
            known: dict[int, bytes] = {}
            for number in shards:
                images = shard_range(job.plan, number)
                with suppress(OSError):
                    found = _digests(out, number).read_bytes()
                    if len(found) == len(images) * _DIGEST_BYTES:
                        known |= {
                            position: found[i * _DIGEST_BYTES : (i + 1) * _DIGEST_BYTES]
                            for i, position in enumerate(images)
                        }
            conclude(job, out, shards, stamps, known)
        for claim in out.glob(f"{CLAIM}*"):
            _released(out, claim.name)
        remove_leftovers(out)
    return finished(out, job.plan)
