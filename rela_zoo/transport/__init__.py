"""Transports: linear maps from a prior's embeddings to the targets of a student.

`fit_transport` makes a `TargetTransport` in one pass over rows. The maths is in pure functions: `_moments` (streaming
mean and scatter), `_fit` (eigenvectors to a transport), `_linear` (apply, compose, invert).
"""

from __future__ import annotations

from rela_zoo.transport._fit import fit_transport, transport_from_moments
from rela_zoo.transport._linear import Affine, apply, compose, invert
from rela_zoo.transport._moments import Moments, chunk_moments, merge_moments
from rela_zoo.transport._target import TargetTransport, TransportStats

__all__ = [
    "Affine",
    "Moments",
    "TargetTransport",
    "TransportStats",
    "apply",
    "chunk_moments",
    "compose",
    "fit_transport",
    "invert",
    "merge_moments",
    "transport_from_moments",
]
