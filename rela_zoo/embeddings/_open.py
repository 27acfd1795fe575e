"""Open an embedding artefact: refuse it if anything about it is not as its index says."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rela_zoo._io.digest import file_sha256
from rela_zoo.data import check_unique
from rela_zoo.embeddings._format import FIX, IDS, INDEX, has_canonical_header, read_index, read_shard_header
from rela_zoo.embeddings._pictures import RECORD
from rela_zoo.embeddings._table import EmbeddingTable
from rela_zoo.errors import EmbeddingsError


def open_embeddings(
    path: str | Path, *, verify: Literal["size", "full"] = "size", partial: bool = False
) -> EmbeddingTable:
    """Open an embedding artefact.

    Args:
        path: the folder.
        verify: `size` checks the index, its digest, and size and header of every shard, and reads no row; `full`
            reads everything once and checks every sha256, the ids, and that all values are finite.
        partial: whether shards may be missing, as of what `pull` has fetched for some samples. Their rows are refused
            when they are asked for; what is there is checked all the same.

    Returns:
        The table.

    Raises:
        EmbeddingsError: missing, truncated or changed files, shards of another width, a wrong digest, values that are
            not finite, a newer format; each says which.

    Examples:
        >>> from rela_zoo import open_embeddings
        >>> open_embeddings("embeddings").rows([0, 1]).shape
        torch.Size([2, 64])
    """
    if verify not in ("size", "full"):
        raise ValueError(f"expected verify='size' or 'full', got {verify!r}")
    folder = Path(path).expanduser()
    info = read_index(folder)
    _check_size(folder / info.ids.file, info.ids.bytes)
    plan_digest = info.plan_digest()
    offsets: list[int | None] = []
    for shard in info.shards:
        if partial and not (folder / shard.file).exists():
            offsets.append(None)
            continue
        offset, _, metadata = read_shard_header(folder / shard.file, shard.rows, info.dim, info.dtype)
        _check_size(folder / shard.file, shard.bytes)
        if metadata.get("plan") != plan_digest:
            raise EmbeddingsError(
                f"{folder / shard.file} was made for other embeddings than its index",
                expected=f"plan {plan_digest}",
                got=f"plan {metadata.get('plan')}",
                fix=FIX,
            )
        offsets.append(offset)
    table = EmbeddingTable(folder, info, offsets)
    if verify == "full":
        _verify_content(table)
    return table


def open_ids(path: str | Path) -> EmbeddingTable:
    """Open index and sample ids of an artefact whose shards may not be there.

    Returns:
        A table whose rows can't be read.

    Raises:
        EmbeddingsError: no index, or a malformed one.
    """
    folder = Path(path).expanduser()
    info = read_index(folder)
    return EmbeddingTable(folder, info, [None] * len(info.shards))


def refuse_other_content(table: EmbeddingTable) -> None:
    """Refuse a folder that holds more than its embeddings: another file, a link, or words in the header of a shard.

    A shard that passes is its canonical header and its rows: it has no place for a picture.

    Raises:
        EmbeddingsError: naming what is there.
    """
    folder, files = table.path, set(table.files)
    there = [path for path in folder.rglob("*") if path.is_symlink() or (path.is_file() and path.name != RECORD)]
    strangers = sorted(name for path in there if (name := path.relative_to(folder).as_posix()) not in files)
    strangers += sorted(f"link {path.name}" for path in there if path.is_symlink() and path.name in files)
    if strangers:
        raise EmbeddingsError(
            f"{folder} holds files that are no embeddings, and nothing else is ever published",
            expected=f"{INDEX}, {IDS} and {len(table.info.shards)} shards",
            got=f"{len(strangers)} more: {', '.join(strangers[:3])}{', …' if len(strangers) > 3 else ''}",
            fix="move them elsewhere",
        )
    for shard in table.info.shards:
        if not has_canonical_header(folder / shard.file, shard.rows, table.info.dim, table.info.dtype):
            raise EmbeddingsError(
                f"the header of {folder / shard.file} holds more than a shard's",
                expected="the header that `rela-zoo embed` writes",
                fix="embed this data set anew",
            )


def _verify_content(table: EmbeddingTable) -> None:
    """Every byte that is here once: sha256 of the shards and the ids, unique ids, finite values."""
    here = [one for number, one in enumerate(table.info.shards) if number not in table.missing]
    for shard in here:
        path = table.path / shard.file
        found = file_sha256(path)
        if found != shard.sha256:
            raise EmbeddingsError(
                f"{path} is damaged: its bytes are not those that were written",
                expected=f"sha256 {shard.sha256}",
                got=f"sha256 {found}",
                fix=FIX,
            )
    check_unique(list(table.ids), str(table.path))
    first = 0
    for number, shard in enumerate(table.info.shards):
        if number not in table.missing:
            for _ in table.iter_rows(start=first, stop=first + shard.rows):
                pass
        first += shard.rows


def _check_size(path: Path, expected: int) -> None:
    size = path.stat().st_size if path.is_file() else None
    if size != expected:
        raise EmbeddingsError(
            f"{path} is {'missing' if size is None else 'truncated' if size < expected else 'too long'}",
            expected=f"{expected} bytes",
            got="no file" if size is None else f"{size} bytes",
            fix=FIX,
        )
