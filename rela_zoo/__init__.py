"""rela_zoo: priors by name for cheaper self-supervised training (ReLA, arXiv 2405.14669).

The names below are the public surface; everything else may change.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from rela_zoo._version import __version__

if TYPE_CHECKING:
    from rela_zoo.analysis.compare import Comparison, compare
    from rela_zoo.analysis.evaluate import Evaluation, evaluate, fine_tune
    from rela_zoo.analysis.recommend import Assessment, recommend
    from rela_zoo.data import image_source
    from rela_zoo.data.views import build_views
    from rela_zoo.embeddings import EmbeddingTable, count_shards, embed, embed_part, embed_shard, open_embeddings
    from rela_zoo.engine import (
        Accelerator,
        AdaptiveHandover,
        ConstantHandover,
        RunShape,
        SubsetSampler,
        ViewShape,
    )
    from rela_zoo.errors import RelaZooError
    from rela_zoo.hosts.builtin.train import TrainResult, train
    from rela_zoo.hosts.contract import with_rela
    from rela_zoo.hub import pull
    from rela_zoo.hub.publish import publish
    from rela_zoo.prior import Prior, load_prior
    from rela_zoo.registry import PriorSpec, list_priors, prior_spec
    from rela_zoo.selection.subset import EpochSubset
    from rela_zoo.transport import PriorTransport, TargetTransport, fit_transport

# Name → module that defines it, as above. Resolved on first use, so that `import rela_zoo` loads no heavy library.
_PUBLIC: dict[str, str] = {
    "PriorSpec": "rela_zoo.registry",
    "list_priors": "rela_zoo.registry",
    "prior_spec": "rela_zoo.registry",
    "Prior": "rela_zoo.prior",
    "load_prior": "rela_zoo.prior",
    "image_source": "rela_zoo.data",
    "build_views": "rela_zoo.data.views",
    "EmbeddingTable": "rela_zoo.embeddings",
    "embed": "rela_zoo.embeddings",
    "count_shards": "rela_zoo.embeddings",
    "embed_part": "rela_zoo.embeddings",
    "embed_shard": "rela_zoo.embeddings",
    "open_embeddings": "rela_zoo.embeddings",
    "TargetTransport": "rela_zoo.transport",
    "PriorTransport": "rela_zoo.transport",
    "fit_transport": "rela_zoo.transport",
    "EpochSubset": "rela_zoo.selection.subset",
    "Accelerator": "rela_zoo.engine",
    "RunShape": "rela_zoo.engine",
    "ViewShape": "rela_zoo.engine",
    "SubsetSampler": "rela_zoo.engine",
    "AdaptiveHandover": "rela_zoo.engine",
    "ConstantHandover": "rela_zoo.engine",
    "with_rela": "rela_zoo.hosts.contract",
    "train": "rela_zoo.hosts.builtin.train",
    "TrainResult": "rela_zoo.hosts.builtin.train",
    "evaluate": "rela_zoo.analysis.evaluate",
    "fine_tune": "rela_zoo.analysis.evaluate",
    "Evaluation": "rela_zoo.analysis.evaluate",
    "compare": "rela_zoo.analysis.compare",
    "Comparison": "rela_zoo.analysis.compare",
    "recommend": "rela_zoo.analysis.recommend",
    "Assessment": "rela_zoo.analysis.recommend",
    "publish": "rela_zoo.hub.publish",
    "pull": "rela_zoo.hub",
    "RelaZooError": "rela_zoo.errors",
}

__all__ = [
    "Accelerator",
    "AdaptiveHandover",
    "Assessment",
    "Comparison",
    "ConstantHandover",
    "EmbeddingTable",
    "EpochSubset",
    "Evaluation",
    "Prior",
    "PriorSpec",
    "PriorTransport",
    "RelaZooError",
    "RunShape",
    "SubsetSampler",
    "TargetTransport",
    "TrainResult",
    "ViewShape",
    "__version__",
    "build_views",
    "compare",
    "count_shards",
    "embed",
    "embed_part",
    "embed_shard",
    "evaluate",
    "fine_tune",
    "fit_transport",
    "image_source",
    "list_priors",
    "load_prior",
    "open_embeddings",
    "prior_spec",
    "publish",
    "pull",
    "recommend",
    "train",
    "with_rela",
]


# Hidden from type checkers, for whom a name that is not above does not exist.
if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        if name in _PUBLIC:
            return getattr(import_module(_PUBLIC[name]), name)
        raise AttributeError(f"module 'rela_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
