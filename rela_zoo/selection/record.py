"""Subsets on disk: a folder with the sample ids of each epoch, to be replayed here or read by anything else.

`subsets.json` says how they were drawn, and has digests of up to 64 of the pictures; `epoch-00000.parquet`, … hold one
row a sample, in the order of training: `id` (string), `index` (int64, its position in the data set they were drawn
from), `weight` (float32, 1 without weights).
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.files import atomic_write
from rela_zoo._io.log import logger
from rela_zoo.embeddings import SampleRecord, compare_pictures, sample_records
from rela_zoo.errors import SelectionError
from rela_zoo.selection.subset import Draw, Subset

if TYPE_CHECKING:
    from rela_zoo.data import ImageSource

log = logger(__name__)

FORMAT, VERSION = "rela_zoo.subsets", 1
_INFO = "subsets.json"
_EPOCH = re.compile(r"epoch-(\d{5,})\.parquet")


def _write(path: Path, content: bytes | memoryview) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, content)
    except OSError as error:
        raise SelectionError(
            f"{path} can't be written", expected="a folder with room", got=error, fix="name another folder"
        ) from error


class SubsetWriter:
    """Writes subsets to a folder, an epoch a file.

    Args:
        folder: made if missing; may hold epochs of the same subsets, which are written again or kept.
        ids: sample id of each position of the data set.
        subset: whose draws will be written.
        source: the pictures themselves, some of which are kept as digests; None where only their ids are known.

    Raises:
        SelectionError: the folder holds other subsets, or subsets of other pictures.
    """

    def __init__(
        self, folder: str | Path, ids: Sequence[str], subset: Subset, source: ImageSource | None = None
    ) -> None:
        self.folder, self._ids = Path(folder).expanduser(), ids
        from rela_zoo.data import ids_sha256

        info = {
            "format": FORMAT,
            "version": VERSION,
            "n": subset.n,
            "ids_sha256": ids_sha256(ids),
            "ratio": subset.ratio,
            "seed": subset.seed,
            "selection": subset.described,
        }
        samples = None if source is None else sample_records(source, range(len(source)))
        if samples is not None:
            info["samples"] = {name: one.model_dump() for name, one in samples.items()}
        path = self.folder / _INFO
        if path.exists() and _differ(json.loads(path.read_text(encoding="utf-8")), json.loads(json.dumps(info))):
            raise SelectionError(
                f"{self.folder} holds other subsets",
                expected="an empty folder, or one with subsets drawn in the same way",
                got=f"{path}",
                fix="name another folder, or remove this one",
            )
        _write(path, (json.dumps(info, indent=1) + "\n").encode())

    def write(self, epoch: int, draw: Draw) -> Path:
        """Write the samples of an epoch; returns the file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        indices = draw.indices.numpy()
        weights = np.ones(len(indices), np.float32) if draw.weights is None else draw.weights.numpy()
        ids = [self._ids[i] for i in indices.tolist()]
        table = pa.table({"id": pa.array(ids, pa.string()), "index": pa.array(indices), "weight": pa.array(weights)})
        path = self.folder / f"epoch-{epoch:05d}.parquet"
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        _write(path, buffer.getbuffer())
        return path


def _differ(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two folders can't be one; those from before there were digests have none to compare."""
    keys = {*one, *other}
    if "samples" not in one or "samples" not in other:
        keys.discard("samples")
    return any(one.get(key) != other.get(key) for key in keys)


class RecordedSubset:
    """Another subset, whose draws are also written to a folder.

    Args:
        subset: whose draws.
        writer: of the folder.
    """

    def __init__(self, subset: Subset, writer: SubsetWriter) -> None:
        self._subset, self._writer = subset, writer
        self.n, self.ratio, self.seed = subset.n, subset.ratio, subset.seed
        self.described, self.counts = subset.described, subset.counts

    @property
    def losses(self) -> Any:
        return self._subset.losses

    def __len__(self) -> int:
        return len(self._subset)

    def count(self, epoch: int) -> int:
        return self._subset.count(epoch)

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch`, after writing them."""
        draw = self._subset.draw(epoch)
        self._writer.write(epoch, draw)
        return draw


def read_info(folder: str | Path) -> dict[str, Any]:
    """How the subsets in a folder were drawn: n, ratio, seed, selection, and `epochs`, the number of them.

    Raises:
        SelectionError: no subsets there, of another format, or epochs are missing in between.
    """
    place = Path(folder).expanduser()
    fix = "name a folder written by `rela-zoo subset export` or `rela.selection.record`"
    try:
        info = json.loads((place / _INFO).read_text(encoding="utf-8"))
        known = info["format"] == FORMAT and info["version"] == VERSION
        info = {name: info[name] for name in ("n", "ratio", "seed", "selection")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SelectionError(f"there are no subsets in {place}", expected=_INFO, got=str(error), fix=fix) from None
    if not known:
        raise SelectionError(f"{place} is of another format", expected=f"{FORMAT} {VERSION}", fix=fix)
    epochs = sorted(int(found[1]) for one in place.iterdir() if (found := _EPOCH.fullmatch(one.name)))
    if epochs != list(range(len(epochs))) or not epochs:
        got = f"{epochs[:5]}…" if epochs else "none"
        raise SelectionError(f"{place} lacks epochs", expected="epochs 0, 1, … without a gap", got=got, fix=fix)
    return {**info, "epochs": len(epochs)}


def _read_samples(folder: Path) -> dict[str, SampleRecord] | None:
    """Digests of some of the pictures; None where there are none."""
    raw = json.loads((folder / _INFO).read_text(encoding="utf-8")).get("samples")
    try:
        return None if raw is None else {name: SampleRecord.model_validate(one) for name, one in raw.items()}
    except (ValueError, AttributeError) as error:
        raise SelectionError(
            f"{folder / _INFO} has malformed digests", expected="id → {pixels, bytes}", got=str(error).splitlines()[0],
            fix="draw anew: `rela-zoo subset export`",
        ) from error  # fmt: skip


def read_epoch(folder: str | Path, epoch: int) -> tuple[list[str], np.ndarray]:
    """Sample ids of an epoch in the order of training, and their weights (k,) float32.

    Raises:
        SelectionError: that epoch is not there, or its file is damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = Path(folder).expanduser() / f"epoch-{epoch:05d}.parquet"
    try:
        table = pq.read_table(path, columns=["id", "weight"])
        weights = table.column("weight").to_numpy().astype(np.float32)
    except (OSError, pa.ArrowException) as error:
        raise SelectionError(f"epoch {epoch} can't be read", expected=str(path), got=str(error)) from None
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise SelectionError(f"{path} has impossible weights", expected="finite numbers ≥ 0")
    return table.column("id").to_pylist(), weights


class ReplayedSubset:
    """The subsets in a folder, joined to a data set by sample id.

    Args:
        folder: written by `SubsetWriter`.
        ids: sample id of each position of the data set.

    Raises:
        SelectionError: no subsets there. For samples that this data set has not, when they are drawn.
    """

    losses = None

    def __init__(self, folder: str | Path, ids: Sequence[str]) -> None:
        import pyarrow.parquet as pq

        info = read_info(folder)
        self._folder, self._positions = Path(folder).expanduser(), {one: i for i, one in enumerate(ids)}
        self.n, self.ratio, self.seed = len(ids), info["ratio"], info["seed"]
        self.described: dict[str, object] = {"name": "replay", "of": info["selection"]}
        files = [self._folder / f"epoch-{epoch:05d}.parquet" for epoch in range(info["epochs"])]
        self._counts = tuple(int(pq.read_metadata(file).num_rows) for file in files)
        self.counts = None if len(set(self._counts)) == 1 else self._counts
        self.epochs = info["epochs"]
        self._samples = _read_samples(self._folder)

    def check_pictures(self, source: ImageSource, *, required: bool = False) -> int:
        """Refuse other pictures under the same names; how many could be compared, by digest.

        Args:
            source: the pictures to train on.
            required: refuse, too, if none could be compared.

        Raises:
            SelectionError: with the number of pictures that differ, and one of them.
        """
        fix = "replay on the data that they were drawn from, or draw anew: `rela-zoo subset export`"
        found = compare_pictures(self._samples, source)
        checked = found.refuse(f"the subsets in {self._folder}", SelectionError, fix)
        if not checked:
            said = f"whether the subsets in {self._folder} are of these pictures can't be verified"
            if required:
                raise SelectionError(
                    said, expected="digests of the pictures", got="none: drawn by an older rela-zoo, or from ids alone",
                    fix="draw them anew: `rela-zoo subset export`",
                )  # fmt: skip
            log.warning("not verified: %s; they are joined by name", said)
        return checked

    def __len__(self) -> int:
        return sum(self._counts) // len(self._counts)

    def count(self, epoch: int) -> int:
        return self._counts[min(epoch, len(self._counts) - 1)]

    def draw(self, epoch: int) -> Draw:
        """The samples of `epoch`, as they were recorded.

        Raises:
            SelectionError: that epoch was not recorded, or a sample is not in this data set.
        """
        ids, weights = read_epoch(self._folder, epoch)
        missing = [one for one in ids if one not in self._positions]
        if missing:
            raise SelectionError(
                f"{len(missing)} of {len(ids)} samples of epoch {epoch} are not in this data set",
                expected=f"the data that {self._folder} was drawn from",
                got=f"{missing[0]!r}, …",
                fix="replay on the same data set; samples are known by path, or by index and content",
            )
        indices: Tensor = torch.tensor([self._positions[one] for one in ids], dtype=torch.int64)
        weighted = bool((weights != 1.0).any())
        return Draw(indices, torch.from_numpy(weights.copy()) if weighted else None)
