"""The target transport: PCA, then one standard deviation in every direction. An artefact."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rela_zoo._version import __version__
from rela_zoo.errors import TransportError
from rela_zoo.prior import check_same_prior
from rela_zoo.transport._linear import Affine, check_width
from rela_zoo.transport._transport_file import (
    FIX,
    FORMAT_VERSION,
    TARGET_FORMAT,
    check_source,
    halved,
    known_identity,
    read_identity,
    read_metadata,
    read_tensors,
    write,
)

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable


@dataclass(frozen=True)
class TransportStats:
    """How a transport was fitted.

    Attributes:
        rows: number of rows it was fitted on.
        explained_variance_ratio: K fractions of the total variance, falling; they add up to at most 1.
        source_digest: digest of the embedding table; None if it was fitted on bare rows.
        prior: id of the prior of that table, or None.
        preprocessing: its preprocessing, or None.
        identity: all that is known of that prior, see `Prior.identity`; None for bare rows, and in older files.
    """

    rows: int
    explained_variance_ratio: tuple[float, ...]
    source_digest: str | None = None
    prior: str | None = None
    preprocessing: str | None = None
    identity: Mapping[str, str | int] | None = field(default=None, hash=False)

    @property
    def known(self) -> dict[str, str | int]:
        """What is known of the prior, for `rela_zoo.prior.check_same_prior`."""
        return known_identity(self.identity, self.prior, self.preprocessing)


@dataclass(frozen=True, eq=False)
class TargetTransport:
    """Rows of a prior → targets of a student (ReLA, arXiv 2405.14669; `_pca_reduce` of its reference code).

    `t = ((e − mean) · components[:, :k]) / scale[:k]`: principal components in order of falling variance, each divided
    by its population standard deviation, so that over the data set every target dimension has mean 0, deviation 1,
    and no correlation with another. The first k columns serve a student of any width k ≤ K.

    Attributes:
        mean: (D,) float32.
        components: (D, K) float32, orthonormal columns; the entry of largest magnitude in each is positive.
        scale: (K,) float32, positive, falling: the standard deviation along each component.
        stats: how it was fitted.

    Raises:
        TransportError: shapes that don't fit together, values that are not finite, a scale that is not positive.

    Examples:
        >>> from rela_zoo import TargetTransport, fit_transport, open_embeddings
        >>> table = open_embeddings("embeddings")
        >>> fit_transport(table).save("transport.safetensors")
        >>> transport = TargetTransport.load("transport.safetensors")
        >>> transport(table.rows([0, 1]), dim=16).shape
        torch.Size([2, 16])
    """

    mean: Tensor
    components: Tensor
    scale: Tensor
    stats: TransportStats

    def __post_init__(self) -> None:
        dim, kept = self.components.shape if self.components.ndim == 2 else (-1, -1)
        if (
            not 0 < kept <= dim
            or self.mean.shape != (dim,)
            or self.scale.shape != (kept,)
            or len(self.stats.explained_variance_ratio) != kept
        ):
            raise TransportError(
                "the parts of a transport do not fit together",
                expected="mean (D,), components (D, K), scale (K,) and K ratios, 0 < K ≤ D",
                got=f"{tuple(self.mean.shape)}, {tuple(self.components.shape)}, {tuple(self.scale.shape)} and "
                f"{len(self.stats.explained_variance_ratio)}",
                fix=FIX,
            )
        for name in ("mean", "components", "scale"):
            values: Tensor = getattr(self, name)
            if values.dtype != torch.float32:
                raise TransportError(
                    f"the {name} of a transport is of a wrong dtype", expected="float32", got=values.dtype
                )
            if not torch.isfinite(values).all():
                raise TransportError(f"the {name} of a transport is not finite", expected="finite numbers", fix=FIX)
        if not (self.scale > 0).all():
            raise TransportError("a scale of a transport is not positive", expected="positive deviations", fix=FIX)

    @property
    def dim(self) -> int:
        """D, the width of the rows."""
        return self.components.shape[0]

    @property
    def max_dim(self) -> int:
        """K, the largest width of the targets."""
        return self.components.shape[1]

    @torch.no_grad()
    def __call__(self, rows: Tensor, dim: int | None = None, power: float = 1.0) -> Tensor:
        """Targets of some rows.

        Args:
            rows: (B, D) of any floating dtype, raw outputs of the prior. Checked to be finite on the CPU; on another
                device that would stall every step, and the table has checked them.
            dim: k, the number of leading components; None takes all K.
            power: p in [0, 1]: each component is divided by its deviation to the power of p. 1 standardises, as in the
                reference; 0 leaves the principal components as they are, strong directions above weak ones.

        Returns:
            (B, k) float32 on the device of the rows, also under autocast.

        Raises:
            TransportError: rows of another width, k out of range, NaN or infinity in a row.
        """
        k = self._checked_dim(dim)
        check_width(rows, self.dim)
        with torch.autocast(rows.device.type, enabled=False):
            here = rows.device
            centred = rows.float() - self.mean.to(here)
            targets = centred @ self.components[:, :k].to(here) / self.scale[:k].to(here) ** power
        # A NaN or an infinity anywhere in a row makes all of its targets NaN or infinite.
        if here.type == "cpu" and not torch.isfinite(targets).all():
            raise TransportError(
                "a row has values that are not finite", expected="finite numbers", got="NaN or infinity"
            )
        return targets

    def dim_for(self, variance: float) -> int:
        """How many leading components explain this fraction of the variance, in (0, 1]: 1 to K, all K if none do."""
        explained = torch.tensor(self.stats.explained_variance_ratio, dtype=torch.float64).cumsum(0)
        return min(int((explained < variance - 1e-9).sum()) + 1, self.max_dim)

    def affine(self, dim: int | None = None, power: float = 1.0) -> Affine:
        """The same map as one product and one sum, to be composed or inverted.

        Args:
            dim: k; None takes all K.
            power: as for a call.
        """
        k = self._checked_dim(dim)
        weight = self.components[:, :k].double() / self.scale[:k].double() ** power
        return Affine(weight.float(), -(self.mean.double() @ weight).float())

    def inverse(self, dim: int | None = None, power: float = 1.0) -> Affine:
        """The way back from targets (B, k) to rows (B, D): exact in the span of the k components around the mean.

        Args:
            dim: k; None takes all K.
            power: that the targets were made with.
        """
        k = self._checked_dim(dim)
        return Affine((self.components[:, :k] * self.scale[:k] ** power).T.contiguous(), self.mean)

    def to(self, device: str | torch.device) -> TargetTransport:
        """The same transport on another device."""
        return replace(
            self, mean=self.mean.to(device), components=self.components.to(device), scale=self.scale.to(device)
        )

    def leading(self, dim: int) -> TargetTransport:
        """The same transport with its first `dim` components alone, 1 to K."""
        k = self._checked_dim(dim)
        stats = replace(self.stats, explained_variance_ratio=self.stats.explained_variance_ratio[:k])
        return replace(self, components=self.components[:, :k].contiguous(), scale=self.scale[:k], stats=stats)

    def save(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write one safetensors file: `mean`, `components`, `scale`, `explained_variance_ratio`, all F32.

        Metadata `rela_zoo` is JSON: format, format_version, made_by, rows, source_digest, prior, preprocessing,
        and identity, where there is one. Equal transports give equal bytes. The file is written under another name and
        renamed.

        Args:
            path: of the file.
            half: `components` as F16, which is half the size and exact to three digits; read as float32 all the same.

        Raises:
            TransportError: the path can't be written.
        """
        metadata: dict[str, Any] = {
            "format": TARGET_FORMAT,
            "format_version": FORMAT_VERSION,
            "made_by": f"rela-zoo {__version__}",
            "rows": self.stats.rows,
            "source_digest": self.stats.source_digest,
            "prior": self.stats.prior,
            "preprocessing": self.stats.preprocessing,
        }
        if self.stats.identity is not None:
            metadata["identity"] = dict(self.stats.identity)
        tensors = {name: getattr(self, name) for name in ("mean", "components", "scale")}
        tensors["explained_variance_ratio"] = torch.tensor(self.stats.explained_variance_ratio, dtype=torch.float32)
        if half:
            tensors["components"] = halved(Path(path), "components", self.components)
        write(Path(path).expanduser(), tensors, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> TargetTransport:
        """Read a file written by `save`, on the CPU.

        Raises:
            TransportError: missing, truncated, of another kind, of a newer format, or with values that can't be.
        """
        target = Path(path).expanduser()
        metadata = read_metadata(target, TARGET_FORMAT)
        check_source(target, metadata)
        tensors = read_tensors(target, {"mean", "components", "scale", "explained_variance_ratio"})
        ratio = tensors["explained_variance_ratio"]
        if ratio.ndim != 1 or not torch.isfinite(ratio).all() or bool((ratio < 0).any()) or float(ratio.sum()) > 1.001:
            raise TransportError(
                f"{target} has impossible explained variances", expected="fractions that add up to at most 1", fix=FIX
            )
        stats = TransportStats(
            rows=metadata["rows"],
            explained_variance_ratio=tuple(ratio.tolist()),
            **{name: metadata.get(name) for name in ("source_digest", "prior", "preprocessing")},
            identity=read_identity(target, metadata.get("identity")),
        )
        return cls(tensors["mean"], tensors["components"], tensors["scale"], stats)

    def _checked_dim(self, dim: int | None) -> int:
        if dim is None:
            return self.max_dim
        if not 1 <= dim <= self.max_dim:
            raise TransportError(
                "more target dimensions are asked for than this transport has" if dim > 0 else "a bad target dimension",
                expected=f"1 to {self.max_dim}",
                got=dim,
                fix="ask for fewer, or fit a transport with a larger --max-dim on a prior with more varying features",
            )
        return dim


def check_target_fits(
    transport: TargetTransport, table: EmbeddingTable, what: str = "", fix: str | None = None
) -> None:
    """Refuse a transport that was fitted on rows of another prior than a table's.

    Args:
        transport: that is to move the rows.
        table: the rows.
        what: the transport is called, in the message.
        fix: what to do.

    Raises:
        TransportError: naming each field of the identity that differs.
    """
    if transport.stats.source_digest == table.digest:
        return
    check_same_prior(
        table.info.identity,
        {**transport.stats.known, "dim": transport.dim},
        f"{what or 'this transport'} is for other embeddings than those in {table.path}",
        error=TransportError,
        fix=fix or f"fit one on these embeddings: `rela-zoo transport fit {table.path} --out FILE`",
    )
