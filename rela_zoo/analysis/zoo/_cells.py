"""The cells of a zoo: what is there to be made, what is made already, and how the record of a cell is kept.

One cell is a prior on a data set, or two priors on a data set. Its record is written last, whole or not at all, and
holds a key of everything that changes its numbers: a cell with the right record is finished, whatever became of the run
that made it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rela_zoo._io.digest import file_sha256
from rela_zoo._io.files import atomic_write
from rela_zoo.analysis.zoo._data import ZooData
from rela_zoo.errors import RegistryError
from rela_zoo.prior import entry_identity, find_weights
from rela_zoo.registry import RESULTS_FORMAT, KeptTransport, PriorSpec, Settings

_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class ZooPrior:
    """A prior of the zoo.

    Attributes:
        name: what `load_prior` takes.
        spec: its entry.
        fingerprint: what changes its numbers, known without building it.
    """

    name: str
    spec: PriorSpec
    fingerprint: Mapping[str, Any]

    @property
    def id(self) -> str:
        """The name that files and results have."""
        return self.spec.id


@dataclass(frozen=True)
class Cell:
    """One thing to be made: a prior on a data set, or a pair of them.

    Attributes:
        data: the data set.
        priors: one or two.
        key: hex digest of everything that changes the numbers.
    """

    data: ZooData
    priors: tuple[ZooPrior, ...]
    key: str

    @property
    def name(self) -> str:
        """`digits/random`, or `digits/random--cifar10-resnet20`."""
        return f"{self.data.about.name}/{'--'.join(one.id for one in self.priors)}"


@dataclass(frozen=True)
class Places:
    """Where a zoo keeps what."""

    out: Path

    def rows(self, data: ZooData, prior: ZooPrior, part: str) -> Path:
        """Embeddings of a part of a data set."""
        return self.out / "rows" / data.about.name / prior.id / part

    def transport(self, data: ZooData, *priors: ZooPrior) -> Path:
        """A target transport, or that from the first prior to the second."""
        return self.out / "transports" / data.about.name / f"{'--'.join(one.id for one in priors)}.safetensors"

    def record(self, cell: Cell) -> Path:
        """The record of a cell."""
        return self.out / "cells" / f"{cell.name}.json"

    @property
    def results(self) -> Path:
        """The small results: what a package can carry."""
        return self.out / "results"

    def transports_of(self, cell: Cell) -> list[Path]:
        """The files of transports that a cell makes."""
        if len(cell.priors) == 1:
            return [self.transport(cell.data, *cell.priors)]
        one, other = cell.priors
        return [self.transport(cell.data, one, other), self.transport(cell.data, other, one)]


def zoo_prior(name: str, spec: PriorSpec) -> ZooPrior:
    """A prior, with what is known of it before it is built.

    Raises:
        WeightsError: its weights are not in reach.
    """
    known: dict[str, Any] = {**entry_identity(spec), "seed": spec.seed, "source": spec.source}
    if spec.has_weights:
        found = find_weights(spec)
        known["weights_sha256"] = spec.sha256 or file_sha256(found.path)
    return ZooPrior(name, spec, known)


def all_cells(priors: list[ZooPrior], data: list[ZooData], settings: Settings) -> list[Cell]:
    """Every cell, those of a data set together, priors before pairs."""
    found = []
    for one in data:
        images = {name: source.probe() for name, source in one.parts.items()}
        about = {"format": RESULTS_FORMAT, "images": images, "settings": settings.model_dump()}
        chosen = [(prior,) for prior in priors]
        pairs = [(a, b) for number, a in enumerate(priors) for b in priors[number + 1 :]]
        for members in (*chosen, *pairs):
            known = {**about, "priors": [dict(member.fingerprint) for member in members]}
            key = hashlib.sha256(json.dumps(known, sort_keys=True, default=str).encode()).hexdigest()
            found.append(Cell(one, members, key))
    return found


def chosen_cells(cells: list[Cell], patterns: list[str]) -> list[Cell]:
    """The cells that patterns name (`digits/*`, `*/random`, …); all without one.

    Raises:
        RegistryError: a pattern that names none.
    """
    if not patterns:
        return cells
    for pattern in patterns:
        if not any(fnmatchcase(cell.name, pattern) for cell in cells):
            raise RegistryError(
                f"no cell is named {pattern!r}", expected="DATA/PRIOR or DATA/PRIOR--PRIOR, with * for any text",
                got=f"cells such as {', '.join(cell.name for cell in (*cells[:2], cells[-1]))}",
                fix="--dry-run lists all of them",
            )  # fmt: skip
    return [cell for cell in cells if any(fnmatchcase(cell.name, pattern) for pattern in patterns)]


def read_record(places: Places, cell: Cell) -> dict[str, Any] | None:
    """What was found in a finished cell; None for one that is to be made: never, with another key, or half gone."""
    path = places.record(cell)
    try:
        if path.stat().st_size > _MAX_BYTES:
            return None
        record = json.loads(path.read_bytes())
        files = {name: int(size) for name, size in record["files"].items()}
        if record["key"] != cell.key or record["format"] != RESULTS_FORMAT:
            return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    for name, size in files.items():
        file = places.out / name
        if not file.is_file() or file.stat().st_size != size:
            return None
    return dict(record)


def write_record(places: Places, cell: Cell, record: Mapping[str, Any], files: list[Path]) -> None:
    """Finish a cell: its files are there."""
    path = places.record(cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    listed = {one.relative_to(places.out).as_posix(): one.stat().st_size for one in files}
    whole = {"format": RESULTS_FORMAT, "key": cell.key, "files": listed, **record}
    atomic_write(path, (json.dumps(whole, indent=1) + "\n").encode())


def kept_transport(places: Places, path: Path, components: int | None = None) -> dict[str, Any]:
    """The description of a small transport's file for the results."""
    return KeptTransport(
        file=path.relative_to(places.results).as_posix(),
        sha256=file_sha256(path),
        bytes=path.stat().st_size,
        components=components,
    ).model_dump()
