"""Priors: frozen networks with their own preprocessing attached."""

from __future__ import annotations

from importlib import import_module
from typing import Any

# Resolved on first use: the networks of this room are also used without timm and the registry (scripts/train_prior.py).
_EXPORTS = {
    "Prior": "rela_zoo.prior._load",
    "load_prior": "rela_zoo.prior._load",
    "prior_identity": "rela_zoo.prior._identity",
    "ImageTransform": "rela_zoo.prior._preprocessing",
    "PREPROCESSINGS": "rela_zoo.prior._preprocessing",
    "UnpinnedWeightsWarning": "rela_zoo.prior._weights",
    "find_weights": "rela_zoo.prior._weights",
    "verify_sha256": "rela_zoo.prior._weights",
}

__all__ = [
    "PREPROCESSINGS",
    "ImageTransform",
    "Prior",
    "UnpinnedWeightsWarning",
    "find_weights",
    "load_prior",
    "prior_identity",
    "verify_sha256",
]


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module 'rela_zoo.prior' has no attribute {name!r}")
