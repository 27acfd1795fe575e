"""What lies below a folder, listed once: images, files of many, and what looks like an image and is not read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rela_zoo.data._source import LeftOut
from rela_zoo.errors import EmbeddingsError

# torchvision's list, so that a folder gives the same samples here and in its ImageFolder.
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
# Pictures too, most of which Pillow opens; taking them would change what a folder holds.
_NOT_READ = (
    *(".jfif", ".jpe", ".jp2", ".j2k", ".jpx", ".jxl", ".avif", ".avifs", ".heic", ".heif", ".gif", ".apng", ".dib"),
    *(".pbm", ".pnm", ".pfm", ".tga", ".ico", ".icns", ".psd", ".sgi", ".pcx", ".qoi", ".dds", ".xbm", ".xpm"),
)
# Made by a Mac's zip: it holds no image, only a companion of each.
_FOREIGN = ("__MACOSX",)


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the data: hidden, a companion `._name` of a Mac, a tool's leftovers."""
    return name.startswith(".") or name in _FOREIGN


def ending_not_read(name: str) -> str | None:
    """The ending of a picture that is not taken, in small letters; None for any other file."""
    ending = os.path.splitext(name)[1].lower()
    return ending if ending in _NOT_READ else None


@dataclass
class Listing:
    """Files at any depth below a folder, as POSIX paths relative to it, in no order; hidden ones are not in it.

    Attributes:
        images: with one of the endings that are read.
        parquet, tars, arrow: with the endings `.parquet`, `.tar`, `.arrow`.
        not_read: pictures with other endings.
        dangling: links with an image's name that lead nowhere.
        folders: directly in the folder.
    """

    images: list[str] = field(default_factory=list)
    parquet: list[str] = field(default_factory=list)
    tars: list[str] = field(default_factory=list)
    arrow: list[str] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)
    dangling: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)

    def of_many(self, name: str) -> list[str] | None:
        """The list that a file which holds many images belongs to."""
        kinds = {".parquet": self.parquet, ".tar": self.tars, ".arrow": self.arrow}
        return kinds.get(os.path.splitext(name)[1])

    def left_out(self) -> tuple[LeftOut, ...]:
        """Pictures by ending, and dangling links."""
        by_ending: dict[str, list[str]] = {}
        for one in sorted(self.not_read):
            by_ending.setdefault(os.path.splitext(one)[1].lower(), []).append(one)
        found = [LeftOut(f"ending in {ending}", len(names), names[0]) for ending, names in sorted(by_ending.items())]
        if self.dangling:
            found.append(LeftOut("links that lead nowhere", len(self.dangling), min(self.dangling)))
        return tuple(found)


def list_folder(root: str | os.PathLike[str]) -> Listing:
    """List everything below a folder. Linked folders are followed, as by torchvision, but never in a circle.

    Raises:
        EmbeddingsError: a folder can't be listed.
    """
    listing = Listing()
    for path, entry in _walk(os.fspath(root), "", (_identity(os.stat(root)),)):
        name = entry.name
        if _leads_to(entry.is_dir):
            if "/" not in path:
                listing.folders.append(path)
        elif name.lower().endswith(EXTENSIONS):
            if _leads_to(entry.is_file):
                listing.images.append(path)
            elif entry.is_symlink():
                listing.dangling.append(path)
        elif (tabular := listing.of_many(name)) is not None:
            tabular.append(path)
        elif ending_not_read(name):
            listing.not_read.append(path)
    listing.folders.sort()
    return listing


def _walk(folder: str, prefix: str, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """(path below the root, entry) of everything that is not hidden; `above` are the folders on the way here."""
    try:
        with os.scandir(folder) as scanned:
            entries = [entry for entry in scanned if not is_hidden(entry.name)]
    except OSError as error:
        raise EmbeddingsError(
            f"the folder {folder} can't be listed",
            expected="a folder that can be read",
            got=f"{type(error).__name__}: {error.strerror}",
            fix="correct its permissions, or take it out of the data",
        ) from error
    for entry in entries:
        path = prefix + entry.name
        if not _leads_to(entry.is_dir):
            yield path, entry
            continue
        here = _identity(entry.stat())
        if here not in above:  # else a link to a folder that this one lies in
            yield path, entry
            yield from _walk(entry.path, f"{path}/", (*above, here))


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _leads_to(kind: Callable[[], bool]) -> bool:
    """`is_dir` or `is_file` of an entry; False for a link to itself, which the system refuses to follow."""
    try:
        return kind()
    except OSError:
        return False
