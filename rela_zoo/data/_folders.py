"""Images in files: a folder with class folders, a flat folder, or a list of paths below a root."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from rela_zoo.data._listing import EXTENSIONS, Listing
from rela_zoo.data._source import ImageSource, LeftOut, Stamps, check_unique
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError


class FileSource(ImageSource):
    """Image files below a root; an id is the path relative to the root, with forward slashes.

    Args:
        root: folder that the ids are relative to.
        ids: relative POSIX paths, in the order of the rows to be made.
        labels: a class number for each, or None.
        classes: names of the classes; their numbers if none are given.
        left_out: what else lies there.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        ids: Sequence[str],
        labels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
        left_out: tuple[LeftOut, ...] = (),
    ) -> None:
        self._root = os.fspath(root)
        self._ids = list(ids)
        self._label(labels, classes)
        self.left_out = left_out
        check_unique(self._ids, f"the folder {self._root}")

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        path = os.path.join(self._root, self._ids[index])
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise EmbeddingsError(
                f"the image {path} can't be read",
                expected="a readable file",
                got=f"{type(error).__name__}: {error.strerror}",
                fix="check that the file is still there and that you may read it",
            ) from error

    def stamps(self) -> Stamps:
        return Stamps(file_stamps(self._ids, self._root), one_each=True)

    def describe(self) -> str:
        return f"image folder {self._root} ({len(self)} images)"


def folder_source(root: Path, listing: Listing) -> FileSource | None:
    """The images of a folder, sorted by relative path; None if it holds no image at any depth.

    With class folders (folders at the top that hold images at any depth) the samples are those of torchvision's
    ImageFolder; otherwise the images directly in the folder, without labels.

    Raises:
        EmbeddingsError: class folders without a single image, named.
    """
    if not listing.images:
        return None
    left_out = listing.left_out()
    for what, others in (("parquet files", listing.parquet), ("tars", listing.tars)):
        if others:
            left_out += (LeftOut(what, len(others), min(others)),)
    in_folders = sorted(one for one in listing.images if "/" in one)
    if not in_folders:
        return FileSource(root, sorted(listing.images), left_out=left_out)
    top = [one.split("/", 1)[0] for one in in_folders]
    _check_none_empty(root, listing, set(top))
    loose = sorted(one for one in listing.images if "/" not in one)
    if loose:
        left_out += (LeftOut("directly in the folder", len(loose), loose[0]),)
    number = {name: label for label, name in enumerate(listing.folders)}
    return FileSource(root, in_folders, [number[name] for name in top], listing.folders, left_out)


def _check_none_empty(root: Path, listing: Listing, full: set[str]) -> None:
    empty = [name for name in listing.folders if name not in full]
    if not empty:
        return
    named = ", ".join(map(repr, empty[:3])) + (f" and {len(empty) - 3} more" if len(empty) > 3 else "")
    other = [one for one in listing.not_read if one.split("/", 1)[0] in empty]
    raise EmbeddingsError(
        f"{'an empty class folder' if len(empty) == 1 else f'{len(empty)} empty class folders'}: {named} in {root}",
        expected=f"at least one image ({' '.join(EXTENSIONS)}) in each class folder",
        got=f"only pictures that are not read, such as {other[0]}" if other else "none",
        fix=f"remove {'it' if len(empty) == 1 else 'them'}, or put images there"
        + (": save the pictures as PNG or JPEG" if other else ""),
    )


def relative_ids(root: str | os.PathLike[str], paths: Sequence[str]) -> list[str]:
    """Paths of samples → POSIX paths relative to `root`. Fast for a million paths that begin with the root.

    Raises:
        EmbeddingsError: a path lies outside the root.
    """
    prefix = os.path.join(os.fspath(root), "")
    ids = [
        path[len(prefix) :] if path.startswith(prefix) else os.path.relpath(path, prefix) for path in map(str, paths)
    ]
    if os.sep != "/":
        ids = [one.replace(os.sep, "/") for one in ids]
    outside = next((path for one, path in zip(ids, paths, strict=True) if one.startswith("../")), None)
    if outside is not None:
        raise EmbeddingsError(
            "a sample of the data set lies outside its root, so it has no relative path to be known by",
            expected=f"files below {root}",
            got=str(outside),
            fix="give the data set a root that holds all of its files",
        )
    return ids
