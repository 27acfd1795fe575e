"""Images in one `.npy` file, mapped into memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rela_zoo.data._arrays import ArraySource
from rela_zoo.errors import EmbeddingsError

SUFFIX = ".npy"
# Of `digits.npy`: where its labels lie.
_LABELS = (".labels.npy", "_labels.npy")


class NpySource(ArraySource):
    """A `.npy` file of uint8 images, (N, H, W, 3), (N, 3, H, W) or (N, H, W); ids are those of the same array.

    Labels are the numbers in `NAME.labels.npy` or `NAME_labels.npy` beside `NAME.npy`, (N,) integers, −1 for none.

    Args:
        path: the file.

    Raises:
        EmbeddingsError: damaged, no images, or labels that do not fit.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        pixels = _mapped(path)
        super().__init__(pixels, str(path), _labels(path, len(pixels) if pixels.ndim else 0))

    def __getstate__(self) -> dict[str, Any]:
        # Mapped again in a worker: it would be copied there whole.
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._pixels = _mapped(self._path)


def _mapped(path: Path) -> np.ndarray:
    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # NumPy reads the header with Python's tokenizer, which raises almost anything
        raise EmbeddingsError(
            f"{path} can't be opened as an array", expected="a whole .npy file of numbers (pickles are never read)",
            got=f"{type(error).__name__}: {error}", fix="write it again with numpy.save",
        ) from error  # fmt: skip
    return found


def _labels(path: Path, count: int) -> list[int] | None:
    stem = str(path)[: -len(path.suffix)]
    beside = next((file for ending in _LABELS if (file := Path(stem + ending)).is_file()), None)
    if beside is None:
        return None
    found = _mapped(beside)
    if found.shape != (count,) or found.dtype.kind not in "iu":
        raise EmbeddingsError(
            f"{beside} does not hold the labels of {path}", expected=f"{count} integers",
            got=f"{found.dtype} of shape {found.shape}", fix="mend or remove it",
        )  # fmt: skip
    return [int(one) for one in found]
