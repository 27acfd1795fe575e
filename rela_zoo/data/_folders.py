"""Images in files: a folder with class folders, a flat folder, or a list of paths below a root."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path

from rela_zoo.data._source import ImageSource, check_unique
from rela_zoo.errors import EmbeddingsError

# torchvision's list, so that a folder gives the same samples here and in its ImageFolder.
_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_SPLITS = frozenset({"train", "training", "val", "valid", "validation", "test", "testing", "unlabeled", "extra"})


class FileSource(ImageSource):
    """Image files below a root; an id is the path relative to the root, with forward slashes.

    Args:
        root: folder that the ids are relative to.
        ids: relative POSIX paths, in the order of the rows to be made.
    """

    def __init__(self, root: str | os.PathLike[str], ids: Sequence[str]) -> None:
        self._root = os.fspath(root)
        self._ids = list(ids)
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

    def describe(self) -> str:
        return f"image folder {self._root} ({len(self)} images)"


def folder_source(root: Path) -> FileSource | None:
    """List the images of a folder, sorted by relative path; None if it holds no image at any depth.

    With class folders (folders at the top that hold images at any depth) the samples are those of torchvision's
    ImageFolder; otherwise the images directly in the folder.

    Raises:
        EmbeddingsError: class folders without a single image, named.
    """
    with os.scandir(root) as entries:
        top = sorted((entry.name, entry.is_dir()) for entry in entries)
    loose = [name for name, is_folder in top if not is_folder and _is_image(name)]
    by_class = {name: _below(root, name) for name, is_folder in top if is_folder}
    if not any(by_class.values()):
        return FileSource(root, sorted(loose)) if loose else None
    # ImageFolder takes a hidden folder for a class; an empty one is a tool's leftover and no reason to stop.
    empty = [name for name, found in by_class.items() if not found and not name.startswith(".")]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        raise EmbeddingsError(
            f"class folder{'s' * (len(empty) > 1)} without images in {root}: {', '.join(empty[:3])}{more}",
            expected=f"at least one image ({' '.join(_EXTENSIONS)}) in each class folder",
            got="none",
            fix="remove the empty folder, or put its images there",
        )
    if loose:
        warnings.warn(
            f"{len(loose)} images directly in {root} are left out: it has class folders, and they are in none "
            f"(first: {loose[0]})",
            stacklevel=3,
        )
    if set(by_class) <= _SPLITS:
        warnings.warn(
            f"{root} looks like a folder of splits ({', '.join(by_class)}), and all of them are taken together; "
            f"for the training images alone give {root / next(iter(by_class))}",
            stacklevel=3,
        )
    return FileSource(root, sorted(one for found in by_class.values() for one in found))


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


def _is_image(name: str) -> bool:
    return name.lower().endswith(_EXTENSIONS)


def _below(root: Path, name: str) -> list[str]:
    """Images at any depth below root/name, as POSIX paths relative to root; links are followed, as ImageFolder does."""
    prefix = os.path.join(os.fspath(root), "")
    return [
        os.path.join(folder, file)[len(prefix) :].replace(os.sep, "/")
        for folder, _, files in os.walk(os.path.join(prefix, name), followlinks=True)
        for file in files
        if _is_image(file)
    ]
