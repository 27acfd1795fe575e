"""rela_zoo: priors by name for cheaper self-supervised training (ReLA, arXiv 2405.14669).

The names below are the public surface; everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# Name → module that defines it. Resolved on first use, so that `import rela_zoo` loads no heavy library.
_PUBLIC: dict[str, str] = {
    "PriorSpec": "rela_zoo.registry",
    "list_priors": "rela_zoo.registry",
    "prior_spec": "rela_zoo.registry",
    "Prior": "rela_zoo.prior",
    "load_prior": "rela_zoo.prior",
    "EmbeddingTable": "rela_zoo.embeddings",
    "embed": "rela_zoo.embeddings",
    "open_embeddings": "rela_zoo.embeddings",
    "TargetTransport": "rela_zoo.transport",
    "fit_transport": "rela_zoo.transport",
    "EpochSubset": "rela_zoo.selection.subset",
    "Accelerator": "rela_zoo.engine",
    "RunShape": "rela_zoo.engine",
    "ViewShape": "rela_zoo.engine",
    "build_views": "rela_zoo.data.views",
    "image_source": "rela_zoo.data",
    "train": "rela_zoo.hosts.builtin.train",
    "SubsetSampler": "rela_zoo.engine",
    "AdaptiveHandover": "rela_zoo.engine.objective",
    "ConstantHandover": "rela_zoo.engine.objective",
    "with_rela": "rela_zoo.hosts.contract",
    "publish": "rela_zoo.hub.publish",
    "pull": "rela_zoo.hub",
    "RelaZooError": "rela_zoo.errors",
}

__all__ = [*sorted(_PUBLIC), "__version__"]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'rela_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
