"""MoCo v3: find the momentum network's view of a sample within the batch, without a queue."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from lightly.models.modules.heads import MoCoProjectionHead
from lightly.models.utils import concat_all_gather
from lightly.utils.dist import rank, world_size
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, Outputs
from rela_zoo.hosts.builtin.momentum import MomentumMethodWithHeads, momentum_twin


def batch_contrast(queries: Tensor, keys: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of finding each query's key among the keys of all ranks, times twice the temperature.

    Args:
        queries: (B, D) float.
        keys: (B, D) float, row i belonging to query i; no gradient flows into them.
        temperature: > 0.

    Returns:
        A scalar.

    Source: MoCo v3 (arXiv 2104.02057), algorithm 1.
    """
    queries, keys = F.normalize(queries, dim=1), F.normalize(keys.detach(), dim=1)
    everyone = concat_all_gather(keys) if world_size() > 1 else keys
    labels = torch.arange(len(queries), device=queries.device) + len(queries) * rank()
    return 2.0 * temperature * F.cross_entropy(queries @ everyone.T / temperature, labels)


class MoCoV3(MomentumMethodWithHeads):
    """Momentum contrast for vision transformers and ResNets.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `pred_hidden_dim`, `temperature`.

    Source: arXiv 2104.02057; heads from lightly, two layers deep for ResNets and three for the rest.
    """

    METHOD_KWARGS: ClassVar = {
        "proj_hidden_dim": 4096,
        "proj_output_dim": 256,
        "pred_hidden_dim": 4096,
        "temperature": 0.2,
    }
    heads: ClassVar = ("projector", "predictor")
    momentum_heads: ClassVar = ("projector",)

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        self.projector = self._new_projector()
        self.momentum_projector = momentum_twin(self.projector, self._new_projector)
        self.predictor = MoCoProjectionHead(
            kw.proj_output_dim, kw.pred_hidden_dim, kw.proj_output_dim, num_layers=2, batch_norm=True
        )

    def _new_projector(self) -> MoCoProjectionHead:
        kw, layers = self.cfg.method_kwargs, 2 if "resnet" in self.backbone_name else 3
        return MoCoProjectionHead(
            self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim, num_layers=layers, batch_norm=True
        )

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections, `q`: queries, both (B, proj_output_dim)."""
        z = self.projector(feats)
        return {"z": z, "q": self.predictor(z)}

    def momentum_head_outputs(self, feats: Tensor) -> Outputs:
        """`k`: keys (B, proj_output_dim)."""
        return {"k": self.momentum_projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """The sum of the two directions' contrastive losses, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        (q1, q2), (k1, k2) = out["q"], out["momentum_k"]
        temperature = self.cfg.method_kwargs.temperature
        loss = batch_contrast(q1, k2, temperature) + batch_contrast(q2, k1, temperature)
        self.log_means({"train_contrastive_loss": loss})
        return loss + out["loss"]
