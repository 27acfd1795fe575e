"""Transports: linear maps from a prior's embeddings to the targets of a student, and from one prior to another.

`fit_transport` makes a `TargetTransport`, `fit_prior_transport` a `PriorTransport`, each in one pass over rows. The
maths is in pure functions: `_moments` (streaming mean and scatter), `_target_fit` (eigenvectors to a transport),
`_pair_maps` (ridge, Procrustes, whitening), `_linear` (apply, compose, invert).
"""

from __future__ import annotations

from rela_zoo.transport._fit_parts import fit_prior_transport_part, fit_transport_part
from rela_zoo.transport._linear import Affine, apply, compose, invert
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
from rela_zoo.transport._pair_fit import chain, fit_both_ways, fit_prior_transport, judge
from rela_zoo.transport._pair_maps import PairMoments, RidgePath, r_squared, split_moments
from rela_zoo.transport._prior_transport import PriorTransport, Quality, Side, read_in
from rela_zoo.transport._target_fit import fit_transport, transport_from_moments
from rela_zoo.transport._target_transport import TargetTransport, TransportStats, check_target_fits
from rela_zoo.transport._transport_file import transport_kind

__all__ = [
    "Affine",
    "Moments",
    "PairMoments",
    "PriorTransport",
    "Quality",
    "RidgePath",
    "Side",
    "TargetTransport",
    "TransportStats",
    "apply",
    "chain",
    "check_target_fits",
    "chunk_moments",
    "compose",
    "fit_both_ways",
    "fit_prior_transport",
    "fit_prior_transport_part",
    "fit_transport",
    "fit_transport_part",
    "invert",
    "judge",
    "merge_moments",
    "r_squared",
    "read_in",
    "split_moments",
    "transport_from_moments",
    "transport_kind",
]
