"""The prior-to-prior transport: an affine map from one prior's rows to another's, and how well it does. An artefact."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from rela_zoo._version import __version__
from rela_zoo.errors import TransportError
from rela_zoo.prior import check_same_prior
from rela_zoo.transport._linear import Affine, apply, invert
from rela_zoo.transport._target_transport import TargetTransport
from rela_zoo.transport._transport_file import (
    FIX,
    FORMAT_VERSION,
    PRIOR_FORMAT,
    halved,
    known_identity,
    read_identity,
    read_metadata,
    read_tensors,
    write,
)

Method = Literal["ridge", "procrustes", "whitened", "composed", "inverted"]


@dataclass(frozen=True)
class Side:
    """One end of a transport: which rows.

    Attributes:
        prior: id of the prior; None for bare rows.
        preprocessing: its preprocessing, or None.
        digest: of the embedding table, or None.
        identity: all that is known of the prior, see `Prior.identity`; None for bare rows, and in older files.
    """

    prior: str | None = None
    preprocessing: str | None = None
    digest: str | None = None
    identity: Mapping[str, str | int] | None = field(default=None, hash=False)

    @property
    def known(self) -> dict[str, str | int]:
        """What is known of the prior, for `rela_zoo.prior.check_same_prior`."""
        return known_identity(self.identity, self.prior, self.preprocessing)


@dataclass(frozen=True)
class Quality:
    """How well a map does on samples that had no part in making it.

    Attributes:
        r2: share of the target's variance that is explained, at most 1; may be negative.
        cosine: mean cosine of mapped and true rows around the target's mean, in [−1, 1].
        retrieval_at_1: how often the true row is the nearest to the mapped one, by that cosine, in [0, 1].
        retrieval_at_5: how often it is among the five nearest.
        retrieval_among: number of rows to choose from, at most 1,000.
        rows_held_out: samples behind `r2`.
    """

    r2: float
    cosine: float
    retrieval_at_1: float
    retrieval_at_5: float
    retrieval_among: int
    rows_held_out: int


@dataclass(frozen=True, eq=False)
class PriorTransport:
    """Rows of one prior → rows of another: `y = x · weight + bias`.

    Attributes:
        weight: (D, E) float32.
        bias: (E,) float32.
        source: whose rows x are.
        target: whose rows y are.
        method: how it was made.
        strength: of the ridge, relative to the mean eigenvalue of the source's covariance; None for other methods.
        rows_fitted: samples it was fitted on; for a composed one, of the smaller fit.
        quality: on held-out samples; None where it was not measured.

    Raises:
        TransportError: shapes that don't fit together, values that are not finite.

    Examples:
        >>> from rela_zoo import PriorTransport, embed, load_prior, open_embeddings
        >>> from rela_zoo.transport import fit_prior_transport
        >>> one = open_embeddings("embeddings")
        >>> other = embed(load_prior("cifar10-resnet20", preprocessing="rela-reference"), "photos", "other")
        >>> fit_prior_transport(one, other).save("between.safetensors")
        >>> between = PriorTransport.load("between.safetensors")
        >>> between(one.rows([0])).shape, between.quality.r2 > 0.9
        (torch.Size([1, 64]), True)
    """

    weight: Tensor
    bias: Tensor
    source: Side
    target: Side
    method: Method
    strength: float | None
    rows_fitted: int
    quality: Quality | None

    def __post_init__(self) -> None:
        fits = self.weight.ndim == 2 and 0 not in self.weight.shape and self.bias.shape == self.weight.shape[1:]
        if not fits or {self.weight.dtype, self.bias.dtype} != {torch.float32}:
            raise TransportError(
                "the parts of a transport do not fit together",
                expected="weight (D, E) and bias (E,), float32",
                got=f"{tuple(self.weight.shape)} {self.weight.dtype} and {tuple(self.bias.shape)} {self.bias.dtype}",
                fix=FIX,
            )
        if not (torch.isfinite(self.weight).all() and torch.isfinite(self.bias).all()):
            raise TransportError("a transport is not finite", expected="finite numbers", fix=FIX)

    @property
    def affine(self) -> Affine:
        """The map alone."""
        return Affine(self.weight, self.bias)

    def __call__(self, rows: Tensor) -> Tensor:
        """Rows of the source (B, D), any floating dtype → rows in the target's space (B, E), float32, same device.

        Raises:
            TransportError: rows of another width.
        """
        here = rows.device
        with torch.no_grad(), torch.autocast(here.type, enabled=False):
            return apply(Affine(self.weight.to(here), self.bias.to(here)), rows)

    def inverse(self) -> PriorTransport:
        """The way back by pseudo-inverse: exact where D = E and the rank is full. Its quality is not known."""
        weight, bias = invert(self.affine)
        return PriorTransport(weight, bias, self.target, self.source, "inverted", None, self.rows_fitted, None)

    def save(self, path: str | os.PathLike[str], *, half: bool = False) -> None:
        """Write one safetensors file: `weight`, `bias`, F32; metadata `rela_zoo` is JSON. Equal ones give equal bytes.

        Args:
            path: of the file.
            half: `weight` as F16, which is half the size and exact to three digits; read as float32 all the same.

        Raises:
            TransportError: the path can't be written.
        """
        metadata: dict[str, Any] = {
            "format": PRIOR_FORMAT,
            "format_version": FORMAT_VERSION,
            "made_by": f"rela-zoo {__version__}",
            "source": _facts(self.source),
            "target": _facts(self.target),
            "method": self.method,
            "strength": self.strength,
            "rows_fitted": self.rows_fitted,
            "quality": asdict(self.quality) if self.quality else None,
        }
        # Beside the sides, where an older reader does not look.
        for name, side in (("source_identity", self.source), ("target_identity", self.target)):
            if side.identity is not None:
                metadata[name] = dict(side.identity)
        weight = halved(Path(path), "weight", self.weight) if half else self.weight
        write(Path(path).expanduser(), {"weight": weight, "bias": self.bias}, metadata)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> PriorTransport:
        """Read a file written by `save`, on the CPU.

        Raises:
            TransportError: missing, truncated, of another kind, of a newer format, or with values that can't be.
        """
        target = Path(path).expanduser()
        metadata = read_metadata(target, PRIOR_FORMAT)
        tensors = read_tensors(target, {"weight", "bias"})
        try:
            return cls(
                tensors["weight"],
                tensors["bias"],
                _side(metadata["source"], read_identity(target, metadata.get("source_identity"))),
                _side(metadata["target"], read_identity(target, metadata.get("target_identity"))),
                _one_of(metadata["method"], get_args(Method)),
                None if metadata["strength"] is None else _number(metadata["strength"], float),
                _number(metadata["rows_fitted"], int),
                None if metadata["quality"] is None else _quality(metadata["quality"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise TransportError(
                f"{target} has malformed metadata", expected="what `rela-zoo transport fit` writes", got=error, fix=FIX
            ) from error


@torch.no_grad()
def read_in(predictions: Tensor, targets: TargetTransport, between: PriorTransport) -> Tensor:
    """What a student says about images, as rows of another prior: predictions → rows of A → rows of B.

    The ReLA loss is a cosine, so a student learns the direction of its targets and not their length. A target
    dimension has deviation 1 over the data set, so the root mean square of a target's length is √k: that length is
    given to every prediction before the way back through `targets`.

    Args:
        predictions: (B, k) floating, outputs of the head that was trained (or kept) on `targets`.
        targets: the target transport of prior A that the student was trained with.
        between: from prior A to prior B.

    Returns:
        (B, E) float32 in the space of B, on the device of the predictions: comparable with embeddings by B, such as a
        bank for nearest neighbours, or the text embeddings of class names for zero-shot classification.

    Raises:
        TransportError: `between` does not begin at the prior of `targets`, or widths don't fit together.
    """
    check_same_prior(
        {**targets.stats.known, "dim": targets.dim},
        {**between.source.known, "dim": between.weight.shape[0]},
        "the student was trained on another prior than the one this transport comes from",
        error=TransportError,
        fix=f"`rela-zoo transport fit` from embeddings by {targets.stats.prior} to those by {between.target.prior}",
    )
    if predictions.ndim != 2 or not 1 <= predictions.shape[1] <= targets.max_dim:
        raise TransportError(
            "these predictions are not for these targets",
            expected=f"shape (B, k), k from 1 to {targets.max_dim}",
            got=f"shape {tuple(predictions.shape)}",
        )
    here, k = predictions.device, predictions.shape[1]
    with torch.autocast(here.type, enabled=False):
        scaled = torch.nn.functional.normalize(predictions.float(), dim=1) * math.sqrt(k)
        back = targets.to(here).inverse(k)
        return between(apply(back, scaled))


def _facts(side: Side) -> dict[str, str | None]:
    return {"prior": side.prior, "preprocessing": side.preprocessing, "digest": side.digest}


def _side(facts: Any, identity: dict[str, str | int] | None) -> Side:
    if not isinstance(facts, dict) or not all(value is None or isinstance(value, str) for value in facts.values()):
        raise ValueError("a side is not made of text")
    return Side(**{**facts, "identity": identity})


def _quality(facts: Any) -> Quality:
    return Quality(
        **{one.name: _number(facts[one.name], int if one.type == "int" else float) for one in fields(Quality)}
    )


def _number(value: Any, kind: type) -> Any:
    # JSON's NaN is a legal quality: that of a target which does not vary.
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        raise ValueError(f"{value!r} is no {kind.__name__}")
    if (kind is int and value < 0) or (kind is float and math.isinf(value)):
        raise ValueError(f"{value!r} can't be")
    return kind(value)


def _one_of(value: Any, allowed: tuple[Any, ...]) -> Any:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {allowed}")
    return value
