"""Measured facts about priors and the transports between them: one results file a data set, made by `zoo build`.

Those of `registry/zoo` come with the package. Reading them needs no deep-learning library.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from rela_zoo._io import paths
from rela_zoo._io.install import install_command
from rela_zoo.errors import RegistryError
from rela_zoo.registry._contradictions import is_safe_path
from rela_zoo.registry._spec import Name, PriorSpec, Sha256

RESULTS_FORMAT = 1
_FOLDER = "zoo"
_MAX_BYTES = 4 << 20

Seen = Literal["labels", "images", "no", "unknown"]
# A registered name, with the size of the images where it is not the prior's own.
PriorName = Annotated[str, Field(pattern=r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?:@[0-9]+)?$", max_length=110)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class MeasuredData(_Record):
    """The images that everything in a results file was measured on.

    Attributes:
        name: short, as artefacts are named by.
        title: one line for people.
        argument: how it is given to `rela-zoo zoo build --datasets`, with DIR for the place of the images.
        note: what a reader must know to compare with other numbers.
        hub_dataset: the data set on the Hub, where it is one.
        train_images, test_images: how many; transports and probes are fitted on the first.
        test: where the images to judge by come from.
        classes: how many, where there are labels.
        train_probe, test_probe: digests of sample ids and of some of the pictures.
    """

    name: Name
    title: str = Field(min_length=3, max_length=200)
    argument: str
    note: str = ""
    hub_dataset: str | None = None
    train_images: int = Field(ge=1)
    test_images: int = Field(ge=1)
    test: Literal["a split of its own", "a fifth of the images"]
    classes: int | None = Field(default=None, ge=2)
    train_probe: Sha256
    test_probe: Sha256 | None = None


class Settings(_Record):
    """What changes the numbers, and is the same for every prior.

    Attributes:
        seed: of the draws of few labels.
        sample: most images behind similarities and dimensions, chosen by a hash of their ids.
        labelled: most labelled images that probes learn from, and are judged on, chosen likewise.
        neighbours: k of k-NN accuracy.
        per_class, draws: of the probes with few labels.
    """

    seed: int = 0
    sample: int = Field(default=2000, ge=10)
    labelled: int = Field(default=50_000, ge=10)
    neighbours: int = Field(default=20, ge=1)
    per_class: int = Field(default=10, ge=1)
    draws: int = Field(default=5, ge=1)


class Machine(_Record):
    """Versions, hardware and the command behind some of the numbers."""

    command: str
    environment: dict[str, Any]


class Made(_Record):
    """When and where a number was made: a date, seconds of wall time, and the position in `machines`."""

    date: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")
    seconds: float = Field(ge=0)
    machine: int = Field(ge=0)


class KeptTransport(_Record):
    """A transport's file, relative to the results file.

    Attributes:
        file: its path.
        sha256, bytes: of the file.
        components: kept by a target transport, the first so many; None for one between priors.
    """

    file: str
    sha256: Sha256
    bytes: int = Field(ge=1)
    components: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _check(self) -> KeptTransport:
        if not is_safe_path(self.file):
            raise ValueError("expected a relative path without '..'")
        return self


class PriorMeasures(_Record):
    """What was measured of one prior on its own.

    Attributes:
        identity: of the prior, see `Prior.identity`.
        dim: features an image.
        seen: whether it was trained on this data: with its labels, on its images, or not.
        rows_digest: of the embeddings of the training images.
        rank_me: effective rank of the rows.
        participation_ratio: (Σλ)²/Σλ².
        intrinsic_dimension: by TwoNN; None where it is not defined.
        spectrum: number of leading principal directions → share of the variance that they hold.
        knn, probe, few_label: accuracies on the test images; None without labels.
        transport: the target transport, where it is kept.
        made: when and where.
    """

    identity: dict[str, str | int]
    dim: int = Field(ge=1)
    seen: Seen
    rows_digest: Sha256
    rank_me: float | None = None
    participation_ratio: float | None = None
    intrinsic_dimension: float | None = None
    spectrum: dict[str, Share]
    knn: Share | None = None
    probe: Share | None = None
    few_label: Share | None = None
    transport: KeptTransport | None = None
    made: Made


class PairMeasures(_Record):
    """What was measured of the transport from one prior to another; see `rela_zoo.transport.Quality`.

    Attributes:
        source, target: ids of the priors.
        r2, cosine, retrieval_at_1, retrieval_at_5: on rows that had no part in the fit.
        retrieval_among: rows to choose from.
        rows_held_out: behind `r2`.
        strength: of the ridge.
        linear_cka, mutual_knn: of the two spaces, the same in both directions.
        transport: the file, where it is kept.
        made: when and where.
    """

    source: PriorName
    target: PriorName
    r2: float = Field(le=1)
    cosine: float = Field(ge=-1.0001, le=1.0001)
    retrieval_at_1: Share
    retrieval_at_5: Share
    retrieval_among: int = Field(ge=1)
    rows_held_out: int = Field(ge=1)
    strength: float
    linear_cka: float
    mutual_knn: Share
    transport: KeptTransport | None = None
    made: Made


class ZooResults(_Record):
    """Everything measured on one data set, and under which circumstances."""

    format: Literal[1] = 1
    data: MeasuredData
    settings: Settings
    machines: tuple[Machine, ...]
    priors: dict[PriorName, PriorMeasures]
    pairs: tuple[PairMeasures, ...] = ()

    _folder: Path | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _check(self) -> ZooResults:
        ends = {name for one in self.pairs for name in (one.source, one.target)}
        if strangers := sorted(ends - self.priors.keys()):
            raise ValueError(f"pairs of priors that are not measured: {', '.join(strangers)}")
        ways = [(one.source, one.target) for one in self.pairs]
        if len(set(ways)) < len(ways):
            raise ValueError("a pair is measured twice")
        made = [one.made.machine for one in self.priors.values()] + [one.made.machine for one in self.pairs]
        if made and max(made) >= len(self.machines):
            raise ValueError("a number was made on a machine that is not described")
        return self

    def pair(self, source: str, target: str) -> PairMeasures | None:
        """The transport from one prior to another, if it was measured."""
        return next((one for one in self.pairs if (one.source, one.target) == (source, target)), None)

    def found_in(self, folder: Path) -> ZooResults:
        """The same results, read from this folder."""
        found = self.model_copy()
        found._folder = folder.resolve()  # noqa: SLF001
        return found

    def path_of(self, transport: KeptTransport) -> Path:
        """Where the file of a transport is."""
        return (self._folder or Path()) / transport.file


def read_results(path: Path) -> ZooResults:
    """Read a results file.

    Raises:
        RegistryError: missing, malformed, or of a newer format.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"larger than {_MAX_BYTES} bytes")
        found = ZooResults.model_validate(json.loads(data))
    except (OSError, ValidationError, ValueError, RecursionError) as error:
        raise RegistryError(
            f"{path} holds no results of a zoo", expected="what `rela-zoo zoo build` writes", got=error,
            fix=f"build it again, or, if it came with the package, reinstall it: {install_command()}",
        ) from error  # fmt: skip
    return found.found_in(path.parent)


def read_results_folder(folder: Path) -> tuple[ZooResults, ...]:
    """Every results file of a folder, in order of file name.

    Raises:
        RegistryError: one of them is malformed.
    """
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    return _read(tuple((str(one), one.stat().st_mtime_ns, one.stat().st_size) for one in files))


def packaged_results() -> tuple[ZooResults, ...]:
    """The results that come with the package."""
    return read_results_folder(packaged_results_folder())


def packaged_results_folder() -> Path:
    """Where they are."""
    return paths.packaged_registry() / _FOLDER


@lru_cache(maxsize=8)
def _read(state: tuple[tuple[str, int, int], ...]) -> tuple[ZooResults, ...]:
    return tuple(read_results(Path(name)) for name, _, _ in state)


def results_of(spec: PriorSpec) -> list[tuple[ZooResults, PriorMeasures]]:
    """What came with the package about a prior: every data set that it was measured on, with what was found there.

    Numbers of other weights under the same name are none of it.
    """
    found = []
    for one in packaged_results():
        own = one.priors.get(spec.id)
        if own is not None and spec.sha256 in (None, own.identity.get("weights_sha256")):
            found.append((one, own))
    return found
