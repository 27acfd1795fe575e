"""Which split of a data set a file belongs to, and which one is meant."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from rela_zoo._io import ranks
from rela_zoo.data._parquet import ParquetSource, open_parquet
from rela_zoo.data._source import LeftOut
from rela_zoo.errors import EmbeddingsError

# One name for each split, and the names that files and users give it.
_ALIASES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val"),
    "test": ("test", "testing"),
    "unsupervised": ("unsupervised",),
    "unlabeled": ("unlabeled",),
    "extra": ("extra",),
}
NAMES = {alias: split for split, aliases in _ALIASES.items() for alias in aliases}
_BEGINNING = re.compile(rf"({'|'.join(sorted(NAMES, key=len, reverse=True))})(?![a-z])")
OTHERS = ""  # the split of files whose names say none


def canonical(split: str) -> str:
    """`val` → `validation`, and so on; a name that is none of the known ones stays as it is."""
    return NAMES.get(split, split)


def split_of(path: str) -> str:
    """The split of a parquet file, by the beginning of its name, else by the folder that it lies in.

    Examples:
        >>> split_of("data/train-00000-of-00002.parquet"), split_of("default/val/0000.parquet"), split_of("x.parquet")
        ('train', 'validation', '')
    """
    *folders, name = path.split("/")
    found = _BEGINNING.match(name.lower())
    if found:
        return NAMES[found[1]]
    return next((NAMES[one] for one in reversed(folders) if one in NAMES), OTHERS)


def parquet_source(root: Path, names: Iterable[str], wanted: Sequence[str] | None, insist: bool) -> ParquetSource:
    """The parquet files of one split, in the order of their paths.

    Args:
        root: the folder.
        names: POSIX paths of its files, relative to it.
        wanted: splits that are asked for, the first there is being taken; None for `train`, if there are several.
        insist: whether one of `wanted` must be there. Else a folder without splits is taken as it is.

    Raises:
        EmbeddingsError: the split isn't there, or nothing says which of several is meant.
    """
    by_split: dict[str, list[Path]] = {}
    for name in sorted(names):
        by_split.setdefault(split_of(name), []).append(root / name)
    split = _chosen(root, by_split, wanted, insist)
    files = by_split.pop(split)
    left_out = tuple(
        LeftOut(f"split {_shown(other)}", _rows(paths), paths[0].relative_to(root).as_posix())
        for other, paths in sorted(by_split.items())
    )
    source = ParquetSource(files, left_out)
    if left_out and wanted is None:
        say_taken(root, split, len(source), left_out, _address(next(iter(by_split.values()))))
    return source


def say_taken(root: Path, split: str, count: int, left_out: Sequence[LeftOut], other: str | None) -> None:
    """Say which of several splits is taken, what the others hold, and how to name one of them."""
    others = ", ".join(f"{one.what.removeprefix('split ')} {one.count:,}" for one in left_out)
    address = f"{other} in place of the folder, or " if other else ""
    say(
        f"{root} holds several splits, and {split} is taken: {count:,} images; left out: {others}. "
        f"To take another one: {address}image_source(path, split=…) in Python"
    )


def _chosen(root: Path, by_split: dict[str, list[Path]], wanted: Sequence[str] | None, insist: bool) -> str:
    splits = sorted(by_split)
    for one in map(canonical, ("train",) if wanted is None else wanted):
        if one in by_split:
            return one
    if len(by_split) == 1 and not (wanted is not None and insist):
        return splits[0]
    if wanted is not None and insist:
        raise no_such_split(root, wanted[0], [_shown(one) for one in splits])
    raise EmbeddingsError(
        f"{root} holds parquet files of several splits",
        expected="the files of one split",
        got=", ".join(_shown(one) for one in splits),
        fix=f"name the files of one: {_address(by_split[splits[-1]])}",
    )


def _address(paths: Sequence[Path]) -> str:
    """The file of a split, or a pattern for its files."""
    if len(paths) == 1:
        return str(paths[0])
    begins = _BEGINNING.match(paths[0].name.lower())
    return str(paths[0].parent / f"{paths[0].name[: begins.end()] if begins else ''}*.parquet")


def no_such_split(root: Path, split: str, there: Sequence[str]) -> EmbeddingsError:
    """The error for a split that is asked for and isn't there."""
    return EmbeddingsError(
        f"{root} has no split {split!r}", expected=f"one of {', '.join(there) or 'no splits'}", got=split,
        fix="name one of these, or none",
    )  # fmt: skip


def say(text: str) -> None:
    """Warn the user once, on the process that speaks for the job."""
    if not ranks.is_first():
        return
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("rela_zoo.data."):
        level, frame = level + 1, frame.f_back
    warnings.warn(text, stacklevel=level)  # where the data are opened


def _shown(split: str) -> str:
    return split or "others"


def _rows(paths: Sequence[Path]) -> int:
    """Images of a split that is not taken; files that can't be read count for none, for nobody asked for them."""
    rows = 0
    for path in paths:
        try:
            file = open_parquet(path)
        except EmbeddingsError:
            continue
        rows += file.metadata.num_rows
        file.close()
    return rows
