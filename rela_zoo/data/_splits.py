"""Which split of a data set a file belongs to, and which one is meant."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from rela_zoo._io import ranks
from rela_zoo.data._parquet import ParquetSource, open_parquet
from rela_zoo.data._source import ImageSource, LeftOut
from rela_zoo.errors import EmbeddingsError

Opened = TypeVar("Opened", bound=ImageSource)
Named = TypeVar("Named", Path, str)

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
_WORDS = rf"({'|'.join(sorted(NAMES, key=len, reverse=True))})(?![a-z])"
_BEGINNING = re.compile(_WORDS)
_WITHIN = re.compile(rf"(?<![a-z]){_WORDS}")
OTHERS = ""  # the split of files whose names say none


def canonical(split: str) -> str:
    """`val` → `validation`, and so on; a name that is none of the known ones stays as it is."""
    return NAMES.get(split, split)


def split_of(path: str) -> str:
    """The split of a file: by the beginning of its name, else by the folder it lies in, else by a word in its name.

    Examples:
        >>> split_of("data/train-00000-of-00002.parquet"), split_of("default/val/0000.parquet"), split_of("x.parquet")
        ('train', 'validation', '')
        >>> split_of("imagenet1k-train-0000.tar"), split_of("photos_test.parquet"), split_of("constrained.parquet")
        ('train', 'test', '')
    """
    *folders, name = path.split("/")
    if found := _BEGINNING.match(name.lower()):
        return NAMES[found[1]]
    folder = next((NAMES[one] for one in reversed(folders) if one in NAMES), OTHERS)
    if folder == OTHERS and (found := _WITHIN.search(name.lower())):
        return NAMES[found[1]]
    return folder


def split_of_named(path: str) -> str:
    """The split of a file that the user has named: by its name, else by the folder that it lies in, and by no other.

    Examples:
        >>> split_of_named("/test/toy-train.parquet"), split_of_named("d/val/0.parquet"), split_of_named("x.npy")
        ('train', 'validation', '')
    """
    folder, _, name = path.rpartition("/")
    return split_of(name) or NAMES.get(folder.rpartition("/")[2], OTHERS)


def named_files(
    what: Path | str, files: Sequence[Named], wanted: Sequence[str] | None, insist: bool
) -> tuple[list[Named], tuple[LeftOut, ...]]:
    """Of files that the user has named those of the split that must be there, and what that leaves out; else all.

    Args:
        what: the user has named: a file, a pattern, an address.
        files: that it stands for.
        wanted: as of `split_source`.
        insist: likewise.

    Raises:
        EmbeddingsError: the names say other splits, or none.
    """
    if wanted is None or not insist:
        return list(files), ()
    by_split: dict[str, list[Named]] = {}
    for one in files:
        by_split.setdefault(split_of_named(str(one).partition("?")[0] if "://" in str(one) else str(one)), []).append(
            one
        )
    split = next((one for one in map(canonical, wanted) if one in by_split), None)
    if split is None:
        raise no_such_split(what, wanted[0], sorted(filter(None, by_split)))
    return by_split[split], tuple(
        LeftOut(f"split {_shown(name)} (files)", len(found), str(found[0]).partition("?")[0])
        for name, found in sorted(by_split.items())
        if name != split
    )


def split_source(
    root: Path | str,
    by_split: Mapping[str, Sequence[Path]],
    wanted: Sequence[str] | None,
    insist: bool,
    make: Callable[[Sequence[Path], tuple[LeftOut, ...]], Opened],
    count: Callable[[Sequence[Path]], int] = len,
) -> Opened:
    """The source of one split.

    Args:
        root: what the user named.
        by_split: files of each split; names that say none are under `OTHERS`.
        wanted: splits that are asked for, the first there is being taken; None for `train`, if there are several.
        insist: whether one of `wanted` must be there. Else what has no splits is taken as it is.
        make: the source, from its files and what is left out.
        count: of the images in files of other splits, or of the files where that would take long.

    Raises:
        EmbeddingsError: the split isn't there, or nothing says which of several is meant.
    """
    split = _chosen(root, by_split, wanted, insist)
    others = {name: paths for name, paths in sorted(by_split.items()) if name != split}
    files = " (files)" if count is len else ""
    left_out = tuple(
        LeftOut(f"split {_shown(name)}{files}", count(paths), paths[0].as_posix().removeprefix(f"{root}/"))
        for name, paths in others.items()
    )
    source = make(by_split[split], left_out)
    if left_out and wanted is None:
        say_taken(root, split, len(source), left_out, _address(next(iter(others.values()))))
    return source


def by_split_name(root: Path, names: Iterable[str]) -> dict[str, list[Path]]:
    """Files by split, in the order of their paths.

    Args:
        root: the folder.
        names: POSIX paths of its files, relative to it.
    """
    found: dict[str, list[Path]] = {}
    for name in sorted(names):
        found.setdefault(split_of(name), []).append(root / name)
    return found


def parquet_source(root: Path, names: Iterable[str], wanted: Sequence[str] | None, insist: bool) -> ParquetSource:
    """The parquet files of one split, see `split_source`."""
    return split_source(root, by_split_name(root, names), wanted, insist, ParquetSource, _rows)


def choose_split(splits: Sequence[str], split: str | None, what: str) -> str:
    """One of the splits of a data set object: the one asked for, else `train`, else the only one.

    Raises:
        EmbeddingsError: it isn't there, or nothing says which of several is meant.
    """
    names = {canonical(one): one for one in splits}
    chosen = names.get(canonical(split)) if split is not None else names.get("train")
    if chosen is None and split is None and len(splits) == 1:
        chosen = splits[0]
    if chosen is None:
        raise EmbeddingsError(
            f"{what} has several splits" if split is None else f"{what} has no split {split!r}",
            expected=f"one of {', '.join(splits) or 'no splits'}", got=split or "none named", fix="name it: split=…",
        )  # fmt: skip
    others = [one for one in splits if one != chosen]
    if others and split is None:
        say(f"{what} holds several splits, and {chosen} is taken; left out: {', '.join(others)}. To take another one: "
            f"image_source(data, split=…) in Python")  # fmt: skip
    return chosen


def say_taken(root: Path | str, split: str, count: int, left_out: Sequence[LeftOut], other: str | None) -> None:
    """Say which of several splits is taken, what the others hold, and how to name one of them."""
    others = ", ".join(f"{one.what.removeprefix('split ')} {one.count:,}" for one in left_out)
    address = f"{other} in place of the folder, or " if other else ""
    say(
        f"{root} holds several splits, and {split} is taken: {count:,} images; left out: {others}. "
        f"To take another one: {address}--split NAME, or image_source(path, split=…) in Python"
    )


def _chosen(
    root: Path | str, by_split: Mapping[str, Sequence[Path]], wanted: Sequence[str] | None, insist: bool
) -> str:
    splits = sorted(by_split)
    for one in map(canonical, ("train",) if wanted is None else wanted):
        if one in by_split:
            return one
    if len(by_split) == 1 and not (wanted is not None and insist):
        return splits[0]
    if wanted is not None and insist:
        raise no_such_split(root, wanted[0], [] if splits == [OTHERS] else [_shown(one) for one in splits])
    raise EmbeddingsError(
        f"{root} holds files of several splits",
        expected="the files of one split",
        got=", ".join(_shown(one) for one in splits),
        fix=f"name one: --split {splits[-1]}, split={splits[-1]!r} in Python, or its files: "
        f"{_address(by_split[splits[-1]])}",
    )


def _address(paths: Sequence[Path]) -> str:
    """The file of a split, or a pattern for its files."""
    if len(paths) == 1:
        return str(paths[0])
    begins = _BEGINNING.match(paths[0].name.lower()) or _WITHIN.search(paths[0].name.lower())
    return str(paths[0].parent / f"{paths[0].name[: begins.end()] if begins else ''}*{paths[0].suffix}")


def no_such_split(root: Path | str, split: str, there: Sequence[str]) -> EmbeddingsError:
    """The error for a split that is asked for and isn't there."""
    return EmbeddingsError(
        f"{root} has no split {split!r}", expected=f"one of {', '.join(there) or 'no splits'}", got=split,
        fix="name one of these, or none" if there else "leave the split out, or name the data of that split",
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
