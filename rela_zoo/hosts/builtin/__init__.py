"""The built-in host: self-supervised methods made of `lightly` parts, under solo-learn's contract and configuration.

`rela-zoo pretrain` runs it; configurations move to solo-learn unchanged.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "METHODS": "rela_zoo.hosts.builtin.methods",
    "TrainResult": "rela_zoo.hosts.builtin.train",
    "train": "rela_zoo.hosts.builtin.train",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_PUBLIC[name]), name)
    # Kept, for importing the submodule `train` has just put the module in the function's place.
    globals()[name] = found
    return found
