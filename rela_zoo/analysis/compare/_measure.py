"""Measure tables of the same samples against each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from rela_zoo._io.digest import sample_order
from rela_zoo._io.progress import Progress
from rela_zoo.analysis import similarity
from rela_zoo.embeddings import check_same_pictures
from rela_zoo.errors import EmbeddingsError
from rela_zoo.transport import Quality, fit_both_ways

if TYPE_CHECKING:
    from rela_zoo.embeddings import EmbeddingTable

# Name → what it is, for readers; those of transports go from the row's prior to the column's.
PAIR_MEASURES: dict[str, str] = {
    "linear_cka": "linear CKA",
    "debiased_cka": "debiased CKA",
    "svcca": "SVCCA, 99 % of the variance",
    "pwcca": "PWCCA, weights of the row",
    "procrustes_distance": "Procrustes distance (0: equal)",
    "mutual_knn": "shared 10 nearest neighbours",
    "transport_r2": "held-out R² of the transport row → column",
    "transport_cosine": "held-out mean cosine of the transport",
    "transport_retrieval_at_1": "held-out retrieval@1 by the transport",
}
_NEIGHBOURS = 10
_MINIMUM = 200


@dataclass(frozen=True)
class SpaceSummary:
    """One prior's space on its own.

    Attributes:
        dim: features a row.
        digest: of the table.
        explained_variance: shares of the variance along principal directions, falling.
        effective_rank: RankMe, in [1, dim].
        participation_ratio: (Σλ)²/Σλ², in [1, dim].
        intrinsic_dimension: by TwoNN.
    """

    dim: int
    digest: str
    explained_variance: tuple[float, ...]
    effective_rank: float
    participation_ratio: float
    intrinsic_dimension: float


@dataclass(frozen=True)
class Comparison:
    """What was found.

    Attributes:
        names: priors, in the order asked for.
        spaces: a description of each.
        pairs: measure → (P, P) matrix, rows are sources.
        samples: that all tables have.
        sampled: of these, used for everything but the transports, which use all.

    Examples:
        >>> from rela_zoo import Comparison
        >>> pairs = {"linear_cka": ((1.0, 0.4), (0.4, 1.0))}
        >>> Comparison(("a", "b"), (), pairs, samples=5000, sampled=2000).pairs["linear_cka"][0][1]
        0.4
    """

    names: tuple[str, ...]
    spaces: tuple[SpaceSummary, ...]
    pairs: dict[str, tuple[tuple[float, ...], ...]]
    samples: int
    sampled: int

    @property
    def caution(self) -> str:
        """What the number of samples does to the measures, for readers; empty where it does nothing."""
        widest = max(space.dim for space in self.spaces)
        if self.sampled >= 10 * widest:
            return ""
        return (
            f"{self.sampled:,} samples are few beside {widest} features: SVCCA and PWCCA come near 1 for any two "
            "spaces, and transports are judged on few rows."
        )

    def as_dict(self) -> dict[str, Any]:
        """For JSON; a measure that is not defined for a pair is null."""
        return _without_nan(asdict(self))


def compare(
    tables: Mapping[str, EmbeddingTable], *, sample: int = 5000, progress: bool | Literal["always"] = False
) -> Comparison:
    """Compare the embeddings of at least two priors on the samples that all of them have.

    Args:
        tables: name → embeddings.
        sample: at most so many samples, chosen by a hash of their ids, for similarities and neighbours (time grows
            with its square).
        progress: as for `embed`.

    Returns:
        The comparison.

    Raises:
        EmbeddingsError: fewer than two tables, fewer than 200 samples in common, or other pictures of the same names.

    Examples:
        >>> from rela_zoo import compare, embed, load_prior, open_embeddings
        >>> own = open_embeddings("embeddings")
        >>> other = embed(load_prior("cifar10-resnet20", preprocessing="rela-reference"), "photos", "other")
        >>> found = compare({"upstream": own, "rela-reference": other})
        >>> found.pairs["linear_cka"][0][1] > 0.9
        True
    """
    if len(tables) < 2:
        raise EmbeddingsError("there is nothing to compare", expected="at least two priors", got=len(tables))
    reference, *rest = tables.values()
    for table in rest:
        check_same_pictures(reference, table)
    common = _common(tables)
    chosen = sorted(sorted(common, key=sample_order)[:sample])
    rows = {name: _rows(table, chosen) for name, table in tables.items()}
    spaces = []
    names = tuple(tables)
    found: dict[str, np.ndarray] = {key: np.full((len(names), len(names)), np.nan) for key in PAIR_MEASURES}
    with Progress("comparing", len(names) * (len(names) + 1), unit="steps", show=progress) as bar:
        for name, table in tables.items():
            spaces.append(_space(table, rows[name]))
            bar.advance(1)
        for i, one in enumerate(names):
            for j, other in enumerate(names):
                for key, value in _pair(rows[one], rows[other], found, i, j).items():
                    found[key][i, j] = value
                if i <= j:
                    there, back = fit_both_ways(tables[one], tables[other])
                    _note(found, there.quality, i, j)
                    _note(found, back.quality, j, i)
                bar.advance(1)
    pairs = {key: tuple(tuple(map(float, row)) for row in matrix) for key, matrix in found.items()}
    return Comparison(names, tuple(spaces), pairs, len(common), len(chosen))


def _note(found: dict[str, np.ndarray], quality: Quality | None, i: int, j: int) -> None:
    assert quality is not None  # every fit measures it
    found["transport_r2"][i, j] = quality.r2
    found["transport_cosine"][i, j] = quality.cosine
    found["transport_retrieval_at_1"][i, j] = quality.retrieval_at_1


def _pair(x: Tensor, y: Tensor, found: dict[str, np.ndarray], i: int, j: int) -> dict[str, float]:
    values = {"pwcca": similarity.pwcca(x, y)}
    symmetric: dict[str, Callable[[], float]] = {
        "linear_cka": lambda: similarity.linear_cka(x, y),
        "debiased_cka": lambda: similarity.debiased_cka(x, y),
        "svcca": lambda: similarity.svcca(x, y),
        "procrustes_distance": lambda: similarity.procrustes_distance(x, y),
        "mutual_knn": lambda: similarity.mutual_knn(x, y, k=_NEIGHBOURS),
    }
    for name, function in symmetric.items():
        values[name] = float(found[name][j, i]) if j < i else function()
    return values


def _space(table: EmbeddingTable, rows: Tensor) -> SpaceSummary:
    return SpaceSummary(
        dim=table.shape[1],
        digest=table.digest,
        explained_variance=tuple(similarity.explained_variance(rows).tolist()),
        effective_rank=similarity.effective_rank(rows),
        participation_ratio=similarity.participation_ratio(rows),
        intrinsic_dimension=similarity.two_nn_dimension(rows),
    )


def _common(tables: Mapping[str, EmbeddingTable]) -> set[str]:
    first, *others = tables.values()
    common = set(first.ids)
    for table in others:
        common &= set(table.ids)
    if len(common) < _MINIMUM:
        raise EmbeddingsError(
            "these embeddings have too few samples in common to be compared",
            expected=f"at least {_MINIMUM}",
            got=f"{len(common)}, of tables with {', '.join(str(len(table)) for table in tables.values())} rows",
            fix="embed the same data set with all priors",
        )
    return common


def _rows(table: EmbeddingTable, ids: list[str]) -> Tensor:
    return table.rows(table.positions(ids)).to(torch.float64)


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and value != value else value
