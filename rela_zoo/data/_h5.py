"""Images inside an h5 file, one data set an image in one group a class: the layout of solo-learn's H5Dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from rela_zoo.data._source import ImageSource, Stamps, check_unique
from rela_zoo.data._stamps import file_stamps
from rela_zoo.errors import EmbeddingsError

SUFFIXES = (".h5", ".hdf5")


def _h5py() -> Any:
    try:
        import h5py
    except ImportError:
        raise EmbeddingsError(
            "h5 files need h5py", expected="h5py installed", got="no such module", fix="pip install h5py"
        ) from None
    return h5py


class H5Source(ImageSource):
    """Encoded pictures of an h5 file; an id is "class/name", as for the same images in a folder.

    Args:
        path: the file; opened at the first read, by each process for itself.
        ids: "class/name" in the order of the rows to be made; None for all, sorted, labelled by their groups.
        labels: a class number for each of these ids, or None.
        classes: names of the classes; their numbers if none are given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        ids: Sequence[str] | None = None,
        labels: Sequence[int] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self._path, self._file = os.fspath(path), None
        if ids is None:
            with _h5py().File(self._path, "r") as file:
                names = {group: sorted(file[group]) for group in sorted(file)}
            ids = [f"{group}/{name}" for group, inside in names.items() for name in inside]
            classes, labels = list(names), [i for i, inside in enumerate(names.values()) for _ in inside]
        self._ids = list(ids)
        self._label(labels, classes)
        check_unique(self._ids, f"the h5 file {self._path}")

    @property
    def ids(self) -> Sequence[str]:
        return self._ids

    def raw(self, index: int) -> bytes:
        if self._file is None:
            self._file = _h5py().File(self._path, "r")
        try:
            return self._file[self._ids[index]][:].tobytes()  # type: ignore[index]
        except KeyError:
            raise EmbeddingsError(
                f"{self._path} has no image {self._ids[index]}",
                expected="the images that the data set lists",
                got="an h5 file without this one",
                # H5Dataset keeps the list of an h5 file in the home folder, under the file's bare name.
                fix="remove the stale list that solo-learn keeps in your home folder, named like the file with .txt",
            ) from None

    def stamps(self) -> Stamps:
        return Stamps(file_stamps([self._path]), one_each=False)

    def describe(self) -> str:
        return f"h5 file {self._path} ({len(self)} images)"

    def __getstate__(self) -> dict[str, Any]:
        # An open h5 file can't go to a worker.
        return {**self.__dict__, "_file": None}
