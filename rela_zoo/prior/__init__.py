"""Priors: frozen networks with their own preprocessing attached."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rela_zoo.prior._build import build, feature_dim, load_into, timm_preprocessing
    from rela_zoo.prior._cost import with_cost
    from rela_zoo.prior._identity import entry_identity, prior_identity
    from rela_zoo.prior._load import Prior, load_prior
    from rela_zoo.prior._places import Readiness, readiness
    from rela_zoo.prior._preprocessing import (
        PREPROCESSINGS,
        RELA_REFERENCE,
        UPSTREAM,
        ImageTransform,
        reference_preprocessing,
    )
    from rela_zoo.prior._same import Identity, check_same_prior, identity_differences, identity_digest
    from rela_zoo.prior._student import square_transform, untrained_prior
    from rela_zoo.prior._weights import (
        UnpinnedWeightsWarning,
        find_weights,
        read_weights,
        state_digest,
        verify_sha256,
    )
    from rela_zoo.prior.families import FAMILIES, Family

# Name → module, resolved on first use: reading one entry must not load timm.
_EXPORTS = {
    "Prior": "_load",
    "load_exactly": "_load",
    "load_prior": "_load",
    "own_network": "_load",
    "entry_identity": "_identity",
    "prior_identity": "_identity",
    "FAMILIES": "families",
    "Family": "families",
    "Identity": "_same",
    "check_same_prior": "_same",
    "identity_differences": "_same",
    "identity_digest": "_same",
    "build": "_build",
    "feature_dim": "_build",
    "load_into": "_build",
    "timm_preprocessing": "_build",
    "with_cost": "_cost",
    "Readiness": "_places",
    "readiness": "_places",
    "ImageTransform": "_preprocessing",
    "PREPROCESSINGS": "_preprocessing",
    "RELA_REFERENCE": "_preprocessing",
    "UPSTREAM": "_preprocessing",
    "reference_preprocessing": "_preprocessing",
    "square_transform": "_student",
    "untrained_prior": "_student",
    "UnpinnedWeightsWarning": "_weights",
    "find_weights": "_weights",
    "read_weights": "_weights",
    "state_digest": "_weights",
    "verify_sha256": "_weights",
}

__all__ = [
    "FAMILIES",
    "PREPROCESSINGS",
    "RELA_REFERENCE",
    "UPSTREAM",
    "Family",
    "Identity",
    "ImageTransform",
    "Prior",
    "Readiness",
    "UnpinnedWeightsWarning",
    "build",
    "check_same_prior",
    "entry_identity",
    "feature_dim",
    "find_weights",
    "identity_differences",
    "identity_digest",
    "load_exactly",
    "load_into",
    "load_prior",
    "own_network",
    "prior_identity",
    "read_weights",
    "readiness",
    "reference_preprocessing",
    "square_transform",
    "state_digest",
    "timm_preprocessing",
    "untrained_prior",
    "verify_sha256",
    "with_cost",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
