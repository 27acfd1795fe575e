"""BYOL: predict the momentum network's projection of another view."""

from __future__ import annotations

from typing import Any, ClassVar

from lightly.loss import NegativeCosineSimilarity
from lightly.models.modules.heads import BYOLPredictionHead, BYOLProjectionHead
from omegaconf import DictConfig
from torch import Tensor

from rela_zoo.hosts.builtin.base import Batch, Outputs
from rela_zoo.hosts.builtin.momentum import MomentumMethodWithHeads, momentum_twin


class BYOL(MomentumMethodWithHeads):
    """Bootstrap your own latent.

    `method_kwargs`: `proj_hidden_dim`, `proj_output_dim`, `pred_hidden_dim`.

    Source: arXiv 2006.07733, equation 2; loss and heads from lightly.
    """

    METHOD_KWARGS: ClassVar = {"proj_hidden_dim": 4096, "proj_output_dim": 256, "pred_hidden_dim": 4096}
    heads: ClassVar = ("projector", "predictor")
    momentum_heads: ClassVar = ("projector",)
    takes_small_crops: ClassVar = True

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__(cfg)
        kw = self.cfg.method_kwargs
        sizes = (self.features_dim, kw.proj_hidden_dim, kw.proj_output_dim)
        self.projector = BYOLProjectionHead(*sizes)
        self.momentum_projector = momentum_twin(self.projector, lambda: BYOLProjectionHead(*sizes))
        self.predictor = BYOLPredictionHead(kw.proj_output_dim, kw.pred_hidden_dim, kw.proj_output_dim)
        self.criterion = NegativeCosineSimilarity()

    def head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: projections, `p`: predictions, both (B, proj_output_dim)."""
        z = self.projector(feats)
        return {"z": z, "p": self.predictor(z)}

    def momentum_head_outputs(self, feats: Tensor) -> Outputs:
        """`z`: the momentum network's projections (B, proj_output_dim)."""
        return {"z": self.momentum_projector(feats)}

    def training_step(self, batch: Batch, batch_idx: int) -> Any:
        """2 − 2·cosine, summed over all pairs of a predicted view and another large view, and the classifier's loss."""
        out = super().training_step(batch, batch_idx)
        pairs = [(p, z) for i, z in enumerate(out["momentum_z"]) for j, p in enumerate(out["p"]) if i != j]
        loss = sum(2.0 + 2.0 * self.criterion(p, z) for p, z in pairs)
        self.log_means({"train_neg_cos_sim": loss})
        return loss + out["loss"]
