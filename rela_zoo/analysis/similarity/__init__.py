"""How alike two spaces of embeddings are, and how one is filled. Pure functions on rows; nothing here reads a file.

Rows of two tables at the same position belong to the same sample. Everything is computed in float64 on the device of
the rows, and nothing needs N × N memory.
"""

from __future__ import annotations

from rela_zoo.analysis.similarity._one_space import (
    effective_rank,
    explained_variance,
    nearest,
    participation_ratio,
    two_nn_dimension,
)
from rela_zoo.analysis.similarity._two_spaces import (
    canonical_correlations,
    debiased_cka,
    linear_cka,
    mutual_knn,
    procrustes_distance,
    pwcca,
    svcca,
)

__all__ = [
    "canonical_correlations",
    "debiased_cka",
    "effective_rank",
    "explained_variance",
    "linear_cka",
    "mutual_knn",
    "nearest",
    "participation_ratio",
    "procrustes_distance",
    "pwcca",
    "svcca",
    "two_nn_dimension",
]
